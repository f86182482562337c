"""Loaders over the splits of a data set: what is read, in which order, by how many."""

import hashlib
import logging
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from lightning import LightningDataModule
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor
from torch.utils.data import DataLoader

from danet_lightning.data.base import IGNORE, DataSet, Sample, Source
from danet_lightning.data.files.black_and_white import look_for_black_and_white
from danet_lightning.data.files.cache import cached
from danet_lightning.data.files.digest import digests
from danet_lightning.data.files.leakage import refuse_shared
from danet_lightning.data.samples.cores import cores
from danet_lightning.data.samples.dataset import SegmentationDataset
from danet_lightning.data.samples.loader import (
    SegmentationLoader,
    TrainingLoader,
    start_worker,
)
from danet_lightning.data.samples.sampler import EpochSampler, EvaluationSampler
from danet_lightning.data.samples.transforms import Augmentation
from danet_lightning.disk.names import expanded
from danet_lightning.errors import PLACED, RequestError, checked

log = logging.getLogger(__name__)


class SegmentationDataModule(LightningDataModule):
    """Loaders over a data set's splits.

    Args:
        dataset: The images.
        augmentation: What becomes of them in training; None: they are evaluated only.
        batch_size: Images in one training step, over all processes together.
        seed: Seed of the order and the augmentation.
        workers: Processes that read, for each training process; no more than there are cores.
        cache: "memmap" decodes each file once into files of 4 bytes for each pixel, and reads
            from there what a sample needs; "none" decodes them for every sample.
        cache_dir: Where the cache lies. None: in .danet_cache in the data set's `root` or, where
            that cannot be written or there is none, in ~/.cache/danet_lightning.
        validation_split: The split that `val_dataloader` reads.
    """

    @checked
    def __init__(
        self,
        dataset: DataSet,
        augmentation: Augmentation | None = None,
        batch_size: PositiveInt = 8,
        seed: NonNegativeInt = 0,
        workers: Annotated[NonNegativeInt, PLACED] = 0,
        cache: Annotated[Literal["none", "memmap"], PLACED] = "none",
        cache_dir: Annotated[Annotated[str, Field(min_length=1)] | None, PLACED] = None,
        validation_split: str = "val",
    ) -> None:
        super().__init__()
        if len(set(dataset.classes)) < len(dataset.classes):
            raise RequestError(
                f"dataset.classes: {list(dataset.classes)}: every class needs a name of its own."
            )
        self.dataset = dataset
        self.augmentation = augmentation
        self.batch_size = batch_size
        self.seed = seed
        self.workers = workers
        self.cache = cache
        self.cache_dir = cache_dir
        self.validation_split = validation_split
        self._sources: dict[str, Source] = {}
        self._digests: dict[str, Tensor] = {}

    def prepare_data(self) -> None:
        """Build the caches in one process of each machine, while its others wait."""
        if self.cache == "memmap" and self.trainer is not None and self.trainer.state.fn:
            self.setup(self.trainer.state.fn.value)

    def require(self) -> None:
        """Look for the data, before weights are fetched and other processes started for it.

        Raises:
            RequestError: Files of a split that training reads are missing or wrong.
        """
        for split in ("train", self.validation_split):
            self.dataset.require_split(split)
            if problems := self.dataset.pairs(split).problems:
                raise problems[0]

    def digests(self, split: str) -> Tensor:
        """Return two numbers for each image and label of a split, (N, 2) int64, which change with
        its files; see `digest`.

        Raises:
            RequestError: One of the files cannot be read.
        """
        if split not in self._digests:
            try:
                self._digests[split] = digests(
                    self._sources.get(split) or self.dataset.pairs(split).source
                )
            except OSError as error:
                raise RequestError(f"{error.filename} cannot be read: {error.strerror}.") from error
        return self._digests[split]

    def fingerprints(self) -> dict[str, str]:
        """Return a short text for each split digested so far: equal texts mean equal data."""
        return {
            split: hashlib.blake2b(digest.numpy().tobytes(), digest_size=8).hexdigest()
            for split, digest in self._digests.items()
        }

    def setup(self, stage: str) -> None:
        """Find the splits that the stage reads, so that missing data ends the run at once."""
        if stage == "fit":
            self.source("train")
        self.source(self.validation_split)

    def train_dataloader(self) -> DataLoader[Sample]:
        """Return this process's share of the augmented training batches."""
        if self.augmentation is None:
            raise RequestError(
                "data.augmentation=null: training needs one, for the size of its samples. Leave "
                "it out, and choose the size by augmentation.crop_size."
            )
        source = self.source("train")
        sampler = EpochSampler(len(source), self.batch_size, *self._rank_and_world(), self.seed)
        dataset = SegmentationDataset(source, self.augmentation.transform(), self.seed)
        parts = 1 if self.trainer is None else self.trainer.accumulate_grad_batches
        if sampler.batch_size_per_process % parts:
            raise RequestError(
                f"trainer.accumulate_grad_batches={parts}: the {sampler.batch_size_per_process} "
                f"images of a step on each process (batch_size={self.batch_size}) cannot be "
                f"divided into {parts} parts. Choose a divisor."
            )
        share = sampler.batch_size_per_process // parts
        return TrainingLoader(dataset, share, sampler=sampler, **self._loader_options())

    def val_dataloader(self) -> DataLoader[Sample]:
        """Return the images of `validation_split`."""
        return self.evaluation_dataloader(self.validation_split)

    def evaluation_dataloader(self, split: str) -> DataLoader[Sample]:
        """Return this process's share of a split, image by image at the labels' own size."""
        source = self.source(split)
        sampler = EvaluationSampler(len(source), *self._rank_and_world())
        # One at a time: sizes differ, and an image's result must not depend on its neighbors.
        dataset = SegmentationDataset(source)
        return SegmentationLoader(dataset, 1, sampler=sampler, **self._loader_options())

    def source(self, split: str) -> Source:
        """Find the images and labels of a split, which are then kept, through the cache if any.

        Raises:
            RequestError: Some are missing or wrong, none is labelled, or the split is unknown.
        """
        if split not in self._sources:
            self._sources[split] = self._new_source(split)
        return self._sources[split]

    def _new_source(self, split: str) -> Source:
        name = type(self.dataset).__name__
        self.dataset.require_split(split)
        pairs = self.dataset.pairs(split)
        source, problems, published = pairs
        if pairs.errors:
            raise pairs.errors[0]
        for problem in problems:
            log.warning("%s: %s: %s", name, split, problem)
        if len(source) == 0:
            raise RequestError(
                f"{name}: the split '{split}' holds no images. Put images into it or choose "
                "another one."
            )
        if published not in (None, len(source)):
            log.warning(
                "%s: %s holds %d images here, %d as published; a number measured on it compares "
                "with no other. Complete the data set, unless you chose a part of it.",
                *(name, split, len(source), published),
            )
        look_for_black_and_white(source, split)
        if split == "train" and self.dataset.is_own:
            refuse_shared(source, self.dataset.pairs("val").source)
        self._require_labels(split, source)
        if split == "train" and self.augmentation is not None:
            _look_at_sides(source, self.augmentation.crop_size)
        if self.cache == "memmap":
            source = cached(source, name, *self._cache_options())
        return source

    def _require_labels(self, split: str, source: Source) -> None:
        """Read labels until there is one that counts: as a rule, those of the first image."""
        if not any((source.read(index)[1] != IGNORE).any() for index in range(len(source))):
            raise RequestError(
                f"split={split}: no pixel of its {len(source)} images is labelled, all are "
                "ignored, so there is nothing to learn or to count. Choose another split; if a "
                "benchmark's server keeps these labels, danet predict dataset=... "
                f"split={split} with format=cityscapes or format=voc writes what it takes."
            )

    def _cache_options(self) -> tuple[list[Path], int, Path | None]:
        """Return the folders a cache may lie in, the processes that build one, and the data's
        folder.
        """
        root = self.dataset.root
        places = [expanded(root) / ".danet_cache"] if root else []
        with suppress(RuntimeError):  # a user of no name, as in some containers, has no home
            places.append(Path.home() / ".cache" / "danet_lightning")
        if self.cache_dir is not None:
            places = [expanded(self.cache_dir)]
        # One process of a machine builds for all of them.
        return places, cores() if self.workers else 0, expanded(root) if root else None

    def _loader_options(self) -> dict[str, Any]:
        processes = 1 if self.trainer is None else self.trainer.num_devices
        workers = min(self.workers, max(1, cores() // processes))
        on_cuda = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        return {
            "num_workers": workers,
            "persistent_workers": workers > 0,
            "pin_memory": on_cuda,
            "worker_init_fn": start_worker,
        }

    def _rank_and_world(self) -> tuple[int, int]:
        trainer = self.trainer
        return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)


def _look_at_sides(source: Source, crop: tuple[int, int]) -> None:
    """Warn when the crop is upright and the images lie, or the other way round."""
    height, width = crop
    sizes = [source.read(index)[0].shape[:2] for index in range(min(len(source), 4))]
    if height != width and all((h - w) * (height - width) < 0 for h, w in sizes):
        log.warning(
            "augmentation.crop_size: (height, width) is (%d, %d), and the images are %d x %d; "
            "augmentation.crop_size=[%d,%d] lies as they do.",
            *(height, width, *sizes[0], width, height),
        )
