"""A DataLoader that keeps what its workers say of a wrong request."""

import os
from collections.abc import Iterator
from typing import Any

import cv2
from torch.utils.data import DataLoader

from danet_lightning.errors import RequestError


class SegmentationLoader(DataLoader[Any]):
    """A DataLoader whose workers' request errors arrive with their own text alone."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # A generator: workers start at the first batch, after Lightning has set the epoch.
        try:
            yield from super().__iter__()
        except RequestError as error:
            # PyTorch hands on a worker's exception as one text, its traceback first.
            mark = f"{RequestError.__module__}.{RequestError.__qualname__}: "
            text = str(error).rpartition(mark)[2].strip()
            # The traceback is part of a reference cycle through which the workers would be
            # collected in an order that makes their end wait for a timeout of 5 s each.
            raise RequestError(text) from error.with_traceback(None)


def start_worker(worker: int) -> None:
    """Keep OpenCV to one thread: the workers are the parallelism, and would fight for cores."""
    cv2.setNumThreads(0)


def cores() -> int:
    """Return how many cores this process may use; the machine can have more."""
    if hasattr(os, "sched_getaffinity"):  # macOS and Windows cannot tell
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
