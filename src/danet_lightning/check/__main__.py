"""Read every file of a data set and report what is in it and what is wrong with it."""

from danet_lightning.config.commands import CheckConfig
from danet_lightning.config.launch import launch

if __name__ == "__main__":
    launch("check", CheckConfig)
