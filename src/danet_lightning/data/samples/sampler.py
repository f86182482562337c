"""Which image each process reads and when: a function of the seed, never of the process count."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from danet_lightning.errors import RequestError


class EpochSampler(Sampler[tuple[int, int]]):
    """One process's share of the training images, shuffled anew in each epoch.

    The permutation is a function of (seed, epoch). It is cut into global batches, and each process
    takes its slice of every one of them: the images of a step are the same for any number of
    processes. What does not fill a global batch at the end waits for another epoch.

    Args:
        length: Number of images.
        batch_size: Images in one step over all processes.
        rank: Number of this process.
        world: Number of processes.
        seed: Seed of the order.

    Raises:
        RequestError: The batch cannot be divided over the processes or is larger than the data.
    """

    def __init__(
        self, length: int, batch_size: int, rank: int = 0, world: int = 1, seed: int = 0
    ) -> None:
        if batch_size % world:
            raise RequestError(
                f"batch_size={batch_size} is the global batch and cannot be divided over {world} "
                f"processes. Choose a multiple of {world} or another trainer.devices."
            )
        if length < batch_size:
            raise RequestError(
                f"batch_size={batch_size} is more than the {length} training images. "
                f"Choose at most batch_size={length}."
            )
        self.length = length
        self.batch_size = batch_size
        self.batch_size_per_process = batch_size // world
        self.rank = rank
        self.seed = seed
        self.epoch = 0
        self.first_step = 0  # where the next iteration starts; the others start at 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration; Lightning calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length // self.batch_size * self.batch_size_per_process

    def __iter__(self) -> Iterator[tuple[int, int]]:
        state = np.random.SeedSequence(self.seed, spawn_key=(self.epoch,))
        order = np.random.default_rng(state).permutation(self.length).tolist()
        share = self.batch_size_per_process
        first, self.first_step = self.first_step, 0
        for batch in range(first, self.length // self.batch_size):
            start = batch * self.batch_size + self.rank * share
            for index in order[start : start + share]:
                yield self.epoch, index


UNCOUNTED = -1  # the address of a sample without labels


class EvaluationSampler(Sampler[int]):
    """One process's share of the images to evaluate: each image once over all, none repeated.

    Shares differ by one image where they must. With fewer images than processes, some have a
    sample without labels instead: Lightning leaves a process without any out of the evaluation,
    and the others would wait for it when the counts are summed.

    Args:
        length: Number of images.
        rank: Number of this process.
        world: Number of processes.
    """

    def __init__(self, length: int, rank: int = 0, world: int = 1) -> None:
        self.share: Sequence[int] = range(rank, length, world) or [UNCOUNTED]

    def __len__(self) -> int:
        return len(self.share)

    def __iter__(self) -> Iterator[int]:
        return iter(self.share)
