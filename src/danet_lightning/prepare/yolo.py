"""YOLO's segments: data.yaml with the names, and a text file of polygons for each image."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from omegaconf import OmegaConf

from danet_lightning.errors import RequestError
from danet_lightning.prepare.images_below import ImagesBelow
from danet_lightning.prepare.shapes import (
    Annotation,
    Export,
    Shape,
    corners,
    largest_first,
    reading,
)


def is_yolo(path: Path) -> bool:
    """Tell whether a YAML file names YOLO's classes."""
    return isinstance(_content(path).get("names"), list | dict)


def read_yolo(path: Path, images: ImagesBelow) -> Export:
    """Read the text files of the images: beside them, or in labels/.

    Args:
        path: data.yaml.
        images: Where the images are.

    Raises:
        RequestError: A file does not hold what YOLO's do, or boxes alone.
    """
    names = _names(_content(path)["names"])
    annotations: list[Annotation] = []
    boxes = 0
    for name in images.names:
        for label in filter(Path.is_file, _labels(images.root, name)):
            with reading(label, "file of YOLO's segments"):
                lines = [line.split() for line in label.read_text(encoding="utf-8").splitlines()]
                areas = [words for words in lines if len(words) > 5]
                boxes += sum(len(words) == 5 for words in lines)
                shapes = [Shape(names[int(words[0])], [corners(words[1:])]) for words in areas]
            ordered = partial(largest_first, shapes)
            image = images.root / name
            annotations.append(Annotation(image, label, ordered, None, in_shares=True))
    return Export("YOLO", list(names.values()), annotations, (), boxes)


def _content(path: Path) -> dict[Any, Any]:
    """Tell what a YAML file holds; nothing where it is none, or no mapping."""
    try:
        content: Any = OmegaConf.to_container(OmegaConf.load(path))
    except Exception:  # of the system, the decoder, the parser
        return {}
    return content if isinstance(content, dict) else {}


def _names(names: Any) -> dict[int, str]:
    pairs = names.items() if isinstance(names, dict) else enumerate(names)
    try:
        return {int(number): str(name) for number, name in sorted(pairs)}
    except (TypeError, ValueError) as error:
        raise RequestError(f"names: {names}: give a name for each number.") from error


def _labels(root: Path, name: PurePosixPath) -> Sequence[Path]:
    """Return the places of an image's text file: images/ is labels/ there, the last one of the
    path.
    """
    text = name.with_suffix(".txt")
    parts = list(text.parts)
    if "images" in parts[:-1]:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return [*dict.fromkeys([root.joinpath(*parts), root / text])]
