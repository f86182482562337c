"""Look into a checkpoint: what each pixel and each channel of an image attends to."""

from danet_lightning.config.commands import AttentionConfig
from danet_lightning.config.launch import launch

if __name__ == "__main__":
    launch("attention", AttentionConfig)
