"""Made-up street photos for the data benchmark, and the usual way of reading such photos.

H, W: height and width of a photo; h, w: of the crop.
"""

import random
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

LABELS = 34  # ids 0..33, as in Cityscapes' label files
NOISE = 1.5  # standard deviation of the sensor's noise in 0..255
MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]  # ImageNet's, (3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


def write_photos(
    folder: Path, count: int, size: tuple[int, int], seed: int
) -> list[tuple[str, Path, Path]]:
    """Write photos and labels as PNG, which cost as much to decode as Cityscapes' frames.

    A photo is smooth colors, a coarse grid of random ones interpolated, under mild noise; the
    noise decides the size of the file (2.7 MB at 2048 x 1024, where Cityscapes' have 2.3 MB on
    average) and with it the time. Labels are connected areas with curved borders.

    Returns:
        (name, photo, labels) triples.
    """
    generator = np.random.default_rng(seed)
    height, width = size
    files = []
    for number in range(count):
        name = f"street_{number:03d}"
        photo, labels = folder / f"{name}.png", folder / f"{name}_labels.png"
        coarse = generator.uniform(0, 255, (9, 17, 3)).astype(np.float32)
        smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)  # (H, W, 3)
        noisy = smooth + generator.normal(0, NOISE, smooth.shape)
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(photo)
        strength = generator.random((LABELS, 9, 17), np.float32)
        fields = [cv2.resize(field, (width, height)) for field in strength]
        Image.fromarray(np.argmax(fields, axis=0).astype(np.uint8)).save(labels)
        files.append((name, photo, labels))
    return files


def decode(photo: Path, labels: Path) -> None:
    """Decode both files and nothing else: what no sample read from files can be faster than."""
    for path in (photo, labels):
        with Image.open(path) as image:
            image.load()


def textbook_sample(
    photo: Path, labels: Path, crop_size: tuple[int, int], chance: random.Random
) -> tuple[Tensor, Tensor]:
    """Read a training sample the textbook way: Pillow throughout, the whole photo resized.

    Returns:
        The normalised image (3, h, w) and its labels (h, w).
    """
    height, width = crop_size
    image: Image.Image = Image.open(photo).convert("RGB")
    mask: Image.Image = Image.open(labels)
    scale = chance.uniform(0.5, 2.0)
    size = (round(image.width * scale), round(image.height * scale))
    image = image.resize(size, Image.Resampling.BILINEAR)
    mask = mask.resize(size, Image.Resampling.NEAREST)
    border = (0, 0, max(0, width - size[0]), max(0, height - size[1]))  # right and below
    image, mask = ImageOps.expand(image, border, 0), ImageOps.expand(mask, border, 255)
    left = chance.randint(0, image.width - width)
    top = chance.randint(0, image.height - height)
    box = (left, top, left + width, top + height)
    image, mask = image.crop(box), mask.crop(box)
    if chance.random() < 0.5:
        image, mask = ImageOps.mirror(image), ImageOps.mirror(mask)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)  # (h, w, 3) -> (3, h, w)
    return (pixels.float() / 255 - MEAN) / STD, torch.from_numpy(np.array(mask)).long()
