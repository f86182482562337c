"""The speed of training's loaders, and what their workers' memory does meanwhile."""

import multiprocessing
import os
import statistics
import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from danet_lightning.data.base import DataSet, Pairs, Pixels, Source
from danet_lightning.data.datamodule import SegmentationDataModule
from danet_lightning.data.samples.transforms import Augmentation

BATCH_SIZE = 8  # the paper's
EPOCHS = 3  # timed ones of each loader, in turn with the other loaders'


def measure_loaders(
    sources: dict[str, Source], crop_size: tuple[int, int], config: DictConfig
) -> list[dict[str, Any]]:
    """Samples a second of training's loader, with each number of workers and both sources."""
    cases = [
        Case(cache, _data(Repeated(source, config.samples), crop_size, workers, config.seed))
        for cache, source in sources.items()
        for workers in config.workers
    ]
    for epoch in range(1, 1 + EPOCHS):
        for case in cases:
            case.run(epoch)
    print(f"\n{'loader':<25}{'samples/s':>10}{'MB of a process, before -> after':>35}")
    for case in cases:
        told = case.describe()
        memory = f"{told['megabytes_before']} -> {told['megabytes_after']}"
        name = f"cache={told['cache']} workers={told['workers']}"
        print(f"{name:<25}{told['samples_per_second']:10.1f}{memory:>35}")
    return [case.describe() for case in cases]


class Case:
    """One loader, whose workers have started and read an epoch before anything is measured.

    Args:
        cache: What its source is called.
        data: Whose training loader it is.
    """

    def __init__(self, cache: str, data: SegmentationDataModule) -> None:
        self.cache = cache
        self.loader = data.train_dataloader()
        self.speeds: list[float] = []
        others = set(multiprocessing.active_children())
        self.run(epoch=0)
        own = {child.pid for child in multiprocessing.active_children() if child not in others}
        self.processes = sorted(pid for pid in own if pid) or [os.getpid()]
        self.speeds.clear()
        self.before = self._megabytes()

    def run(self, epoch: int) -> None:
        """Read an epoch and note its speed."""
        self.loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        start = time.perf_counter()
        count = sum(len(batch["id"]) for batch in self.loader)
        self.speeds.append(count / (time.perf_counter() - start))

    def describe(self) -> dict[str, Any]:
        """What was measured; the memory is that of the largest worker."""
        return {
            "cache": self.cache,
            "workers": self.loader.num_workers,
            "samples_per_second": statistics.median(self.speeds),
            "each_epoch": self.speeds,
            "megabytes_before": self.before,
            "megabytes_after": self._megabytes(),
        }

    def _megabytes(self) -> int | None:
        return max(map(resident_megabytes, self.processes), key=lambda size: size or 0)


class Streets(DataSet):
    """Photos that are already there, whatever the split."""

    classes = tuple(str(label) for label in range(19))
    palette = ((0, 0, 0),) * 19
    label_source = "made up"

    def __init__(self, source: Source) -> None:
        self.source = source

    def pairs(self, split: str) -> Pairs:
        """Return the photos."""
        return Pairs(self.source)


def _data(
    source: Source, crop_size: tuple[int, int], workers: int, seed: int
) -> SegmentationDataModule:
    augmentation = Augmentation(crop_size)
    return SegmentationDataModule(Streets(source), augmentation, BATCH_SIZE, seed, workers)


class Repeated(Source):
    """A source read again and again, so that an epoch is long and the files are few."""

    def __init__(self, source: Source, count: int) -> None:
        self.source = source
        self.count = count

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        """Return the id of a photo."""
        return f"{self.source.name(index % len(self.source))}_{index}"

    def read(self, index: int) -> tuple[Pixels, Pixels]:
        """Return the RGB photo (H, W, 3) and its train ids (H, W)."""
        return self.source.read(index % len(self.source))


def resident_megabytes(process: int) -> int | None:
    """Resident memory of a process; None where the system does not tell."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return None
    (size,) = (line.split()[1] for line in lines if line.startswith("VmRSS:"))
    return round(int(size) / 1024)
