"""A DataLoader that goes on in the middle of an epoch, and keeps what its workers say."""

import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import cv2
from torch.utils.data import DataLoader

from danet_lightning.data.samples.sampler import EpochSampler
from danet_lightning.errors import RequestError
from danet_lightning.processes.internals import replace_feeder_error


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

    Its sampler is an EpochSampler, and its batch size divides this process's share of a step.

    Attributes:
        waited: Seconds that batches were waited for, so far.
    """

    sampler: EpochSampler
    batch_size: int
    waited = 0.0

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
        """Let the next epoch skip its first `batches`, a whole number of steps."""
        batches_a_step = self.sampler.batch_size_per_process // self.batch_size
        self.sampler.first_step = batches // batches_a_step


def start_worker(worker: int) -> None:
    """Keep OpenCV to one thread: the workers are the parallelism, and would fight for cores.

    A worker that cannot hand on a batch ends, as the training would wait for it for ever.
    """
    cv2.setNumThreads(0)
    replace_feeder_error(_end_worker)


def _end_worker(error: Exception, batch: Any) -> None:
    sys.stderr.write(f"A worker cannot hand on a batch: {type(error).__name__}: {error}\n")
    sys.stderr.flush()
    os._exit(1)  # this is one of its threads
