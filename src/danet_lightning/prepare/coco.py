"""COCO's instances: polygons and run lengths of all images in one JSON file."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from danet_lightning.prepare.images_below import ImagesBelow
from danet_lightning.prepare.shapes import (
    Annotation,
    Export,
    Shape,
    corners,
    largest_first,
    reading,
    run_lengths,
)

WHAT = "COCO file of instances"


def is_coco(content: Any) -> bool:
    """Tell whether a JSON file is COCO's."""
    keys = ("images", "annotations", "categories")
    return isinstance(content, dict) and all(isinstance(content.get(key), list) for key in keys)


def read_coco(files: Mapping[Path, Any], images: ImagesBelow) -> Export:
    """Read COCO files, one for each split or one for all; classes are told by their names.

    Args:
        files: Their contents.
        images: Where the images are.

    Raises:
        RequestError: A file does not hold what COCO's do.
    """
    classes: dict[str, None] = {}
    annotations: list[Annotation] = []
    absent: list[str] = []
    others = 0
    for path, content in files.items():
        with reading(path, WHAT):
            names = _names(content)
            classes |= dict.fromkeys(names.values())
            areas: dict[Any, list[Any]] = {each["id"]: [] for each in content["images"]}
            for each in content["annotations"]:
                if each.get("segmentation"):
                    areas[each["image_id"]].append(each)
                else:
                    others += 1  # a box
            for each in content["images"]:
                image = images.find(each["file_name"], path.parent)
                if image is None:
                    absent.append(each["file_name"])
                    continue
                size = (int(each["width"]), int(each["height"]))
                shapes = partial(_shapes, path, areas[each["id"]], names)
                annotations.append(Annotation(image, path, shapes, size))
    return Export("COCO", list(classes), annotations, absent, others)


def _names(content: Any) -> dict[Any, str]:
    """Return the name of each category, without the group of all, which Roboflow puts before
    them.
    """
    categories: Sequence[Any] = sorted(content["categories"], key=lambda each: each["id"])
    used = {each["category_id"] for each in content["annotations"]}
    groups = {each.get("supercategory") for each in categories if each["id"] in used}
    return {
        each["id"]: str(each["name"])
        for each in categories
        if each["id"] in used or each["name"] not in groups
    }


def _shapes(path: Path, areas: Sequence[Any], names: Mapping[Any, str]) -> list[Shape]:
    """Return the areas of one image, decoded."""
    with reading(path, WHAT):
        return largest_first([_shape(area, names) for area in areas])


def _shape(annotation: Any, names: Mapping[Any, str]) -> Shape:
    name, area = names[annotation["category_id"]], annotation["segmentation"]
    if isinstance(area, list):
        return Shape(name, [corners(polygon) for polygon in area])
    if isinstance(area["counts"], str):
        raise ValueError("compressed run lengths: decode them by pycocotools, or export polygons")
    return Shape(name, bits=run_lengths(area["counts"], area["size"]))
