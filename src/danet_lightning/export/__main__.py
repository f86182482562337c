"""Ship a checkpoint as an ONNX file or as a folder for the Hugging Face hub."""

from danet_lightning.config.commands import ExportConfig
from danet_lightning.config.launch import launch

if __name__ == "__main__":
    launch("export", ExportConfig)
