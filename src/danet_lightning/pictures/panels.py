"""Image, label, prediction and errors side by side, and such pictures on one sheet.

H, W: pixels. Colors are RGB, 0 to 255; `palette` holds one for each class, in index order.
"""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from danet_lightning.data.base import IGNORE
from danet_lightning.pictures.color_vision import look_alike
from danet_lightning.pictures.legend import INK, TEXT_SIZE, font, hatch, legend
from danet_lightning.pictures.masks import Palette, mask_panel, panel_size, require_same_size

GAP = 12
ERROR = (213, 94, 0)  # vermilion: apart from gray to color-blind eyes too


def strip(
    image: NDArray[np.uint8],
    label: NDArray[Any],
    prediction: NDArray[Any],
    palette: Palette,
    classes: Sequence[str],
) -> Image.Image:
    """Put image, label, prediction and errors side by side, above a legend of the classes in them.

    Small images are enlarged, large ones reduced. Ignored pixels are hatched; areas of classes
    that color-blind people would take for one another have outlines and numbers.

    Args:
        image: (H, W, 3) RGB.
        label: (H, W) class indices, 255 for ignored pixels.
        prediction: (H, W) class indices.
        palette: One color a class.
        classes: Their names.

    Raises:
        ValueError: The three differ in size, or an index is not in the palette.
    """
    drawn = panels(image, label, prediction, palette)
    size = drawn["image"].size
    cell = max(size[0], 100)  # the titles need 100 pixels
    width = len(drawn) * cell + (len(drawn) + 1) * GAP
    present = present_in(label, prediction)
    numbered = look_alike(palette, present)
    names = legend(present, palette, classes, width - 2 * GAP, numbered)
    top = GAP + TEXT_SIZE + GAP // 2
    canvas = Image.new("RGB", (width, top + size[1] + names.height + 2 * GAP), "white")
    draw = ImageDraw.Draw(canvas)
    for column, (title, panel) in enumerate(drawn.items()):
        left = GAP + column * (cell + GAP)
        draw.text((left, GAP + TEXT_SIZE), title, INK, font(), anchor="ls")
        canvas.paste(panel, (left, top))
    canvas.paste(names, (GAP, top + size[1] + GAP))
    return canvas


def panels(
    image: NDArray[np.uint8],
    label: NDArray[Any],
    prediction: NDArray[Any],
    palette: Palette,
    numbered: Collection[int] | None = None,
    text_size: int = TEXT_SIZE,
) -> dict[str, Image.Image]:
    """Draw image, label, prediction and errors, each by this name, in one size.

    The errors are vermilion on the faded image.

    Args:
        image: (H, W, 3) RGB.
        label: (H, W) class indices, 255 for ignored pixels.
        prediction: (H, W) class indices.
        palette: One color a class.
        numbered: The classes with outlines and numbers; by default those that look alike here.
        text_size: Of the numbers, in pixels.

    Raises:
        ValueError: The three differ in size, or an index is not in the palette.
    """
    require_same_size(image, label)
    require_same_size(image, prediction)
    size = panel_size(image.shape[1], image.shape[0])
    if numbered is None:
        numbered = look_alike(palette, present_in(label, prediction))
    photo = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
    errors = Image.blend(photo.convert("L").convert("RGB"), Image.new("RGB", size, "white"), 0.6)
    for where, color in (
        ((prediction != label) & (label != IGNORE), Image.new("RGB", size, ERROR)),
        (label == IGNORE, hatch(size)),
    ):
        errors.paste(color, mask=Image.fromarray(where).resize(size, Image.Resampling.NEAREST))
    return {
        "image": photo,
        "label": mask_panel(label, palette, numbered, text_size=text_size),
        "prediction": mask_panel(prediction, palette, numbered, text_size=text_size),
        "errors": errors,
    }


def present_in(*masks: NDArray[Any]) -> list[int]:
    """Return the values that any of the masks holds, sorted."""
    return sorted({*np.concatenate([np.unique(mask) for mask in masks]).tolist()})


def contact_sheet(pictures: Sequence[Image.Image], title: str) -> Image.Image:
    """Put pictures of any sizes below each other and below a title, on one white sheet.

    Raises:
        ValueError: There is no picture.
    """
    if not pictures:
        raise ValueError("there is no picture to put on the sheet: give one or more")
    top = GAP + TEXT_SIZE * 3 // 2
    width = max(GAP + int(font().getlength(title)), *(picture.width for picture in pictures))
    height = top + sum(picture.height for picture in pictures)
    sheet = Image.new("RGB", (width, height), "white")
    ImageDraw.Draw(sheet).text((GAP, GAP), title, INK, font(), anchor="lt")
    for picture in pictures:
        sheet.paste(picture, (0, top))
        top += picture.height
    return sheet
