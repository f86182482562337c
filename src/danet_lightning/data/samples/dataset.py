"""From a source of images and labels to samples.

H, W: height and width of an image in pixels. Labels are train ids 0..C-1, and 255 is ignored.
"""

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset

from danet_lightning.data.base import IGNORE, Pixels, Sample, Source
from danet_lightning.data.samples.sampler import UNCOUNTED

if TYPE_CHECKING:
    from albumentations import Compose


class SegmentationDataset(Dataset[Sample]):
    """The samples of a source, transformed at random for training or as they are for evaluation.

    Args:
        source: Where images and labels come from.
        transform: Training's augmentation; samples are then addressed by `(epoch, index)`. None:
            nothing is changed, the labels keep their own size, and an address is an `index`.
        seed: With epoch and index the only origin of a sample's randomness, so neither workers
            nor processes nor a resumed run can change it.
    """

    def __init__(self, source: Source, transform: "Compose | None" = None, seed: int = 0) -> None:
        self.source = source
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, address: Any) -> Sample:
        if address == UNCOUNTED:
            image, mask = self.source.read(0)
            return _sample(image, np.full_like(mask, IGNORE), name="")  # of no image
        if self.transform is None:
            image, mask = self.source.read(address)
            return _sample(image, mask, self.source.name(address))
        epoch, index = address
        image, mask = self.source.read(index)
        state = sample_seed(self.seed, epoch, index)
        # Both generators anew for each sample: albumentations' own seeding gives every worker
        # the same parameters and every transform the same stream.
        self.transform.set_random_state(np.random.default_rng(state), random.Random(state))
        changed = self.transform(image=image, mask=mask)
        return _sample(changed["image"], changed["mask"], self.source.name(index))


def sample_seed(seed: int, epoch: int, index: int) -> int:
    """Mix the three numbers into 64 bits that have nothing in common for neighboring samples."""
    mixed = np.random.SeedSequence(seed, spawn_key=(epoch, index))
    return int(mixed.generate_state(1, np.uint64)[0])


def _sample(image: Pixels, mask: Pixels, name: str) -> Sample:
    return {
        "image": torch.from_numpy(image.transpose(2, 0, 1).copy()),  # (H, W, 3) -> (3, H, W)
        "mask": torch.from_numpy(mask.copy()),  # a source may keep, or forbid writing, its own
        "id": name,
    }
