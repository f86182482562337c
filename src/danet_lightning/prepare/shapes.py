"""Areas that annotation tools describe, drawn into masks.

H, W: height and width of an image in pixels. Points are (x, y) in pixels; the upper left pixel
reaches from 0 to 1, and belongs to an area that holds its middle.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from danet_lightning.errors import RequestError

Bits = NDArray[np.bool_]
FINE = 5  # areas are drawn on a grid so many times finer than pixels: odd, so that it has middles
FARTHEST = 1e6  # pixels from the image, beyond which a point is moved closer


class Shape(NamedTuple):
    """One area of one class.

    Attributes:
        name: The class's.
        polygons: (N, 2) corners each; the area is what any of them holds.
        bits: (h, w), in place of polygons.
        corner: (x, y) of the upper left one of the bits; None: they are of the whole image.
    """

    name: str
    polygons: Sequence[NDArray[np.float64]] = ()
    bits: Bits | None = None
    corner: tuple[int, int] | None = None

    @property
    def area(self) -> float:
        """Return the pixels of the area, of polygons the sum."""
        if self.bits is not None:
            return float(self.bits.sum())
        return sum(cv2.contourArea(each.astype(np.float32)) for each in self.polygons)

    def scaled(self, factors: tuple[float, float]) -> "Shape":
        """Return the shape with its polygons' x and y multiplied."""
        return self._replace(polygons=[polygon * factors for polygon in self.polygons])


class Annotation(NamedTuple):
    """What a tool says of one image.

    Attributes:
        image: Its file.
        source: The file that labels it.
        shapes: Reads its areas; a later one covers those before.
        size: (W, H) of the image as the tool has seen it; None: not known.
        is_whole: Whether the shapes are a whole mask, one for each class, of the stored pixels.
        in_shares: Whether points are shares of width and height, 0 to 1.
    """

    image: Path
    source: Path
    shapes: Callable[[], Sequence[Shape]]
    size: tuple[int, int] | None
    is_whole: bool = False
    in_shares: bool = False


class Export(NamedTuple):
    """What a tool has written of all images.

    Attributes:
        tool: Its name, or that of the format.
        classes: Names of the classes, in the order of their ids.
        annotations: Of the images that have any.
        absent: Names of annotated images that are not there.
        others: What is no area, and is left out: points, lines, boxes.
    """

    tool: str
    classes: Sequence[str]
    annotations: Sequence[Annotation]
    absent: Sequence[str] = ()
    others: int = 0


def corners(values: Any) -> NDArray[np.float64]:
    """Return the (N, 2) corners of a polygon given as x, y, x, y ... or as pairs.

    Raises:
        ValueError: They are no pairs of numbers, or fewer than three.
    """
    points = np.asarray(values, np.float64).reshape(-1, 2)
    if len(points) < 3 or not np.isfinite(points).all():
        raise ValueError("a polygon needs three corners or more, of finite numbers")
    return points.clip(-FARTHEST, FARTHEST)


def draw(mask: NDArray[np.uint8], shape: Shape, value: int) -> None:
    """Give the pixels of an area a value.

    Args:
        mask: (H, W); changed in place.
        shape: What is drawn; what lies outside of the image is cut off.
        value: An id.

    Raises:
        ValueError: The bits of the area do not fit into the mask.
    """
    if shape.bits is not None:
        x, y = shape.corner or (0, 0)
        height, width = shape.bits.shape
        region = mask[max(y, 0) : y + height, max(x, 0) : x + width]
        bits = shape.bits[max(-y, 0) :, max(-x, 0) :][: region.shape[0], : region.shape[1]]
        region[bits] = value
    for polygon in shape.polygons:
        _fill(mask, polygon, value)


def run_lengths(counts: Sequence[int], size: Sequence[int]) -> Bits:
    """Decode COCO's uncompressed run lengths: of 0 and 1 in turn, column by column.

    Args:
        counts: The lengths, that of 0 first.
        size: (H, W).

    Raises:
        ValueError: They do not make up an image of this size.
    """
    height, width = size
    lengths = np.asarray(counts, np.int64)
    if lengths.ndim != 1 or (lengths < 0).any() or lengths.sum() != height * width:
        raise ValueError(f"run lengths that do not make {width} x {height} pixels")
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(width, height).T


def largest_first(shapes: Sequence[Shape]) -> list[Shape]:
    """Sort areas so that small ones are drawn onto large ones."""
    return sorted(shapes, key=lambda shape: -shape.area)


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Refuse a file whose content makes its reader fail, unless the reader has said more itself.

    Args:
        path: The file.
        what: The format.

    Raises:
        RequestError: Reading failed.
    """
    try:
        yield
    except RequestError:
        raise
    except Exception as error:  # a file of another form makes the readers fail in any way
        detail = f"{type(error).__name__}: {str(error)[:200]}"
        raise RequestError(f"{path} is no {what} ({detail}). Export it again.") from error


def _fill(mask: NDArray[np.uint8], polygon: NDArray[np.float64], value: int) -> None:
    """Fill one polygon: OpenCV's own rule would add half a pixel along every edge."""
    height, width = mask.shape
    low = np.floor(polygon.min(0)).astype(int).clip(0, (width, height))
    high = np.ceil(polygon.max(0)).astype(int).clip(0, (width, height))
    size = high - low
    if (size <= 0).any():
        return
    fine = np.zeros((size[1] * FINE, size[0] * FINE), np.uint8)
    points = np.rint((polygon - low) * FINE - 0.5).astype(np.int32)
    cv2.fillPoly(fine, [points], 1)
    held = fine[FINE // 2 :: FINE, FINE // 2 :: FINE] == 1  # at the middle of each pixel
    mask[low[1] : high[1], low[0] : high[0]][held] = value
