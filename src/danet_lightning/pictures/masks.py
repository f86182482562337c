"""Pictures of masks and predictions, for people to look at.

H, W: pixels. Colors are RGB, 0 to 255; `palette` holds one for each class, in index order.
"""

from collections.abc import Collection, Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydantic import Field

from danet_lightning.data.base import IGNORE
from danet_lightning.errors import checked
from danet_lightning.pictures.color_vision import look_alike
from danet_lightning.pictures.legend import INK, TEXT_SIZE, font, hatch, legend, mark

Palette = Sequence[Sequence[int]]
Opacity = Annotated[float, Field(ge=0, le=1)]

PANEL = 480  # longer side of a panel in pixels: four fit side by side on a wide screen
GAP = 12
NEAREST = Image.Resampling.NEAREST
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


@checked
def explained_overlay(
    image: NDArray[np.uint8],
    mask: NDArray[Any],
    palette: Palette,
    classes: Sequence[str],
    opacity: Opacity = 0.5,
) -> Image.Image:
    """Blend the classes over the image, as `overlay`, above a legend of those that are there.

    Areas of classes that color-blind people would take for one another have outlines and numbers.

    Args:
        image: (H, W, 3) RGB.
        mask: (H, W) class indices.
        palette: one color a class.
        classes: their names.
        opacity: 0 is the image, 1 the classes.

    Returns:
        The picture, whose first H rows and W columns are the overlay.

    Raises:
        ValueError: as `overlay`.
    """
    height, width = mask.shape
    picture = Image.fromarray(overlay(image, mask, palette, opacity))
    text_size = max(TEXT_SIZE, width // 80)  # a photo's is read where the photo fills a screen
    present = np.unique(mask).tolist()
    numbered = look_alike(palette, present)
    mark(picture, mask, numbered, text_size)
    margin = text_size // 2
    room = max(width, PANEL // 2) - margin
    names = legend(present, palette, classes, room, numbered, text_size)
    canvas = Image.new("RGB", (margin + room, height + names.height + margin), "white")
    canvas.paste(picture, (0, 0))
    canvas.paste(names, (margin, height + margin // 2))
    return canvas


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
        palette: one color a class.
        classes: their names.

    Raises:
        ValueError: the three differ in size, or an index is not in the palette.
    """
    drawn = panels(image, label, prediction, palette)
    size = drawn["image"].size
    cell = max(size[0], 100)  # the titles need 100 pixels
    width = len(drawn) * cell + (len(drawn) + 1) * GAP
    present = _present(label, prediction)
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
    numbered = look_alike(palette, _present(label, prediction))
    photo = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
    errors = Image.blend(photo.convert("L").convert("RGB"), Image.new("RGB", size, "white"), 0.6)
    for where, color in (
        ((prediction != label) & (label != IGNORE), Image.new("RGB", size, ERROR)),
        (label == IGNORE, hatch(size)),
    ):
        errors.paste(color, mask=Image.fromarray(where).resize(size, Image.Resampling.NEAREST))
    return {
        "image": photo,
        "label": _mask_panel(label, palette, size, numbered),
        "prediction": _mask_panel(prediction, palette, size, numbered),
        "errors": errors,
    }


def _present(*masks: NDArray[Any]) -> list[int]:
    """Return the values that any of the masks holds, sorted."""
    return sorted({*np.concatenate([np.unique(mask) for mask in masks]).tolist()})


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


def _mask_panel(
    mask: NDArray[Any], palette: Palette, size: tuple[int, int], numbered: Collection[int]
) -> Image.Image:
    colors = Image.fromarray(colorize(mask, palette)).resize(size, NEAREST)
    ids = np.asarray(Image.fromarray(mask.astype(np.uint8)).resize(size, NEAREST))
    colors.paste(hatch(size), mask=Image.fromarray(ids == IGNORE))
    mark(colors, ids, numbered)
    return colors


def contact_sheet(pictures: Sequence[Image.Image], title: str) -> Image.Image:
    """Put pictures of any sizes below each other and below a title, on one white sheet.

    Raises:
        ValueError: there is no picture.
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
