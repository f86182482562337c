"""What the data path costs on this machine: `python scripts/benchmark_data.py`.

A training sample is compared with decoding its files alone and with the usual pipeline of Pillow,
with and without the pixel cache; then training's loaders, and what their workers' memory does
meanwhile. H, W: height and width of a photo; h, w: of the crop.
"""

import argparse
import json
import multiprocessing
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from measuring import machine, positive
from PIL import Image, ImageOps
from torch import Tensor

from danet_lightning.checkpoints.metadata import git_commit, versions
from danet_lightning.data.base import DataSet, Pairs, Pixels, Source
from danet_lightning.data.datamodule import SegmentationDataModule
from danet_lightning.data.files.cache import cached
from danet_lightning.data.files.source import FileSource
from danet_lightning.data.samples.dataset import SegmentationDataset
from danet_lightning.data.samples.transforms import Augmentation
from danet_lightning.disk.writing import write_atomically

SCALES = (0.5, 2.0)
FLOOR, TEXTBOOK = "decoding alone", "textbook pipeline"
BATCH_SIZE = 8  # the paper's
EPOCHS = 3  # timed ones of each loader, in turn with the other loaders'
LABELS = 34  # ids 0..33, as in Cityscapes' label files
NOISE = 1.5  # standard deviation of the sensor's noise in 0..255
MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]  # ImageNet's, (3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


def arguments() -> argparse.ArgumentParser:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--repeats", type=positive, default=50, help="of each sample; medians count")
    add("--size", type=positive, nargs=2, default=[1024, 2048], metavar=("H", "W"), help="photos")
    add("--crop-size", type=positive, nargs=2, default=[768, 768], metavar=("h", "w"), help="crops")
    add("--images", type=positive, default=8, help="different photos")
    add("--samples", type=positive, default=128, help="that a loader reads in an epoch; at least 8")
    add("--workers", type=int, nargs="+", default=[0, 1, 2], help="one loader each")
    add("--seed", type=int, default=0, help="of photos and crops")
    add("--output", type=Path, default=Path("benchmark_data.json"), help="the figures as JSON")
    return parser


def main() -> None:
    """Measure samples and loaders on photos made up for it, print tables, write the figures.

    Samples are measured in this process with one thread, the ways of reading them in turn, so
    that whatever else the machine does hits all of them alike. Ours end as bytes and are
    normalized on the device; the textbook's end normalized, 4 bytes for each value.
    """
    options = arguments().parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    size, crop_size = tuple(options.size), tuple(options.crop_size)
    results: dict[str, Any] = {"machine": machine(), "size": list(size)}
    results |= {"crop_size": list(crop_size), "repeats": options.repeats, "versions": versions()}
    results["git_commit"] = git_commit()
    told = ", ".join(f"{name} {value}" for name, value in results["machine"].items())
    print(f"{told}\nphotos {size[1]} x {size[0]}, crops {crop_size[1]} x {crop_size[0]}")
    with tempfile.TemporaryDirectory(prefix="danet benchmark ") as folder:
        files = write_photos(Path(folder), options.images, size, options.seed)
        source = FileSource(files, {label: label % 19 for label in range(LABELS)})
        sources: dict[str, Source] = {
            "none": source,
            "memmap": cached(source, "streets", [Path(folder)]),
        }
        results["samples"] = measure_samples(
            source.files, sources, crop_size, options.repeats, options.seed
        )
        results["loaders"] = measure_loaders(sources, crop_size, options)
    text = (json.dumps(results, indent=2) + "\n").encode()
    write_atomically(options.output, lambda file: file.write(text))
    print(f"written to {options.output}")


def measure_samples(
    files: Sequence[tuple[str, Path, Path]],
    sources: dict[str, Source],
    crop_size: tuple[int, int],
    repeats: int,
    seed: int,
) -> dict[str, dict[str, float]]:
    """Median milliseconds of a sample in each way, and their ratios to floor and textbook."""
    pairs, chance = [(photo, labels) for _, photo, labels in files], random.Random(seed)
    transform = Augmentation(crop_size, SCALES).transform()
    ours = {name: SegmentationDataset(source, transform, seed) for name, source in sources.items()}
    ways: dict[str, Callable[[int, int], object]] = {
        FLOOR: lambda _, index: decode(*pairs[index]),
        "our sample": lambda epoch, index: ours["none"][epoch, index],
        "our sample, cached": lambda epoch, index: ours["memmap"][epoch, index],
        TEXTBOOK: lambda _, index: textbook_sample(*pairs[index], crop_size, chance),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(-1, repeats):  # the first round warms up and is dropped
        for name, way in ways.items():
            start = time.perf_counter()
            way(repeat + 1, repeat % len(pairs))
            times[name].append(1000 * (time.perf_counter() - start))
    medians = {name: statistics.median(each[1:]) for name, each in times.items()}
    print(f"\n{'one process, one thread':<25}{'ms':>8}{'/ decoding':>13}{'/ textbook':>13}")
    for name, ms in medians.items():
        ratios = f"{ms / medians[FLOOR]:13.3f}{ms / medians[TEXTBOOK]:13.3f}"
        print(f"{name:<25}{ms:8.2f}{ratios}")
    return {
        name: {"ms": ms, "of_floor": ms / medians[FLOOR], "of_textbook": ms / medians[TEXTBOOK]}
        for name, ms in medians.items()
    }


def measure_loaders(
    sources: dict[str, Source], crop_size: tuple[int, int], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Samples a second of training's loader, with each number of workers and both sources."""
    cases = [
        Case(cache, _data(Repeated(source, options.samples), crop_size, workers, options.seed))
        for cache, source in sources.items()
        for workers in options.workers
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
        The normalized image (3, h, w) and its labels (h, w).
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


if __name__ == "__main__":
    main()
