"""Launch `train` with another function in its place, or a command up to its folder."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

import danet_lightning.train.run
from danet_lightning.config.commands import CommandConfig, TrainConfig
from danet_lightning.config.launch import launch
from danet_lightning.config.request import checked_request
from danet_lightning.config.run_folder import Folder


def launch_train(task: Callable[[DictConfig, Path], Any]) -> None:
    """Run the command line in `sys.argv` up to the task, which is called instead of training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(danet_lightning.train.run, "train", task)
        launch("train", TrainConfig)


def check_command_line(
    name: str, form: type[CommandConfig], arguments: Sequence[str]
) -> Folder | None:
    """Check all that a command line asks for, up to where its folder would be made."""
    with checked_request(name, form, arguments) as request:
        return request.folder
