"""From the export of an annotation tool to masks that `dataset=folder` reads.

W, H: width and height of an image in pixels.
"""

import json
import re
import shlex
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from hydra.core.override_parser.types import Quote
from numpy.typing import NDArray
from PIL import Image

from danet_lightning.config.spelling import quoted
from danet_lightning.data.base import IGNORE
from danet_lightning.data.files.images import BACK, orientation
from danet_lightning.data.folder import Names
from danet_lightning.disk.names import expanded, files_below, printable
from danet_lightning.disk.progress import bar
from danet_lightning.disk.writing import write_atomically, write_content
from danet_lightning.errors import RequestError, problem
from danet_lightning.prepare.coco import is_coco, read_coco
from danet_lightning.prepare.cvat import read_cvat
from danet_lightning.prepare.images_below import ImagesBelow
from danet_lightning.prepare.labelme import is_labelme, read_labelme
from danet_lightning.prepare.shapes import Annotation, Export, draw
from danet_lightning.prepare.yolo import is_yolo, read_yolo

MASKS = "masks"
LIST = "classes.json"  # beside the masks; who wrote them
IGNORED = "__ignore__"  # Labelme's name for pixels that are no class
WORDS = ("null", "true", "false", "nan", "inf")  # which Hydra's grammar takes for no text
SPLIT = re.compile(r"(^|/)(train|validation|valid|val|test)(?=[\d_/]|$)")
KNOWN = "labelmap.txt (CVAT), *.json of Labelme or COCO, data.yaml with names (YOLO)"


def convert(labels: str, root: str | None, background: str | None) -> None:
    """Write a mask for each annotated image into masks/ of a folder, and say how to train.

    Args:
        labels: The export: a folder, or one file of it.
        root: The folder that the images lie below; None: that of the labels.
        background: The class of the pixels outside of all areas; None: they are ignored.

    Raises:
        RequestError: The labels are of no format known, or damaged; images are missing, or of
            another size; two label files or images would share a mask; `dataset=folder` would
            refuse the classes; masks/ holds files of another origin.
    """
    source = expanded(labels)
    folder = expanded(root) if root else source if source.is_dir() else source.parent
    for path, key in ((source, "labels"), (folder, "root")):
        if not path.exists():
            raise RequestError(f"{key}={path}: no such file or folder. Give that of the export.")
    images = ImagesBelow(folder, MASKS)
    export = _read(source, images)
    if not export.annotations:
        raise RequestError(
            f"labels={source}: none of its {len(export.absent)} annotated images is below "
            f"{folder.absolute()}. Give their folder with root=..."
        )
    classes = _with_background(export, background)
    _require_trainable(source, classes)
    _require_masks_of_their_own(export.annotations)
    target = folder / MASKS
    if target.is_dir() and any(target.iterdir()) and not (target / LIST).is_file():
        raise RequestError(f"{target} holds files of another origin. Move them elsewhere.")
    text = json.dumps({"tool": export.tool, "classes": classes}, indent=1)
    write_content(target / LIST, f"{text}\n".encode())
    for annotation in bar(export.annotations, desc="masks", unit="image"):
        picture = Image.fromarray(_mask(annotation, classes, background))
        name = annotation.image.relative_to(folder).with_suffix(".png")
        write_atomically(target / name, partial(picture.save, format="PNG"))
    _report(export, images, classes)


def _read(source: Path, images: ImagesBelow) -> Export:
    """Tell the format by its files, of which there may be one kind only."""
    names = sorted(files_below(source, lambda error: None)) if source.is_dir() else [source.name]
    paths = [(source if source.is_dir() else source.parent) / name for name in names]
    maps = [path for path in paths if path.name == "labelmap.txt"]
    lists = [path for path in paths if path.suffix in (".yaml", ".yml") and is_yolo(path)]
    contents = {path: _json(path) for path in paths if path.suffix == ".json"}
    coco = {path: content for path, content in contents.items() if is_coco(content)}
    labelme = {path: content for path, content in contents.items() if is_labelme(content)}
    exports = [
        *(read_cvat(path, images) for path in maps),
        *(read_yolo(path, images) for path in lists),
        *([read_coco(coco, images)] if coco else []),
        *([read_labelme(labelme, images)] if labelme else []),
    ]
    if len(exports) != 1:
        kinds = " and ".join(export.tool for export in exports)
        looked = f"labels of {kinds}" if kinds else "no labels"
        raise RequestError(f"labels={source}: {looked} there; give the export of one: {KNOWN}.")
    return exports[0]


