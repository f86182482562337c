"""A DataLoader that goes on in the middle of an epoch, and keeps what its workers say."""

import os
import sys
import time
from collections.abc import Iterator
from multiprocessing.queues import Queue
from typing import Any

import cv2
from torch.utils.data import DataLoader

from danet_lightning.data.samples.sampler import EpochSampler
from danet_lightning.errors import RequestError


class SegmentationLoader(DataLoader[Any]):
    """A DataLoader whose workers' request errors arrive with their own text alone."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # A generator: workers start at the first batch, after Lightning has set the epoch.
        try:
            yield from super().__iter__()
        except RequestError as error:
            # PyTorch hands on a worker's exception as one text, its traceback first.
            mark = f"{type(error).__module__}.{type(error).__qualname__}: "
            text = str(error).rpartition(mark)[2].strip()
            # The traceback is part of a reference cycle through which the workers would be
            # collected in an order that makes their end wait for a timeout of 5 s each.
            raise RequestError(text) from error.with_traceback(None)


class TrainingLoader(SegmentationLoader):
    """A loader whose epoch can begin behind the batches that a training has had already.

    Args:
        dataset: addressed by (epoch, index).
        sampler: the order of its samples.
        batch_size: samples in a batch of this process; a divisor of its share of a step.
        options: as of `torch.utils.data.DataLoader`.

    Attributes:
        waited: seconds that batches were waited for, so far.
    """

    def __init__(
        self, dataset: Any, sampler: EpochSampler, batch_size: int, **options: Any
    ) -> None:
        super().__init__(dataset, sampler=sampler, batch_size=batch_size, **options)
        self.waited = 0.0
        self._steps_sampler = sampler
        self._batches_a_step = sampler.batch_size_per_process // batch_size

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        batches, end = super().__iter__(), object()
        while True:
            begin = time.perf_counter()
            batch = next(batches, end)
            self.waited += time.perf_counter() - begin
            if batch is end:
                return
            yield batch

    def start_at(self, batches: int) -> None:
        """Let the next epoch begin behind so many batches, a whole number of steps."""
        self._steps_sampler.first_step = batches // self._batches_a_step


def start_worker(worker: int) -> None:
    """Keep OpenCV to one thread: the workers are the parallelism, and would fight for cores.

    A worker that cannot hand on a batch ends, as the training would wait for it for ever.
    """
    cv2.setNumThreads(0)
    Queue._on_queue_feeder_error = staticmethod(_end_worker)  # type: ignore[attr-defined]


def _end_worker(error: Exception, batch: Any) -> None:
    sys.stderr.write(f"A worker cannot hand on a batch: {type(error).__name__}: {error}\n")
    sys.stderr.flush()
    os._exit(1)  # this is one of its threads
