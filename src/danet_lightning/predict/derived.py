"""Pictures that were made of others, and lie among them: earlier predictions, and masks."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from danet_lightning.data.files.pairing import LABEL_SUFFIXES
from danet_lightning.disk.names import composed

WRITTEN_BY = "danet_lightning predict"  # as "Software" in all that `predict` writes
CLASSES = "classes.json"  # beside the predictions
HEAD = 2048  # bytes before the pixels of a PNG with a palette
MOST_COLORS = 64  # of a mask; a photo has hundreds of greys at least


def stamp() -> PngImagePlugin.PngInfo:
    """Return the text by which a PNG is known as a prediction later."""
    info = PngImagePlugin.PngInfo()
    info.add_text("Software", WRITTEN_BY)
    return info


def is_prediction(path: Path) -> bool:
    """Tell whether an earlier command has written a file, by the text in it."""
    if path.suffix not in (".png", ".json") or not path.is_file():  # a pipe might wait for ever
        return False
    try:
        with path.open("rb") as file:
            return WRITTEN_BY.encode() in file.read(HEAD)
    except OSError:  # whoever reads the pixels is told
        return False


def masks(root: Path, images: Sequence[Path]) -> set[Path]:
    """Find the masks among images: few colors, and the name of another image that has many.

    Args:
        root: A folder.
        images: Paths below it. The mask of `NAME.jpg` is called `NAME.png`, anywhere, or that
            with something after it, as in `NAME_mask.png`.
    """
    by_stem: dict[str, list[Path]] = {}
    for image in images:
        by_stem.setdefault(composed(image.stem), []).append(image)
    few: dict[Path, bool] = {}

    def has_few_colors(image: Path) -> bool:
        if image not in few:
            few[image] = _has_few_colors(root / image)
        return few[image]

    def is_mask(image: Path) -> bool:
        named = (other for stem in _beginnings(image) for other in by_stem.get(stem, ()))
        partners = [other for other in named if other != image]
        return (
            bool(partners)
            and has_few_colors(image)
            and not all(has_few_colors(other) for other in partners)
        )

    return {image for image in images if is_mask(image)}


def _beginnings(image: Path) -> Iterator[str]:
    """Return the stem of a name, and what stands in it before a sign that is no letter and no
    digit.
    """
    stem = composed(image.stem)
    yield stem
    for sign in re.finditer(r"[\W_]", stem):
        yield stem[: sign.start()]


def _has_few_colors(path: Path) -> bool:
    if path.suffix.lower() not in LABEL_SUFFIXES or not path.is_file():
        return False
    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):
                return len(np.unique(np.asarray(image))) <= MOST_COLORS
            return image.getcolors(MOST_COLORS) is not None
    except Exception:  # as above; Pillow raises anything
        return False
