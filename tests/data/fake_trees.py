"""Writers of small data sets in their real layouts, and a source without files."""

from pathlib import Path

import numpy as np
from PIL import Image


class NoiseSource:
    """Noise of various sizes with labels 0..4; importable, so that workers can unpickle it."""

    def __init__(self, count: int, height: int = 60, width: int = 80) -> None:
        self.count, self.height, self.width = count, height, width

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return f"noise_{index}"

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        generator = np.random.default_rng(index)
        height, width = self.height + index % 3, self.width + index % 5
        image = generator.integers(0, 256, (height, width, 3), np.uint8)
        mask = generator.integers(0, 5, (height, width), np.uint8)
        image.flags.writeable = mask.flags.writeable = False  # as a memory map's are
        return image, mask


def write_camvid(root: Path, train: int = 5, val: int = 3, test: int = 2, seed: int = 0) -> Path:
    """SegNet's layout: train/ trainannot/ ..., jpg and png frames, ids 0..10 and 11."""
    generator = np.random.default_rng(seed)
    for split, count in {"train": train, "val": val, "test": test}.items():
        (root / split).mkdir(parents=True)
        (root / f"{split}annot").mkdir()
        for number in range(count):
            suffix = ("jpg", "png", "jpeg")[number % 3]
            labels = generator.integers(0, 12, (36, 48), np.uint8)
            frame = np.repeat(labels[..., None] * 20, 3, axis=2)
            Image.fromarray(frame).save(root / split / f"{split} {number:03d}.{suffix}")
            Image.fromarray(labels).save(root / f"{split}annot" / f"{split} {number:03d}.png")
    return root
