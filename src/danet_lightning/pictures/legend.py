"""What the colors of a picture of classes mean: a legend, and marks where colors look alike.

H, W: pixels. Colors are RGB, 0 to 255; `palette` holds one for each class, in index order.
"""

from collections.abc import Collection, Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from danet_lightning.data.base import IGNORE
from danet_lightning.disk.names import printable

TEXT_SIZE = 15
INK = (40, 40, 40)
FRAME = (150, 150, 150)


def legend(
    present: Sequence[int],
    palette: Sequence[Sequence[int]],
    classes: Sequence[str],
    width: int,
    numbered: Collection[int] = (),
    text_size: int = TEXT_SIZE,
) -> Image.Image:
    """Draw a swatch and a name for each class.

    Args:
        present: Class ids, and 255 for ignored pixels.
        palette: One color for each class.
        classes: Their names.
        width: In pixels; the height follows.
        numbered: Classes whose number stands before their name.
        text_size: In pixels.
    """
    swatch, row_height, gap = text_size, text_size * 8 // 5, text_size * 2 // 5
    names = [(index, class_name(index, classes, numbered)) for index in present]
    places, x, y = [], 0, 0
    for _, name in names:
        length = swatch + gap + int(font(text_size).getlength(name)) + 3 * gap
        if x > 0 and x + length > width:
            x, y = 0, y + row_height
        places.append((x, y + (row_height - swatch) // 2))
        x += length
    picture = Image.new("RGB", (width, y + row_height), "white")
    draw = ImageDraw.Draw(picture)
    for (x, y), (index, name) in zip(places, names, strict=True):
        size = (swatch, swatch)
        color = hatch(size) if index == IGNORE else Image.new("RGB", size, tuple(palette[index]))
        picture.paste(color, (x, y))
        draw.rectangle((x, y, x + swatch, y + swatch), outline=FRAME)
        middle = (x + swatch + gap, y + swatch // 2)
        draw.text(middle, name, INK, font(text_size), anchor="lm")
    return picture


def mark(
    picture: Image.Image, mask: NDArray[Any], numbered: Collection[int], text_size: int = TEXT_SIZE
) -> None:
    """Draw an outline around each area of some classes, and the class's number into it.

    Args:
        picture: Of the mask, (H, W); changed in place.
        mask: (H, W) class indices.
        numbered: The classes.
        text_size: Of the numbers, in pixels. Where one does not fit, the outline alone is drawn.
    """
    draw = ImageDraw.Draw(picture)
    pen, halo = max(1, text_size // 12), max(1, text_size // 6)
    for index in sorted(numbered):
        area = (mask == index).astype(np.uint8)  # (H, W)
        outlines, _ = cv2.findContours(area, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        for outline in outlines:
            points = [tuple(point) for point in outline[:, 0].tolist()]
            draw.line([*points, points[0]], INK, pen)
        for place in _places(area, text_size):
            style: dict[str, Any] = {"stroke_width": halo, "stroke_fill": INK}
            draw.text(place, str(index), "white", font(text_size), "mm", **style)


def hatch(size: tuple[int, int], stripe: int = 4) -> Image.Image:
    """Draw diagonal stripes, so many pixels wide: no class of any palette looks like them."""
    x, y = np.arange(size[0]), np.arange(size[1])[:, None]
    stripes = (x + y) // stripe % 2  # (H, W)
    return Image.fromarray(np.where(stripes, 200, 90).astype(np.uint8)).convert("RGB")


@cache
def font(size: int = TEXT_SIZE) -> ImageFont.FreeTypeFont:
    """Load matplotlib's font, without matplotlib: class names may be in Greek or Cyrillic."""
    package = find_spec("matplotlib")
    assert package is not None
    assert package.origin is not None
    folder = Path(package.origin).parent / "mpl-data" / "fonts" / "ttf"
    return ImageFont.truetype(folder / "DejaVuSans.ttf", size)


def class_name(index: int, classes: Sequence[str], numbered: Collection[int]) -> str:
    """Return what a legend calls a class: its name, with its number where the pictures have it."""
    if index == IGNORE:
        return "ignored"
    name = printable(classes[index])
    return f"{index} {name}" if index in numbered else name


def _places(area: NDArray[np.uint8], text_size: int) -> Iterator[tuple[float, float]]:
    """Return the middle (x, y) of each connected part of an area (H, W) that has room for a
    number.
    """
    _, parts, boxes, _ = cv2.connectedComponentsWithStats(area, connectivity=4)
    depth = cv2.distanceTransform(np.pad(area, 1), cv2.DIST_L2, 3)[1:-1, 1:-1]  # to the outline
    for part, (left, top, width, height, _) in enumerate(boxes.tolist()):
        if part == 0 or min(width, height) < text_size:  # part 0 is the rest of the picture
            continue
        box = (slice(top, top + height), slice(left, left + width))
        inside = np.where(parts[box] == part, depth[box], 0)
        row, column = np.unravel_index(np.argmax(inside), inside.shape)
        if inside[row, column] > 0.7 * text_size:
            yield float(left + column), float(top + row)
