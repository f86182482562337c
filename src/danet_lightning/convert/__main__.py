"""Turn the authors' or MMSegmentation's DANet weights into a checkpoint of ours."""

from danet_lightning.config.commands import ConvertConfig
from danet_lightning.config.launch import launch

if __name__ == "__main__":
    launch("convert", ConvertConfig)
