"""Show how far long work has got: a bar on a terminal, a line now and then in a log file."""

import sys
from typing import Any

from tqdm import tqdm

IN_A_LOG = 15.0  # seconds between two lines


def bar(*items: Any, **options: Any) -> "tqdm[Any]":
    """Return a tqdm bar on standard error, drawn as often as whoever reads it can use.

    Args:
        items: What it goes over, at most one iterable; without it, the bar is updated by hand.
        options: As of `tqdm`.
    """
    interactive = sys.stderr.isatty()
    interval = 0.2 if interactive else IN_A_LOG
    return tqdm(*items, dynamic_ncols=interactive, mininterval=interval, **options)
