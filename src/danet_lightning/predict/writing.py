"""Segmentation of pictures, file by file: a person's own, or those of a data set.

H, W: the image's own size.
"""

import errno
import json
import math
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from danet_lightning.data.files.images import orientation, read_image
from danet_lightning.disk.names import expanded
from danet_lightning.disk.progress import bar
from danet_lightning.disk.writing import refusal, write_atomically, write_content
from danet_lightning.errors import RequestError, RunError, first_line
from danet_lightning.models.segmenter import Segmenter
from danet_lightning.pictures.masks import Palette, explained_overlay
from danet_lightning.predict.derived import CLASSES, WRITTEN_BY, stamp
from danet_lightning.predict.plan import Job


class Outcome(NamedTuple):
    """What became of the jobs.

    Attributes:
        skipped: A sentence on each image that was not segmented.
        turned: How many of the others have an EXIF orientation.
        reduced: How many of them the network saw reduced.
    """

    skipped: list[str]
    turned: int
    reduced: int


def choose_device(name: str) -> torch.device:
    """Return a device that works; `auto` is the GPU if there is one, else the CPU.

    Raises:
        RequestError: torch does not know the device or cannot use it.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # without CUDA, torch asserts
        raise RequestError(
            f"device={name} cannot be used: {first_line(error)}. Use auto, cpu, cuda or "
            "cuda:1 and so on."
        ) from error
    return torch.device(name)


def predict_images(
    segmenter: Segmenter,
    jobs: Sequence[Job],
    device: torch.device,
    opacity: float = 0.5,
    ids: Sequence[int] | None = None,
    palette: bool = True,
    upright: bool = True,
    max_side: int | None = None,
) -> Outcome:
    """Write each image's class indices, a PNG with the palette, and their overlay on the image.

    Args:
        segmenter: As returned by `danet_lightning.load`.
        jobs: What to read and where to write.
        device: Where the network runs.
        opacity: Of the classes over the image, 0 to 1.
        ids: What is written for each class; the class index by default.
        palette: Whether the written PNG carries the classes' colors.
        upright: Whether images are turned by their EXIF orientation, as viewers do. Those of a
            data set are not: labels belong to the stored pixels.
        max_side: The longest side in pixels that the network sees; what is longer is reduced for
            it, and its mask enlarged to the image's size. None: no limit.

    Returns:
        The images that were skipped because they cannot be read, do not fit into the device's
        memory, or have too long a name; and how many of the others were turned and reduced.

    Raises:
        RequestError: The network does not answer with classes.
        RunError: An output cannot be written.
    """
    segmenter = segmenter.to(device)
    table = np.arange(256, dtype=np.uint8)
    if ids is not None:
        table[: len(ids)] = ids
    skipped: list[str] = []
    turned = reduced = 0

    def skip(reason: str) -> None:
        skipped.append(reason)
        progress.write(f"skipped: {reason}", file=sys.stderr)

    with bar(jobs, desc="predict", unit="image") as progress:
        for job in progress:
            try:
                image = _read(job, upright)  # (H, W, 3)
                seen = seen_size(image.shape[1], image.shape[0], max_side)
            except ValueError as error:
                skip(str(error))
                continue
            try:
                mask = _segment(segmenter, image, seen)  # (H, W)
            except torch.OutOfMemoryError:
                skip(
                    f"{job.image} of {image.shape[1]} x {image.shape[0]} pixels does not fit into "
                    f"the memory of {device}; try a smaller max_side=..., or device=cpu"
                )
                continue
            _write_index(job, table[mask], segmenter.palette if palette else None)
            if job.overlay:
                shown = (image, mask, segmenter.palette, segmenter.classes, opacity)
                _save(explained_overlay(*shown), job.overlay, job)
            turned += orientation(job.image) != 1
            reduced += seen != image.shape[1::-1]
    return Outcome(skipped, turned, reduced)


def seen_size(width: int, height: int, max_side: int | None) -> tuple[int, int]:
    """Return the width and height at which the network sees an image."""
    factor = min(1.0, (max_side or math.inf) / max(width, height))
    return max(1, round(width * factor)), max(1, round(height * factor))


def write_classes(segmenter: Segmenter, output: str) -> None:
    """Leave classes.json beside the predictions: the id, name and RGB color of each class.

    Raises:
        RunError: It cannot be written.
    """
    classes = [
        {"id": index, "name": name, "color": list(color)}
        for index, (name, color) in enumerate(
            zip(segmenter.classes, segmenter.palette, strict=True)
        )
    ]
    content = {"software": WRITTEN_BY, "classes": classes}
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    write_content(expanded(output) / CLASSES, text.encode())


def _read(job: Job, upright: bool) -> NDArray[np.uint8]:
    """Return the image (H, W, 3) of a job whose outputs have a folder now.

    Raises:
        ValueError: It cannot be read, or its name is too long for a prediction.
    """
    if not _make_room(job):
        raise ValueError(
            f"{job.image} has so long a name that its prediction cannot have it; rename the image"
        )
    return read_image(job.image, upright)


def _segment(
    segmenter: Segmenter, image: NDArray[np.uint8], seen: tuple[int, int]
) -> NDArray[np.uint8]:
    """Return the classes (H, W) of an image that the network sees at another width and height."""
    height, width = image.shape[:2]
    if seen == (width, height):
        return segmenter.segment(image).to(torch.uint8).cpu().numpy()
    image = np.asarray(cv2.resize(image, seen, interpolation=cv2.INTER_AREA), np.uint8)
    ids: NDArray[np.uint8] = segmenter.segment(image).to(torch.uint8).cpu().numpy()
    return np.asarray(cv2.resize(ids, (width, height), interpolation=cv2.INTER_NEAREST_EXACT))


def _write_index(job: Job, mask: NDArray[np.uint8], palette: Palette | None) -> None:
    index = Image.fromarray(mask)
    if palette is not None:
        colors = [channel for color in palette for channel in color]
        index.putpalette(colors + [0] * (256 * 3 - len(colors)))  # whole, so that readers agree
    _save(index, job.mask, job)


def _make_room(job: Job) -> bool:
    """Make the folder of a job's outputs; False where the file system takes no names so long.

    Raises:
        RunError: The folder cannot be made.
    """
    try:
        job.mask.parent.mkdir(parents=True, exist_ok=True)
        for path in (job.mask, job.overlay or job.mask):
            with suppress(FileNotFoundError):
                path.with_name(path.name + _part()).lstat()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise RunError(refusal(_failed(job.mask, job), error)) from error
        return False
    return True


def _save(picture: Image.Image, path: Path, job: Job) -> None:
    how = {"pnginfo": stamp(), "compress_level": 3}  # 6, Pillow's, takes four times as long
    write_atomically(
        path,
        lambda file: picture.save(file, "PNG", **how),
        _failed(path, job),
        _part(),
    )


def _part() -> str:
    """Return the end of an unfinished file's name: another command may predict into the same
    folder.
    """
    return f".{os.getpid()}.part"


def _failed(path: Path, job: Job) -> str:
    return f"{path}: the images before {job.image} are done, this one"
