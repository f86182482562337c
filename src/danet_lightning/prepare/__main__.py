"""Download, verify and unpack a data set."""

from danet_lightning.config.commands import PrepareConfig
from danet_lightning.config.launch import launch

if __name__ == "__main__":
    launch("prepare", PrepareConfig)
