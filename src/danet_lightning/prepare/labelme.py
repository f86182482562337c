"""Labelme's shapes: one JSON file beside each image."""

import base64
import io
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from danet_lightning.prepare.images_below import ImagesBelow
from danet_lightning.prepare.shapes import Annotation, Export, Shape, corners, reading

ARC = np.linspace(0, 2 * math.pi, 180, endpoint=False)  # the corners of a circle


def is_labelme(content: Any) -> bool:
    """Tell whether a JSON file is Labelme's."""
    return isinstance(content, dict) and isinstance(content.get("shapes"), list)


def read_labelme(files: Mapping[Path, Any], images: ImagesBelow) -> Export:
    """Read Labelme files; classes are sorted by their names, as there is no list of them.

    Args:
        files: Their contents.
        images: Where the images are.

    Raises:
        RequestError: A file does not hold what Labelme's do.
    """
    annotations: list[Annotation] = []
    absent: list[str] = []
    classes: set[str] = set()
    others = 0
    for path, content in files.items():
        with reading(path, "Labelme file"):
            shapes = [shape for each in content["shapes"] if (shape := _shape(each)) is not None]
            others += len(content["shapes"]) - len(shapes)
            image = images.find(content["imagePath"], path.parent)
            if image is None:
                absent.append(content["imagePath"])
                continue
            width, height = content.get("imageWidth"), content.get("imageHeight")
            size = (int(width), int(height)) if width and height else None
            classes |= {shape.name for shape in shapes}
            annotations.append(Annotation(image, path, partial(list, shapes), size))
    return Export("Labelme", sorted(classes), annotations, absent, others)


def _shape(content: Any) -> Shape | None:
    """Return one of the shapes; None for points and lines, which have no area."""
    name, points = str(content["label"]), np.asarray(content["points"], np.float64)
    match content.get("shape_type") or "polygon":
        case "polygon":
            return Shape(name, [corners(points)])
        case "rectangle":
            (left, top), (right, bottom) = points
            box = [left, top, right, top, right, bottom, left, bottom]
            return Shape(name, [corners(box)])
        case "circle":
            center, edge = points
            ring = np.stack([np.cos(ARC), np.sin(ARC)], -1)
            return Shape(name, [corners(center + math.dist(center, edge) * ring)])
        case "mask":
            with Image.open(io.BytesIO(base64.b64decode(content["mask"]))) as picture:
                bits = np.asarray(picture.convert("L")) > 0
            x, y = np.rint(points.min(0)).astype(int).tolist()
            return Shape(name, bits=bits, corner=(x, y))
        case _:
            return None
