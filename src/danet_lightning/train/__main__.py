"""Train a network, then evaluate its best checkpoint."""

from danet_lightning.config.commands import TrainConfig
from danet_lightning.config.launch import launch

if __name__ == "__main__":
    launch("train", TrainConfig)
