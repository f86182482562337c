"""A mask as a picture for people to look at, by itself or over its image.

H, W: pixels. Colors are RGB, 0 to 255; `palette` holds one for each class, in index order.
"""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from danet_lightning.data.base import IGNORE
from danet_lightning.errors import checked
from danet_lightning.pictures import Opacity
from danet_lightning.pictures.color_vision import look_alike
from danet_lightning.pictures.legend import TEXT_SIZE, hatch, legend, mark

Palette = Sequence[Sequence[int]]

PANEL = 480  # longer side of a panel in pixels: four fit side by side on a wide screen
NEAREST = Image.Resampling.NEAREST


def colorize(mask: NDArray[Any], palette: Palette) -> NDArray[np.uint8]:
    """Give each pixel the color of its class; ignored ones (255) are black.

    Args:
        mask: (H, W) class indices.
        palette: One color a class.

    Returns:
        (H, W, 3) RGB.

    Raises:
        ValueError: The mask holds an index that the palette does not.
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
        palette: One color a class.
        opacity: 0 is the image, 1 the classes.

    Returns:
        (H, W, 3) RGB.

    Raises:
        ValueError: Mask and image differ in size, or the opacity is not between 0 and 1.
    """
    require_same_size(image, mask)
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
        palette: One color a class.
        classes: Their names.
        opacity: 0 is the image, 1 the classes.

    Returns:
        The picture, whose first H rows and W columns are the overlay.

    Raises:
        ValueError: As `overlay`.
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


def panel_size(width: int, height: int, longest: int = PANEL) -> tuple[int, int]:
    """Return the (width, height) to which a picture of classes is enlarged, by a whole factor, or
    reduced.
    """
    factor = longest / max(width, height)
    if factor >= 1:
        factor = int(factor)  # whole, so that all pixels of a mask stay equally large
    return max(1, round(width * factor)), max(1, round(height * factor))


def mask_panel(
    mask: NDArray[Any],
    palette: Palette,
    numbered: Collection[int],
    longest: int = PANEL,
    text_size: int = TEXT_SIZE,
) -> Image.Image:
    """Draw a mask in the one way in which all of our pictures do.

    Each class has its color, ignored pixels are hatched, and the classes that could be taken for
    one another have outlines and numbers.

    Args:
        mask: (H, W) class indices, 255 for ignored pixels.
        palette: One color a class.
        numbered: The classes with outlines and numbers.
        longest: Side of the picture in pixels, see `panel_size`.
        text_size: Of the numbers, in pixels.
    """
    size = panel_size(mask.shape[1], mask.shape[0], longest)
    colors = Image.fromarray(colorize(mask, palette)).resize(size, NEAREST)
    ids = np.asarray(Image.fromarray(mask.astype(np.uint8)).resize(size, NEAREST))
    colors.paste(hatch(size, max(4, text_size // 4)), mask=Image.fromarray(ids == IGNORE))
    mark(colors, ids, numbered, text_size)
    return colors


def require_same_size(image: NDArray[np.uint8], mask: NDArray[Any]) -> None:
    """Raise a ValueError with both sizes unless image and mask agree in (H, W)."""
    if image.shape[:2] != mask.shape:
        raise ValueError(
            f"image and mask must agree in (H, W), and are {image.shape[:2]} and {mask.shape}"
        )
