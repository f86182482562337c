"""How long a prediction will take, told before it begins."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from danet_lightning.models.segmenter import Segmenter
from danet_lightning.predict.plan import Job
from danet_lightning.predict.writing import seen_size

PROBES = (128, 256, 512)  # sides in pixels of the squares that are tried, the first one twice
PATIENCE = 5.0  # seconds after which no larger square is tried

SHORT = 2**21  # pixels of all images that are done before one wonders


def forecast(segmenter: Segmenter, jobs: Sequence[Job], max_side: int | None) -> str:
    """Say how long the images will take on the CPU; nothing if that is short.

    Args:
        segmenter: On the CPU, which is tried for some seconds.
        jobs: What is to be predicted.
        max_side: The longest side in pixels that the network sees; None: no limit.
    """
    sizes = [size for job in jobs if (size := _size(job.image))]
    seen = [seen_size(*size, max_side) for size in sizes]
    if sum(width * height for width, height in seen) <= SHORT:
        return ""
    seconds = costs(segmenter)
    largest = max(range(len(sizes)), key=lambda k: sizes[k][0] * sizes[k][1])
    reduced = ""
    if seen[largest] != sizes[largest]:
        reduced = f", reduced to {_written(seen[largest])} by max_side={max_side}"
    text = (
        f"{len(sizes)} {'image' if len(sizes) == 1 else 'images'}, the largest "
        f"{_written(sizes[largest])}{reduced}: about {spoken(expected(seconds, seen))} on the CPU"
    )
    if max_side is None:  # as for a data set, whose images are never reduced
        return text
    half = max(max(size) for size in seen) // 2
    smaller = expected(seconds, [seen_size(*size, half) for size in sizes])
    return f"{text}; with max_side={half} about {spoken(smaller)}"


def costs(segmenter: Segmenter) -> NDArray[np.float64]:
    """Measure how the time of an image grows with its pixels, on blank squares.

    Returns:
        (3,) seconds: for each image, for each pixel, and for each pair of pixels, as attention
        compares them.
    """
    from scipy.optimize import nnls  # only for what takes longer than its import

    segmenter.segment(_blank(PROBES[0]))  # the first forward pass takes longer than any other
    pixels: list[int] = []
    seconds: list[float] = []
    for side in PROBES:
        begin = time.perf_counter()
        segmenter.segment(_blank(side))
        pixels.append(side**2)
        seconds.append(time.perf_counter() - begin)
        if seconds[-1] > PATIENCE:
            break
    terms = np.array(pixels, float)[:, None] ** np.arange(len(pixels))  # as many as are known
    scale = terms.max(0)
    seconds_each, _ = nnls(terms / scale, np.array(seconds))
    return np.pad(seconds_each / scale, (0, 3 - len(pixels)))


def expected(seconds: NDArray[np.float64], sizes: Sequence[tuple[int, int]]) -> float:
    """Return the seconds for images of these widths and heights, by `costs`."""
    pixels = np.array([width * height for width, height in sizes], float)[:, None]
    return float((pixels ** np.arange(3) @ seconds).sum())


def spoken(seconds: float) -> str:
    """Write a time as one says it."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _size(path: Path) -> tuple[int, int] | None:
    try:
        if not path.is_file():  # opening a pipe might wait for ever
            return None
        with Image.open(path) as image:
            return image.size
    except Exception:  # whoever reads the pixels is told
        return None


def _written(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _blank(side: int) -> NDArray[np.uint8]:
    return np.zeros((side, side, 3), np.uint8)
