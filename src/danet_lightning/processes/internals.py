"""The private names of dependencies that we lean on, and the versions they were read in.

pyproject.toml caps these packages below their next release, and a test fails when a name is gone.
Lightning's loops, of which `train/lightning_state.py` makes exact ones, are the one other place:
importing them takes seconds, and nothing here imports more than is asked for.
"""

import argparse
import subprocess
import threading
from collections.abc import Callable
from typing import Any

from hydra.core import utils
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.types import HydraContext
from omegaconf import DictConfig

READ_IN = {"hydra-core": "1.3.2", "lightning": "2.6.5", "wandb": "0.31.0"}
WANDB_FLUSH_SETTING = "x_transaction_log_flush_interval"
# Hydra copies its store with each composition, and with each group of --help, where it takes most
# of the time; the store is one for all, so its copy is itself
ConfigStore.__deepcopy__ = lambda store, memo: store  # type: ignore[attr-defined]


def command_line_parser() -> argparse.ArgumentParser:
    """Return what `hydra.main` itself reads a command line with."""
    from hydra._internal.utils import get_args_parser

    parser: argparse.ArgumentParser = get_args_parser()
    return parser


def run_job(config: DictConfig, task: Callable[[DictConfig], Any]) -> Any:
    """Call a task with a config that is composed, Hydra's part included, as `hydra.main` would.

    Hydra makes `hydra.run.dir`, records the config there, and sets up the log.
    """
    from hydra._internal.callbacks import Callbacks

    callbacks = Callbacks(config)
    callbacks.on_run_start(config=config, config_name=None)
    context = HydraContext(GlobalHydra.instance().config_loader(), callbacks)
    result = utils.run_job(task, config, "hydra.run.dir", None, context)
    callbacks.on_run_end(config=config, config_name=None, job_return=result)
    return result.return_value  # or its exception


def copies_this_process(launcher: Any) -> bool:
    """Tell whether one of Lightning's launchers copies its process instead of starting anew."""
    from lightning.pytorch.strategies.launchers.multiprocessing import _MultiProcessingLauncher

    return isinstance(launcher, _MultiProcessingLauncher)


def processes_of_lightning() -> list["subprocess.Popen[bytes]"]:
    """Take over the processes that Lightning has started, from the threads that watch them."""
    started: list[subprocess.Popen[bytes]] = []
    for thread in threading.enumerate():
        watched = getattr(thread, "_child_processes", [])
        started += watched
        watched.clear()
    return started
