"""The base of every data set: augmentation, samplers and loaders. A leaf says where images are."""

from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from lightning import LightningDataModule
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor
from torch.utils.data import DataLoader

from danet_lightning.data.base import IGNORE, Archive, Sample, Source
from danet_lightning.data.files.cache import cached
from danet_lightning.data.files.digest import digests
from danet_lightning.data.samples.dataset import SegmentationDataset
from danet_lightning.data.samples.loader import (
    SegmentationLoader,
    TrainingLoader,
    cores,
    start_worker,
)
from danet_lightning.data.samples.sampler import EpochSampler, EvaluationSampler
from danet_lightning.data.samples.transforms import training_transform
from danet_lightning.disk.names import expanded
from danet_lightning.errors import RequestError

Scale = Annotated[float, Field(gt=0, le=100)]  # beyond it, a slip of the keyboard


class SegmentationDataModule(LightningDataModule, ABC):
    """Loaders over a data set's splits; a leaf has `classes`, `palette`, `label_source`, `source`.

    Args:
        crop_size: Height and width of a training sample in pixels.
        scale_range: Least and greatest random scale in training.
        flip: Probability of mirroring a training sample.
        color_jitter: Strength of random brightness, contrast, saturation and hue; 0: none.
        blur: Probability of a slight blur.
        base_size: Short side in pixels at scale 1, for images of different sizes: the authors'
            `base_size`. None: each image's own.
        max_category_share: A crop of which one class has this share or more is placed again, up
            to 10 times: MMSegmentation's `cat_max_ratio`. 1: never.
        photometric: Whether to change colors as MMSegmentation's `PhotoMetricDistortion` does;
            `color_jitter` can be used as well.
        workers: Processes that read, for each training process; no more than there are cores.
        seed: Seed of the order and the augmentation.
        batch_size: Images in one training step, over all processes together.
        cache: "memmap" decodes the files of a split once into one file, 4 bytes for each pixel,
            and reads from there what a sample needs; "none" decodes them for every sample.
        cache_dir: Where the cache lies. None: in .danet_cache in the data set's `root` or, where
            that cannot be written or there is none, in ~/.cache/danet_lightning.

    Attributes:
        classes: Class names; a train id is the position in it.
        palette: One RGB color (0..255) for each class.
        label_source: Where the labels come from; recorded with every number.
        mean: Mean of ImageNet's R, G and B in 0..255, by which images are normalised.
        std: Their standard deviation, in 0..255.
        splits: Names of the splits there may be.
        raw_ids: The label file's id of each class, where a benchmark's server wants it.
        archives: The files of its release, for `prepare`.
        validation_split: The one that `val_dataloader` reads.

    Raises:
        RequestError: `scale_range` is reversed.
    """

    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    label_source: str
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)  # 255 * (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)  # 255 * (0.229, 0.224, 0.225)
    splits: tuple[str, ...] = ("train", "val", "test")
    raw_ids: tuple[int, ...] | None = None
    archives: tuple[Archive, ...] = ()

    def __init__(
        self,
        crop_size: tuple[PositiveInt, PositiveInt],
        scale_range: tuple[Scale, Scale] = (0.5, 2.0),
        flip: Annotated[float, Field(ge=0, le=1)] = 0.5,
        color_jitter: Annotated[float, Field(ge=0, le=1)] = 0.0,
        blur: Annotated[float, Field(ge=0, le=1)] = 0.0,
        base_size: PositiveInt | None = None,
        max_category_share: Annotated[float, Field(gt=0, le=1)] = 1.0,
        photometric: bool = False,
        workers: NonNegativeInt = 0,
        seed: NonNegativeInt = 0,
        batch_size: PositiveInt = 8,
        cache: Literal["none", "memmap"] = "none",
        cache_dir: Annotated[str, Field(min_length=1)] | None = None,
    ) -> None:
        super().__init__()
        if scale_range[0] > scale_range[1]:
            raise RequestError(
                f"scale_range={list(scale_range)}: the least scale comes first; swap the two."
            )
        self.crop_size = (crop_size[0], crop_size[1])
        self.scale_range = (scale_range[0], scale_range[1])
        self.flip = flip
        self.color_jitter = color_jitter
        self.blur = blur
        self.base_size = base_size
        self.max_category_share = max_category_share
        self.photometric = photometric
        self.workers = workers
        self.seed = seed
        self.batch_size = batch_size
        self.cache = cache
        self.cache_dir = cache_dir
        self.validation_split = "val"
        self._sources: dict[str, Source] = {}
        self._digests: dict[str, Tensor] = {}

    @abstractmethod
    def source(self, split: str) -> Source:
        """Find the images and labels of a split; the first access to disk.

        Raises:
            RequestError: They are not there, or not in the expected layout.
        """

    def prepare_data(self) -> None:
        """Build the caches in one process of each machine, while its others wait."""
        if self.cache == "memmap" and self.trainer is not None and self.trainer.state.fn:
            self.setup(self.trainer.state.fn.value)

    def image_files(self, split: str) -> list[tuple[str, Path]]:
        """Return (id, image) for the images of a split, to predict them; labels may be missing.

        Raises:
            RequestError: The data set or the split has no image files.
        """
        self._check_split(split)
        files = getattr(self.source(split), "files", None)
        if files is None:
            raise RequestError(f"{type(self).__name__} has no image files that could be predicted.")
        return [(name, image) for name, image, _ in files]

    def digests(self, split: str) -> Tensor:
        """Tell the images and labels of a split from others, as (N, 2) int64; see `digest`.

        Raises:
            RequestError: One of the files cannot be read.
        """
        if split not in self._digests:
            try:
                self._digests[split] = digests(self._sources.get(split) or self.source(split))
            except OSError as error:
                raise RequestError(f"{error.filename} cannot be read: {error.strerror}.") from error
        return self._digests[split]

    def setup(self, stage: str) -> None:
        """Find the splits that the stage reads, so that missing data ends the run at once."""
        if stage == "fit":
            self._source("train")
        self._source(self.validation_split if stage in ("fit", "validate") else "test")

    def train_dataloader(self) -> DataLoader[Sample]:
        """Return this process's share of the augmented training batches."""
        source = self._source("train")
        transform = training_transform(
            self.crop_size,
            self.scale_range,
            self.flip,
            self.color_jitter,
            self.blur,
            self.base_size,
            self.max_category_share,
            self.photometric,
        )
        sampler = EpochSampler(len(source), self.batch_size, *self._rank_and_world(), self.seed)
        dataset = SegmentationDataset(source, transform, self.seed)
        parts = 1 if self.trainer is None else self.trainer.accumulate_grad_batches
        if sampler.batch_size_per_process % parts:
            raise RequestError(
                f"trainer.accumulate_grad_batches={parts}: the {sampler.batch_size_per_process} "
                f"images of a step on each process (batch_size={self.batch_size}) cannot be "
                f"divided into {parts} parts. Choose a divisor."
            )
        share = sampler.batch_size_per_process // parts
        return TrainingLoader(dataset, sampler, share, **self._loader_options())

    def val_dataloader(self) -> DataLoader[Sample]:
        """Return the images of `validation_split`."""
        return self.evaluation_dataloader(self.validation_split)

    def test_dataloader(self) -> DataLoader[Sample]:
        """Return the test images."""
        return self.evaluation_dataloader("test")

    def predict_dataloader(self) -> DataLoader[Sample]:
        """Return the test images."""
        return self.evaluation_dataloader("test")

    def evaluation_dataloader(self, split: str) -> DataLoader[Sample]:
        """Return this process's share of a split, image by image at the labels' own size."""
        source = self._source(split)
        sampler = EvaluationSampler(len(source), *self._rank_and_world())
        # One at a time: sizes differ, and an image's result must not depend on its neighbours.
        dataset = SegmentationDataset(source)
        return SegmentationLoader(dataset, 1, sampler=sampler, **self._loader_options())

    def _check_split(self, split: str) -> None:
        if split not in self.splits:
            raise RequestError(f"split={split}: there are {', '.join(self.splits)}.")

    def _source(self, split: str) -> Source:
        self._check_split(split)
        if split not in self._sources:
            source = self.source(split)
            if len(source) == 0:
                raise RequestError(
                    f"{type(self).__name__}: the split '{split}' holds no images. "
                    "Put images into it or choose another one."
                )
            self._require_labels(split, source)
            if self.cache == "memmap":
                source = cached(source, f"{type(self).__name__}-{split}", *self._cache_options())
            self._sources[split] = source
        return self._sources[split]

    def _require_labels(self, split: str, source: Source) -> None:
        """Read labels until there is one that counts: as a rule, those of the first image."""
        if not any((source.read(index)[1] != IGNORE).any() for index in range(len(source))):
            raise RequestError(
                f"split={split}: no pixel of its {len(source)} images is labelled, all are "
                "ignored, so there is nothing to learn or to count. Choose another split; if a "
                "benchmark's server keeps these labels, danet predict dataset=... "
                f"split={split} with format=cityscapes or format=voc writes what it takes."
            )

    def _cache_options(self) -> tuple[list[Path], int]:
        """The folders a cache may lie in, and the processes that build one."""
        root = getattr(self, "root", None)
        places = [expanded(root) / ".danet_cache"] if isinstance(root, str | Path) else []
        with suppress(RuntimeError):  # a user of no name, as in some containers, has no home
            places.append(Path.home() / ".cache" / "danet_lightning")
        if self.cache_dir is not None:
            places = [expanded(self.cache_dir)]
        # One process of a machine builds for all of them.
        return places, cores() if self.workers else 0

    def _loader_options(self) -> dict[str, Any]:
        workers = self._workers()
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

    def _workers(self) -> int:
        processes = 1 if self.trainer is None else self.trainer.num_devices
        return min(self.workers, max(1, cores() // processes))
