"""Evaluate a checkpoint on a split of a data set."""

from danet_lightning.config.commands import EvaluateConfig
from danet_lightning.config.launch import launch

if __name__ == "__main__":
    launch("evaluate", EvaluateConfig)
