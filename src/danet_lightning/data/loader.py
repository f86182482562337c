"""A DataLoader that goes on in the middle of an epoch, and keeps what its workers say."""

import os
import sys
from collections.abc import Iterator
from multiprocessing.queues import Queue
from typing import Any

import cv2
from torch.utils.data import DataLoader

from danet_lightning.data.sampler import EpochSampler
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


class TrainingLoader(SegmentationLoader):
    """A loader that a resumed run continues at the batch where the checkpoint was written.

    Args:
        dataset: addressed by (epoch, index).
        sampler: the order of its samples.
        batch_size: samples in a batch of this process; a divisor of its share of a step.
        options: as of `torch.utils.data.DataLoader`.
    """

    def __init__(
        self, dataset: Any, sampler: EpochSampler, batch_size: int, **options: Any
    ) -> None:
        super().__init__(dataset, sampler=sampler, batch_size=batch_size, **options)
        self._consumed = 0  # batches of the epoch that the training has been given

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        self._consumed = self._epoch_sampler.first_step * self._batches_a_step
        for batch in super().__iter__():
            self._consumed += 1
            yield batch

    @property
    def _epoch_sampler(self) -> EpochSampler:
        sampler = self.sampler
        assert isinstance(sampler, EpochSampler)  # as given; for the type checker
        return sampler

    @property
    def _batches_a_step(self) -> int:  # more than one where gradients are accumulated
        assert self.batch_size is not None
        return self._epoch_sampler.batch_size_per_process // self.batch_size

    def state_dict(self) -> dict[str, int]:
        """How far the epoch is, and of how many images; an epoch at its end is one not begun."""
        return {"batches": self._consumed % len(self), "images": len(self.dataset)}  # type: ignore[arg-type]

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next epoch start behind the batches that were consumed.

        Raises:
            RequestError: the data set has another number of images than then.
        """
        images = len(self.dataset)  # type: ignore[arg-type]
        if state["images"] != images:
            raise RequestError(
                f"dataset: the checkpoint was trained on {state['images']} images, and there are "
                f"{images} now. Complete the data set, or start anew from the weights with "
                "init_from=..."
            )
        self._epoch_sampler.first_step = state["batches"] // self._batches_a_step


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


def cores() -> int:
    """Return how many cores this process may use; the machine can have more."""
    if hasattr(os, "sched_getaffinity"):  # macOS and Windows cannot tell
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