def _json(path: Path) -> Any:
    """Return the content of a file, without the copy of the image that Labelme puts in; None if
    none.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if isinstance(content, dict):
        content.pop("imageData", None)
    return content


def _with_background(export: Export, background: str | None) -> list[str]:
    classes = [name for name in export.classes if name != IGNORED]
    if background is None or background in classes:
        return classes
    names = {"_background_", "background"} & {*classes}
    if names and background == "background":  # Labelme's name for it
        return [background, *(name for name in classes if name not in names)]
    if all(annotation.is_whole for annotation in export.annotations):
        return classes
    return [background, *classes]


def _require_trainable(source: Path, classes: Sequence[str]) -> None:
    """Refuse classes that `dataset=folder` would: more than ids, or two of one name."""
    names = [*map(printable, classes)]
    keys = [f"{name}: ${{ stands for the value of a key" for name in names if "${" in name]
    reason = problem(Names, names) or ", ".join(keys)
    if reason:
        raise RequestError(
            f"labels={source}: {len(classes)} classes, the background among them if it is one, "
            f"that cannot be trained on: {reason}. Add, rename, merge or drop classes in the "
            "annotation tool, and export again."
        )


def _require_masks_of_their_own(annotations: Iterable[Annotation]) -> None:
    """Refuse annotations whose masks would be one file, which would lose the labels of one."""
    known: dict[Path, Annotation] = {}
    for each in annotations:
        first = known.setdefault(each.image.with_suffix(""), each)
        if first.image != each.image:
            raise RequestError(
                f"{first.image} and {each.image} would share a mask, as their names differ in the "
                "ending alone. Rename one, in its labels too."
            )
        if first is not each:
            raise RequestError(
                f"{each.image} is labelled twice, in {first.source} and in {each.source}. Merge "
                "the two in the annotation tool and export again, or remove one."
            )


def _mask(
    annotation: Annotation, classes: Sequence[str], background: str | None
) -> NDArray[np.uint8]:
    """Draw the class ids (H, W) of one image, as its pixels are stored."""
    with Image.open(annotation.image) as picture:
        stored = picture.size
    turn = orientation(annotation.image)
    upright = stored[::-1] if turn >= 5 else stored
    is_stored = annotation.is_whole or annotation.size == stored != upright
    width, height = stored if is_stored else upright
    shapes = annotation.shapes()
    whole = [each.bits for each in shapes if each.bits is not None and each.corner is None]
    for size in (annotation.size, *(bits.shape[::-1] for bits in whole)):
        if size not in (None, (width, height)):
            raise RequestError(
                f"{annotation.image} has {width} x {height} pixels, and its labels in "
                f"{annotation.source} were made on {size[0]} x {size[1]}. Use the images that were "
                "labelled."
            )
    ids = {name: index for index, name in enumerate(classes)} | {IGNORED: IGNORE}
    rest = IGNORE if background is None else ids.get(background, IGNORE)
    mask = np.full((height, width), rest, np.uint8)
    scale = (float(width), float(height)) if annotation.in_shares else (1.0, 1.0)
    for shape in shapes:
        draw(mask, shape.scaled(scale), ids.get(shape.name, rest))
    if is_stored or turn == 1:
        return mask
    return np.asarray(Image.fromarray(mask).transpose(BACK[turn]))


def _report(export: Export, images: ImagesBelow, classes: Sequence[str]) -> None:
    """Print what was written, what was left out, and the command that checks it."""
    folder, count = images.root, len(export.annotations)
    print(f"{export.tool}: {count} masks in {folder / MASKS}")
    names = [*map(printable, classes)]
    print(f"classes        {', '.join(f'{index} {name}' for index, name in enumerate(names))}")
    if export.others:
        print(f"left out       {export.others} points, lines or boxes, which are no areas")
    if export.absent:
        absent = printable(export.absent[0])
        print(f"not there      {len(export.absent)} annotated images, as {absent}")
    labelled = {annotation.image for annotation in export.annotations}
    places = _pattern([image.parent.relative_to(folder).as_posix() for image in labelled])
    inside = [name for name in images.names if _is_inside(name.parent.as_posix(), places)]
    without = sum(folder / name not in labelled for name in inside)
    if without:
        print(f"without labels {without} images, which dataset.skip_unlabelled leaves out")
    has_val = any(re.search(r"(^|/)val", str(name)) for name in images.names)
    options = [
        f"dataset.root={folder}",
        f"dataset.classes=[{','.join(map(_quoted, names))}]",
        f"dataset.images={places}",
        f"dataset.masks={MASKS if places == '.' else f'{MASKS}/{places}'}",
        *(["dataset.skip_unlabelled=true"] if without else []),
        *([] if "{split}" in places and has_val else ["dataset.val_fraction=0.2"]),
    ]
    print(" ".join(["next           danet check dataset=folder", *map(shlex.quote, options)]))


def _pattern(folders: Sequence[str]) -> str:
    """Return the one pattern that folders of images follow, with {split}; else the folder of
    all.
    """
    patterns = {SPLIT.sub(r"\1{split}", folder, count=1) for folder in folders}
    if len(patterns) == 1:
        return patterns.pop()
    shared: list[str] = []
    for parts in zip(*(folder.split("/") for folder in folders), strict=False):
        if len({*parts}) > 1:
            break
        shared.append(parts[0])
    return "/".join(shared) or "."


def _is_inside(folder: str, pattern: str) -> bool:
    place = SPLIT.sub(r"\1{split}", folder, count=1) if "{split}" in pattern else folder
    return pattern == "." or place == pattern or place.startswith(f"{pattern}/")


def _quoted(name: str) -> str:
    """Return a name as Hydra reads it in a list: as text."""
    if re.fullmatch(r"[A-Za-z_][\w-]*", name) and name.lower() not in WORDS:
        return name
    return quoted(name, Quote.double)
