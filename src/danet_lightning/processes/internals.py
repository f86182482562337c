"""The private names of dependencies that we lean on, and the versions they were read in.

pyproject.toml caps these packages below their next release, and a test fails when a name is gone.
Lightning's loops, of which `train/lightning_state.py` makes exact ones, are the one other place.
What takes time to import is imported where it is used: models and data need none of it.
"""

import argparse
import json
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing.queues import Queue
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omegaconf import DictConfig

READ_IN = {"hydra-core": "1.3.2", "lightning": "2.6.5", "wandb": "0.31.0"}
READ_IN_PYTHON = ("3.11", "3.12", "3.13")
# PyTorch's were read in 2.15, which is not capped: without them, an error is told in other words
WANDB_FLUSH_SETTING = "x_transaction_log_flush_interval"
WANDB_SUMMARY = ("leet", "inspect", "--summary", "--json")
SCHEDULE_RATES, SCHEDULE_STEPS = "_last_lr", "_step_count"  # in the state of a schedule
COMPILERS = ("torch._dynamo", "torch._inductor")  # the modules of torch.compile's errors
# pickle's own code in Python, whose instructions can be replaced; `pickle.Unpickler` is in C
PythonUnpickler = pickle._Unpickler


def share_store() -> None:
    """Let Hydra use its store of configurations where it would copy it.

    It does with each composition, and with each group of --help, where that takes most of the time.
    """
    from hydra.core.config_store import ConfigStore

    ConfigStore.__deepcopy__ = lambda store, memo: store  # type: ignore[attr-defined]


def command_line_parser() -> argparse.ArgumentParser:
    """Return what `hydra.main` itself reads a command line with."""
    from hydra._internal.utils import get_args_parser

    parser: argparse.ArgumentParser = get_args_parser()
    return parser


def run_job(config: "DictConfig", task: Callable[["DictConfig"], Any]) -> Any:
    """Call a task with a config that is composed, Hydra's part included, as `hydra.main` would.

    Hydra makes `hydra.run.dir`, records the config there, and sets up the log.
    """
    from hydra._internal.callbacks import Callbacks
    from hydra.core import utils
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import HydraContext

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


def is_restoring(error: BaseException) -> bool:
    """Tell whether Lightning was restoring a training from a checkpoint when an error occurred."""
    from lightning.pytorch.trainer.connectors.checkpoint_connector import _CheckpointConnector

    steps = {
        function.__code__
        for name, function in vars(_CheckpointConnector).items()
        if name.lstrip("_").startswith(("restore", "resume"))
    }
    return any(frame.f_code in steps for frame, _ in walk_tb(error.__traceback__))


def is_of_compiler(error: BaseException) -> bool:
    """Tell whether an error is one of `torch.compile`."""
    return type(error).__module__.startswith(COMPILERS)


def replace_feeder_error(end: Callable[[Exception, Any], None]) -> None:
    """Call a function where a queue of this process cannot pickle what is put into it.

    Raises:
        AttributeError: This Python's queues have another name for it.
    """
    name = "_on_queue_feeder_error"
    getattr(Queue, name)
    setattr(Queue, name, staticmethod(end))


def summary_of_wandb(folder: Path) -> dict[str, Any]:
    """Return the last values in the transaction log of a W&B folder; none where it has no rows."""
    tool = [sys.executable, "-m", "wandb", *WANDB_SUMMARY, str(folder)]
    result = subprocess.run(tool, capture_output=True, text=True, timeout=120)
    try:
        summary: dict[str, Any] = json.loads(result.stdout)["summary"]
    except (ValueError, KeyError):  # killed before anything was logged
        return {}
    return summary
