"""The private names of dependencies that we lean on, and the versions they were read in.

pyproject.toml caps these packages below their next release, and a test fails when a name is gone.
Lightning's loops, of which `train/lightning_state.py` makes exact ones, are the one other place:
importing them takes seconds, and nothing here imports more than is asked for.
"""

import argparse
import subprocess
import threading
from typing import Any

READ_IN = {"hydra-core": "1.3.2", "lightning": "2.6.5", "wandb": "0.31.0"}
WANDB_FLUSH_SETTING = "x_transaction_log_flush_interval"


def command_line_parser() -> argparse.ArgumentParser:
    """Return what `hydra.main` itself reads a command line with."""
    from hydra._internal.utils import get_args_parser

    parser: argparse.ArgumentParser = get_args_parser()
    return parser


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
