"""Pictures of masks and predictions, for people to look at.

H, W: pixels. Colors are RGB, 0 to 255; `palette` holds one for each class, in index order.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydantic import Field

from danet_lightning.data.base import IGNORE
from danet_lightning.errors import checked

Palette = Sequence[Sequence[int]]
Opacity = Annotated[float, Field(ge=0, le=1)]

PANEL = 480  # longer side of a panel in pixels: four fit side by side on a wide screen
GAP = 12
TEXT_SIZE = 15
INK = (40, 40, 40)
ERROR = (213, 94, 0)  # vermilion: apart from gray to color-blind eyes too


def colorize(mask: NDArray[Any], palette: Palette) -> NDArray[np.uint8]:
    """Give each pixel the color of its class; ignored ones (255) are black.

    Args:
        mask: (H, W) class indices.
        palette: one color a class.

    Returns:
        (H, W, 3) RGB.

    Raises:
        ValueError: the mask holds an index that the palette does not.
    """
    colors = np.zeros((256, 3), np.uint8)
    colors[: len(palette)] = palette
    illegal = (mask < 0) | ((mask >= len(palette)) & (mask != IGNORE))
    if illegal.any():
        raise ValueError(
            f"the mask holds {int(mask[illegal][0])}, but the palette has {len(palette)} colors: "
            f"only 0 to {len(palette) - 1}, and {IGNORE} for ignored pixels, can be drawn"
        )
    drawn: NDArray[np.uint8] = colors[mask]
    return drawn


@checked
def overlay(
    image: NDArray[np.uint8], mask: NDArray[Any], palette: Palette, opacity: Opacity = 0.5
) -> NDArray[np.uint8]:
    """Blend the classes over the image; ignored pixels (255) show the image alone.

    Args:
        image: (H, W, 3) RGB.
        mask: (H, W) class indices.
        palette: one color a class.
        opacity: 0 is the image, 1 the classes.

    Returns:
        (H, W, 3) RGB.

    Raises:
        ValueError: mask and image differ in size, or the opacity is not between 0 and 1.
    """
    _same_size(image, mask)
    blend = (1 - opacity) * image + opacity * colorize(mask, palette)
    blend = np.where((mask == IGNORE)[..., None], image, blend)  # (H, W, 3)
    return np.rint(blend).astype(np.uint8)


def strip(
    image: NDArray[np.uint8],
    label: NDArray[Any],
    prediction: NDArray[Any],
    palette: Palette,
    classes: Sequence[str],
) -> Image.Image:
    """Put image, label, prediction and errors side by side, above a legend of the classes in them.

    Small images are enlarged, large ones reduced. Ignored pixels are hatched.

    Args:
        image: (H, W, 3) RGB.
        label: (H, W) class indices, 255 for ignored pixels.
        prediction: (H, W) class indices.
        palette: one color a class.
        classes: their names.

    Raises:
        ValueError: the three differ in size, or an index is not in the palette.
    """
    drawn = panels(image, label, prediction, palette)
    size = drawn["image"].size
    cell = max(size[0], 100)  # the titles need 100 pixels
    width = len(drawn) * cell + (len(drawn) + 1) * GAP
    present = sorted({*np.unique(label).tolist(), *np.unique(prediction).tolist()})
    legend = _legend(present, palette, classes, width - 2 * GAP)
    top = GAP + TEXT_SIZE + GAP // 2
    canvas = Image.new("RGB", (width, top + size[1] + legend.height + 2 * GAP), "white")
    draw = ImageDraw.Draw(canvas)
    for column, (title, panel) in enumerate(drawn.items()):
        left = GAP + column * (cell + GAP)
        draw.text((left, GAP + TEXT_SIZE), title, INK, _font(), anchor="ls")
        canvas.paste(panel, (left, top))
    canvas.paste(legend, (GAP, top + size[1] + GAP))
    return canvas


def panels(
    image: NDArray[np.uint8], label: NDArray[Any], prediction: NDArray[Any], palette: Palette
) -> dict[str, Image.Image]:
    """Draw image, label, prediction and errors, each by this name, in one size.

    The errors are vermilion on the faded image.

    Raises:
        ValueError: the three differ in size, or an index is not in the palette.
    """
    _same_size(image, label)
    _same_size(image, prediction)
    size = _panel_size(image.shape[1], image.shape[0])
    photo = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
    errors = Image.blend(photo.convert("L").convert("RGB"), Image.new("RGB", size, "white"), 0.6)
    for where, color in (
        ((prediction != label) & (label != IGNORE), Image.new("RGB", size, ERROR)),
        (label == IGNORE, _hatch(size)),
    ):
        errors.paste(color, mask=Image.fromarray(where).resize(size, Image.Resampling.NEAREST))
    return {
        "image": photo,
        "label": _mask_panel(label, palette, size),
        "prediction": _mask_panel(prediction, palette, size),
        "errors": errors,
    }


def _same_size(image: NDArray[np.uint8], mask: NDArray[Any]) -> None:
    if image.shape[:2] != mask.shape:
        raise ValueError(
            f"image and mask must agree in (H, W), and are {image.shape[:2]} and {mask.shape}"
        )


def _panel_size(width: int, height: int) -> tuple[int, int]:
    factor = PANEL / max(width, height)
    if factor >= 1:
        factor = int(factor)  # whole, so that all pixels of a mask stay equally large
    return max(1, round(width * factor)), max(1, round(height * factor))


def _mask_panel(mask: NDArray[Any], palette: Palette, size: tuple[int, int]) -> Image.Image:
    colors = Image.fromarray(colorize(mask, palette)).resize(size, Image.Resampling.NEAREST)
    ignored = Image.fromarray(mask == IGNORE).resize(size, Image.Resampling.NEAREST)
    colors.paste(_hatch(size), mask=ignored)
    return colors


def _hatch(size: tuple[int, int]) -> Image.Image:
    """Diagonal stripes: no class of any palette looks like them."""
    x, y = np.arange(size[0]), np.arange(size[1])[:, None]
    stripes = (x + y) // 4 % 2  # (H, W)
    return Image.fromarray(np.where(stripes, 200, 90).astype(np.uint8)).convert("RGB")


def _legend(
    present: Sequence[int], palette: Palette, classes: Sequence[str], width: int
) -> Image.Image:
    swatch, row_height = 14, 24
    names = [(index, "ignored" if index == IGNORE else classes[index]) for index in present]
    places, x, y = [], 0, 0
    for _, name in names:
        length = swatch + 6 + int(_font().getlength(name)) + 18
        if x > 0 and x + length > width:
            x, y = 0, y + row_height
        places.append((x, y))
        x += length
    legend = Image.new("RGB", (width, y + row_height), "white")
    draw = ImageDraw.Draw(legend)
    for (x, y), (index, name) in zip(places, names, strict=True):
        size = (swatch, swatch)
        color = _hatch(size) if index == IGNORE else Image.new("RGB", size, tuple(palette[index]))
        legend.paste(color, (x, y + 5))
        draw.rectangle((x, y + 5, x + swatch, y + 5 + swatch), outline=(150, 150, 150))
        draw.text((x + swatch + 6, y + 5 + swatch // 2), name, INK, _font(), anchor="lm")
    return legend


@cache
def _font() -> ImageFont.FreeTypeFont:
    import matplotlib  # only for its font: class names may be in Greek or Cyrillic

    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    return ImageFont.truetype(folder / "DejaVuSans.ttf", TEXT_SIZE)


def contact_sheet(pictures: Sequence[Image.Image], columns: int = 1) -> Image.Image:
    """Put pictures of any sizes on one white sheet, row by row.

    Raises:
        ValueError: there is no picture, or no column.
    """
    if not pictures or columns < 1:
        raise ValueError(f"{len(pictures)} pictures in {columns} columns: give one or more of each")
    rows = [pictures[start : start + columns] for start in range(0, len(pictures), columns)]
    width = max(picture.width for picture in pictures)
    heights = [max(picture.height for picture in row) for row in rows]
    sheet = Image.new("RGB", (width * min(columns, len(pictures)), sum(heights)), "white")
    for number, row in enumerate(rows):
        for column, picture in enumerate(row):
            sheet.paste(picture, (column * width, sum(heights[:number])))
    return sheet
