"""What can be wrong with a data set, and what one image and its label show.

H, W: height and width of an image in pixels; C: number of classes.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from danet_lightning.data.base import IGNORE, DataError, Pixels, Source
from danet_lightning.data.files import images
from danet_lightning.errors import RequestError

WARNINGS = {
    "count": "another number of images than published",
    "left_out": "splits that are not there",
    "no_labels": "splits without labels",
    "all_ignored": "masks that are ignored entirely",
    "some_0_255": "0/255 masks among others, where 255 is ignored",
    "exif_rotation": "files that a viewer turns (EXIF), while training reads them as stored",
    "shared_files": "files in two splits",
}
ERRORS = {
    "absent": "splits that are not there",
    "layout": "splits that cannot be read",
    "empty_split": "empty splits",
    "missing_partner": "images without label, or labels without image",
    "ambiguous_name": "images that share a name",
    "unreadable": "files that are damaged or of the wrong kind",
    "color_mask": "labels that hold colors (RGB masks) instead of class indices",
    "mask_0_255": "0/255 masks instead of class indices",
    "illegal_label": "labels that are no class",
    "ambiguous_label": "labels that can be read in two ways",
    "lossy_label": "labels of a format with loss, as JPEG",
    "size_mismatch": "images and labels that differ in size",
    "duplicate": "images that are in two splits under two names",
    "unusable": "images that the data set cannot read",
}


@dataclass(frozen=True)
class Finding:
    """Something to know about a data set.

    Attributes:
        kind: A key of `ERRORS` or `WARNINGS`.
        splits: The splits it concerns.
        message: What is the matter, with the names of the files.
        remedy: What to do about it.
        name: The image's id; empty if it concerns more than one.
        files: All files at fault.
    """

    kind: str
    splits: tuple[str, ...]
    message: str
    remedy: str = ""
    name: str = ""
    files: tuple[str, ...] = ()

    @property
    def is_warning(self) -> bool:
        """Whether the data set can be used all the same."""
        return self.kind in WARNINGS


@dataclass(frozen=True)
class Content:
    """What one image and its label hold; a part that cannot be read adds nothing.

    Attributes:
        size: (width, height) of the image.
        digest: SHA-256 of the image's size and decoded pixels.
        counts: (256,) pixels of each train id.
        findings: What is wrong with them.
    """

    size: tuple[int, int] | None
    digest: bytes
    counts: NDArray[np.int64]
    findings: list[Finding] = field(default_factory=list)


def inspect(source: Source, index: int, num_classes: int) -> Content:
    """Read one image and its label; whatever is raised becomes a finding."""
    name = source.name(index)
    paths = source.paths(index)
    image, mask, errors = _read(source, index)
    findings = [finding_of(error, "unusable", name=name) for error in errors]
    counts = np.zeros(256, np.int64)
    if mask is not None:
        counts += np.array(Image.fromarray(mask).histogram())  # a tenth of np.bincount's time
        findings += _label_findings(counts, num_classes, name, source, index)
    if image is None:
        return Content(None, b"", counts, findings)
    findings = _with_orientation(findings, paths, name)
    height, width = image.shape[:2]
    digest = hashlib.sha256(f"{width} x {height}".encode())
    digest.update(np.ascontiguousarray(image).data)
    return Content((width, height), digest.digest(), counts, findings)


def finding_of(error: Exception, kind: str, split: str = "", name: str = "") -> Finding:
    """Turn an error into a finding, of the given kind if the error does not tell its own."""
    splits = (split,) if split else ()
    if isinstance(error, RequestError) and not isinstance(error, DataError):
        error = DataError(str(error))
    if not isinstance(error, DataError):
        return Finding(kind, splits, f"{name}: {type(error).__name__}: {error}", name=name)
    kind = error.kind if error.kind in ERRORS or error.kind in WARNINGS else kind
    files = tuple(str(file) for file in error.files)
    return Finding(kind, splits, error.fact, error.remedy, name, files)


def _read(source: Source, index: int) -> tuple[Pixels | None, Pixels | None, list[Exception]]:
    try:
        image, mask = source.read(index)
    except Exception as error:  # a source of the user's may raise anything
        return _read_apart(source, index, error)
    if image.shape[:2] != mask.shape:
        text = f"{source.name(index)}: the image is {image.shape}, the mask {mask.shape}."
        return image, mask, [DataError(text, "size_mismatch", "Make (H, W) the same.")]
    return image, mask, []


def _read_apart(
    source: Source, index: int, error: Exception
) -> tuple[Pixels | None, Pixels | None, list[Exception]]:
    """Read image and label on their own, so that the fault of one hides nothing in the other."""
    if not source.paths(index):
        return None, None, [error]
    image, mask = None, None
    is_size = isinstance(error, DataError) and error.kind == "size_mismatch"
    errors = [error] if is_size else []
    try:
        image = source.read_image(index)
    except Exception as own:  # as above
        errors.append(own)
    try:
        mask = source.read_mask(index)
    except Exception as own:  # as above
        errors.append(own)
    return image, mask, errors or [error]


def _label_findings(
    counts: NDArray[np.int64], num_classes: int, name: str, source: Source, index: int
) -> list[Finding]:
    files = tuple(str(path) for path in source.paths(index)[-1:])
    shown = files[0] if files else name
    illegal = np.flatnonzero(counts[num_classes:IGNORE]) + num_classes
    if illegal.size:
        text = f"{shown}: train ids {illegal.tolist()}, and the classes are 0..{num_classes - 1}."
        return [Finding("illegal_label", (), text, "Name a class for each.", name, files)]
    if 0 < counts.sum() == counts[IGNORE]:
        text = f"{shown}: every pixel is ignored."
        remedy = "Remove the pair if it is not meant: it adds nothing."
        return [Finding("all_ignored", (), text, remedy, name, files)]
    return []


def _with_orientation(findings: list[Finding], paths: Sequence[Path], name: str) -> list[Finding]:
    """Explain a size mismatch by the EXIF rotation of image or label, or else warn of that."""
    turned = {str(path): images.orientation(path) for path in paths if path.suffix != ".mat"}
    turned = {path: orientation for path, orientation in turned.items() if orientation != 1}
    if not turned:
        return findings
    text = " ".join(
        f"{path} has the EXIF orientation {orientation}: viewers turn or mirror it."
        for path, orientation in turned.items()
    )
    if any(each.kind == "size_mismatch" for each in findings):
        return [
            replace(each, message=f"{each.message} {text}")
            if each.kind == "size_mismatch"
            else each
            for each in findings
        ]
    remedy = "See that the label lies on the image as both are stored, then remove the tag."
    return [*findings, Finding("exif_rotation", (), text, remedy, name, tuple(turned))]
