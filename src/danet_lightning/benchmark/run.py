"""The cost of a training sample and the speed of loaders, against decoding and a plain pipeline."""

import json
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import torch
from omegaconf import DictConfig

from danet_lightning.benchmark.loaders import measure_loaders
from danet_lightning.benchmark.photos import LABELS, decode, textbook_sample, write_photos
from danet_lightning.checkpoints.metadata import git_commit, versions
from danet_lightning.data.base import Source
from danet_lightning.data.files.cache import cached
from danet_lightning.data.files.source import FileSource
from danet_lightning.data.samples.dataset import SegmentationDataset
from danet_lightning.data.samples.loader import cores
from danet_lightning.data.samples.transforms import Augmentation
from danet_lightning.disk.writing import write_atomically

SCALES = (0.5, 2.0)
FLOOR, TEXTBOOK = "decoding alone", "textbook pipeline"


def benchmark(config: DictConfig, run_dir: Path) -> None:
    """Measure samples and loaders on photos made up for it, print tables, write results.json.

    Samples are measured in this process with one thread, the ways of reading them in turn, so
    that whatever else the machine does hits all of them alike. Ours end as bytes and are
    normalised on the device; the textbook's end normalised, 4 bytes for each value.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    size, crop_size = tuple(config.size), tuple(config.crop_size)
    results: dict[str, Any] = {"what": config.what, "machine": machine(), "size": list(size)}
    results |= {"crop_size": list(crop_size), "repeats": config.repeats, "versions": versions()}
    results["git_commit"] = git_commit()
    told = ", ".join(f"{name} {value}" for name, value in results["machine"].items())
    print(f"{told}\nphotos {size[1]} x {size[0]}, crops {crop_size[1]} x {crop_size[0]}")
    with tempfile.TemporaryDirectory(prefix="danet benchmark ") as folder:
        files = write_photos(Path(folder), config.images, size, config.seed)
        source = FileSource(files, {label: label % 19 for label in range(LABELS)})
        sources: dict[str, Source] = {
            "none": source,
            "memmap": cached(source, "streets", [Path(folder)]),
        }
        results["samples"] = measure_samples(
            source.files, sources, crop_size, config.repeats, config.seed
        )
        results["loaders"] = measure_loaders(sources, crop_size, config)
    text = (json.dumps(results, indent=2) + "\n").encode()
    write_atomically(run_dir / "results.json", lambda file: file.write(text))
    print(f"written to {run_dir / 'results.json'}")


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


def machine() -> dict[str, Any]:
    """What the figures were measured on, and how busy it was."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "processor": _processor(),
        "cores": cores(),
        "load": load,
        "system": platform.platform(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
