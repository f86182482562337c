"""CVAT's segmentation masks: labelmap.txt, and a mask of colors for each image."""

from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from danet_lightning.errors import RequestError
from danet_lightning.prepare.images_below import ImagesBelow
from danet_lightning.prepare.shapes import Annotation, Export, Shape, reading

MASKS = "SegmentationClass"


def read_cvat(path: Path, images: ImagesBelow) -> Export:
    """Read the masks beside a labelmap.txt, whose colors it names.

    Args:
        path: labelmap.txt.
        images: Where the images are, those of other folders too.

    Raises:
        RequestError: The map or a mask cannot be read, a mask holds another color, or may be of
            several images.
    """
    colors = _colors(path)
    annotations: list[Annotation] = []
    absent: list[str] = []
    masks = path.parent / MASKS
    photos: dict[str, list[PurePosixPath]] = {}
    for name in images.names:
        if not {MASKS, "SegmentationObject"} & {*name.parts}:
            photos.setdefault(name.stem, []).append(name)
    for mask in sorted(masks.rglob("*.png")):
        place = mask.relative_to(masks).with_suffix("").as_posix()
        same_name = photos.get(mask.stem, [])
        ends = [name for name in same_name if str(name.with_suffix("")).endswith(place)]
        image = images.only(mask.name, ends or same_name)
        if image is None:
            absent.append(mask.name)
        else:
            shapes = partial(_shapes, mask, colors)
            annotations.append(Annotation(image, mask, shapes, None, is_whole=True))
    return Export("CVAT", list(dict.fromkeys(colors.values())), annotations, absent)


def _colors(path: Path) -> dict[int, str]:
    """Return the class of each color, as 0xRRGGBB: lines name:r,g,b:parts:actions."""
    with reading(path, "labelmap.txt of CVAT"):
        lines = path.read_text(encoding="utf-8").splitlines()
        fields = [line.split(":") for line in lines if line.strip() and not line.startswith("#")]
        return {_code(color): name for name, color, *_ in fields}


def _code(color: str) -> int:
    red, green, blue = (int(value) for value in color.split(","))
    return int.from_bytes(bytes([red, green, blue]))


def _shapes(path: Path, colors: dict[int, str]) -> list[Shape]:
    with reading(path, "mask"), Image.open(path) as picture:
        rgb = np.asarray(picture.convert("RGB")).astype(np.int32)
    codes = rgb @ np.array([1 << 16, 1 << 8, 1], np.int32)  # (H, W)
    present = np.unique(codes).tolist()
    for code in present:
        if code not in colors:
            raise RequestError(
                f"{path} holds the color {list(code.to_bytes(3))}, which labelmap.txt does not "
                "name. Export both again, together."
            )
    return [Shape(colors[code], bits=codes == code) for code in present]
