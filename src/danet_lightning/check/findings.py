"""List what can be wrong with a data set, and inspect one image with its label.

H, W: height and width of an image in pixels; C: number of classes.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from danet_lightning.data.base import IGNORE, DataError, Pixels, Source, histogram
from danet_lightning.data.files.images import orientation
from danet_lightning.errors import RequestError

WARNINGS = {
    "count": "another number of images than published",
    "left_out": "splits that are not there",
    "unlabelled": "images without a mask, which are left out",
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
        """Tell whether the data set can be used all the same."""
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
    image, mask, errors = _read(source, index)
    findings = [finding_of(error, "unusable", name=name) for error in errors]
    counts = np.zeros(256, np.int64)
    if mask is not None:
        counts = histogram(mask)
        findings += _label_findings(counts, num_classes, name, source, index)
    if image is None:
        return Content(None, b"", counts, findings)
    findings = _with_orientation(findings, source.paths(index), name)
    height, width = image.shape[:2]
    digest = hashlib.sha256(f"{width} x {height}".encode())
    digest.update(np.ascontiguousarray(image).data)
    return Content((width, height), digest.digest(), counts, findings)


def finding_of(error: Exception, kind: str, split: str = "", name: str = "") -> Finding:
    """Turn an error into a finding, of the given kind if the error does not tell its own."""
    splits = (split,) if split else ()
    if isinstance(error, DataError):
        kind = error.kind if error.kind in ERRORS | WARNINGS else kind
        files = tuple(str(file) for file in error.files)
        return Finding(kind, splits, error.fact, error.remedy, name, files)
    if isinstance(error, RequestError):
        return Finding(kind, splits, str(error), name=name)
    return Finding(kind, splits, f"{name}: {type(error).__name__}: {error}", name=name)


def _read(source: Source, index: int) -> tuple[Pixels | None, Pixels | None, list[Exception]]:
    """Read image and label; apart if that fails, so that a fault of one hides none of the other."""
    name = source.name(index)
    try:
        image, mask = source.read(index)
    except Exception as error:  # a source of the user's may raise anything
        if not source.paths(index):
            return None, None, [error]
        parts: list[Pixels | None] = []
        errors = [error] if getattr(error, "kind", "") == "size_mismatch" else []
        for read_part in (source.read_image, source.read_mask):
            try:
                parts.append(read_part(index))
            except Exception as part_error:  # as above
                parts.append(None)
                errors.append(part_error)
        return parts[0], parts[1], errors or [error]
    if image.shape[:2] == mask.shape:
        return image, mask, []
    text = f"{name}: the image is {image.shape}, the mask {mask.shape}."
    return image, mask, [DataError(text, "size_mismatch", "Make (H, W) the same.")]


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
    orientations = {str(path): orientation(path) for path in paths if path.suffix != ".mat"}
    turned = {path: number for path, number in orientations.items() if number != 1}
    if not turned:
        return findings
    text = " ".join(
        f"{path} has the EXIF orientation {number}: viewers turn or mirror it."
        for path, number in turned.items()
    )
    kinds = [finding.kind for finding in findings]
    if "size_mismatch" in kinds:
        place = kinds.index("size_mismatch")
        explained = replace(findings[place], message=f"{findings[place].message} {text}")
        return [*findings[:place], explained, *findings[place + 1 :]]
    remedy = "See that the label lies on the image as both are stored, then remove the tag."
    return [*findings, Finding("exif_rotation", (), text, remedy, name, tuple(turned))]
