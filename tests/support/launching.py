"""Launch `train` with another function in its place."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

import danet_lightning.train.run
from danet_lightning.config.commands import TrainConfig
from danet_lightning.config.launch import launch


def launch_train(task: Callable[[DictConfig, Path], Any]) -> None:
    """Run the command line in `sys.argv` up to the task, which is called instead of training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(danet_lightning.train.run, "train", task)
        launch("train", TrainConfig)
