"""Segmentation of a person's own pictures, file by file.

H, W: the image's own size.
"""

import os
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from tqdm import tqdm

from danet_lightning.errors import RequestError
from danet_lightning.images import find_images, read_image
from danet_lightning.inference import segment
from danet_lightning.pictures import Palette, overlay
from danet_lightning.writing import write_atomically


class Job(NamedTuple):
    """An image and the files its prediction is written to."""

    image: Path
    mask: Path
    overlay: Path | None  # a benchmark's server wants none


def plan(request: str, output: str) -> list[Job]:
    """Pair every image with its outputs, so that no file is written twice and no image is lost.

    The input's sub-folders are kept. `NAME.png` and `NAME_overlay.png` take the image's name
    without its suffix, or with it where two images would otherwise write the same file.

    Args:
        request: an image, a folder or a glob pattern, see `find_images`.
        output: the folder to write to. If it lies inside the input, nothing in it is read.

    Raises:
        RequestError: nothing to segment, or an image would be overwritten.
    """
    if not output.strip():
        raise RequestError("output is empty. Give the folder for the predictions.")
    folder = Path(output).expanduser()
    root, images = find_images(request)
    if root == Path(request).expanduser() and root.resolve() == folder.resolve():
        raise RequestError(
            f"output={output} is the input folder, whose images would mix with the predictions. "
            "Choose another folder; one inside it will do."
        )
    if root.resolve() in folder.resolve().parents:
        images = _outside(root, images, folder)
    jobs = [
        Job(root / image, *(folder / target for target in _targets(name)))
        for image, name in _names(images).items()
    ]
    _refuse_overwriting(jobs)
    return jobs


def _outside(root: Path, images: Sequence[Path], folder: Path) -> list[Path]:
    earlier = folder.resolve()
    kept = [image for image in images if not (root / image).resolve().is_relative_to(earlier)]
    if not kept:
        raise RequestError(
            f"output={folder} holds all {len(images)} images of the input. Choose another folder."
        )
    return kept


def _targets(name: Path) -> tuple[Path, Path]:
    return name.with_name(f"{name.name}.png"), name.with_name(f"{name.name}_overlay.png")


def _names(images: Sequence[Path]) -> dict[Path, Path]:
    """The name each image's outputs start with, relative like the images."""
    names = {image: image.with_suffix("") for image in images}
    while True:
        # Many file systems take A.png and a.png for the same file.
        keys = {
            image: [str(target).casefold() for target in _targets(name)]
            for image, name in names.items()
        }
        claims = Counter(key for pair in keys.values() for key in pair)
        clashing = [
            image
            for image, name in names.items()
            if name != image and any(claims[key] > 1 for key in keys[image])
        ]
        if not clashing:
            return names
        names.update((image, image) for image in clashing)


def _refuse_overwriting(jobs: Sequence[Job]) -> None:
    written = {path.resolve() for job in jobs for path in (job.mask, job.overlay) if path}
    for job in jobs:
        if job.image.resolve() in written:
            raise RequestError(
                f"output={job.mask.parent}: a prediction would overwrite the image {job.image}. "
                "Choose another folder."
            )


def prepare_output(output: str) -> None:
    """Create the output folder and try to write to it, before any work is done.

    Raises:
        RequestError: predictions could not be written there.
    """
    folder = Path(output).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise RequestError(
            f"output={output} cannot be written: {error.strerror}. Choose another folder."
        ) from error


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
            f"device={name} cannot be used: {str(error).splitlines()[0]}. Use auto, cpu, cuda or "
            "cuda:1 and so on."
        ) from error
    return torch.device(name)


def predict_images(
    net: nn.Module,
    jobs: Sequence[Job],
    device: torch.device,
    opacity: float = 0.5,
    ids: Sequence[int] | None = None,
    palette: bool = True,
) -> list[str]:
    """Write each image's class indices, a PNG with the palette, and their overlay on the image.

    Args:
        net: as returned by `danet_lightning.load`.
        jobs: what to read and where to write.
        device: where the network runs.
        opacity: of the classes over the image, 0 to 1.
        ids: what is written for each class; the class index by default.
        palette: whether the written PNG carries the classes' colours.

    Returns:
        A sentence on each image that was skipped because it cannot be read, or does not fit into
        the device's memory.

    Raises:
        RequestError: opacity out of range.
        RunError: an output cannot be written.
    """
    if not 0 <= opacity <= 1:
        raise RequestError(f"opacity={opacity}: give a number from 0 (image) to 1 (classes only).")
    net = net.to(device)
    table = np.arange(256, dtype=np.uint8)
    if ids is not None:
        table[: len(ids)] = ids
    skipped = []
    with _progress(jobs) as bar:
        for job in bar:
            try:
                image = read_image(job.image)  # (H, W, 3)
                mask = _segment(net, image, job.image, device)  # (H, W)
            except ValueError as error:
                skipped.append(str(error))
                bar.write(f"skipped: {error}", file=sys.stderr)
                continue
            colours: Palette = net.palette  # type: ignore[assignment]
            _write_index(job, table[mask], colours if palette else None)
            if job.overlay:
                _save(Image.fromarray(overlay(image, mask, colours, opacity)), job.overlay, job)
    return skipped


def _progress(jobs: Sequence[Job]) -> "tqdm[Job]":
    interactive = sys.stderr.isatty()
    return tqdm(
        jobs,
        desc="predict",
        unit="image",
        dynamic_ncols=interactive,
        mininterval=0.2 if interactive else 15,  # a log file wants a line now and then
    )


def _segment(
    net: nn.Module, image: NDArray[np.uint8], path: Path, device: torch.device
) -> NDArray[np.uint8]:
    batch = torch.from_numpy(image).permute(2, 0, 1)[None]  # (1, 3, H, W)
    try:
        return segment(net, batch.to(device))[0].to(torch.uint8).cpu().numpy()
    except torch.OutOfMemoryError as error:
        height, width = image.shape[:2]
        raise ValueError(
            f"{path} of {width} x {height} pixels does not fit into the memory of {device}; "
            "try device=cpu, or a smaller picture"
        ) from error


def _write_index(job: Job, mask: NDArray[np.uint8], palette: Palette | None) -> None:
    index = Image.fromarray(mask)
    if palette is not None:
        colours = [channel for colour in palette for channel in colour]
        index.putpalette(colours + [0] * (256 * 3 - len(colours)))  # whole, so that readers agree
    _save(index, job.mask, job)


def _save(picture: Image.Image, path: Path, job: Job) -> None:
    write_atomically(
        path,
        lambda file: picture.save(file, "PNG"),
        f"{path}: the images before {job.image} are done, this one",
        f".{os.getpid()}.part",  # another command may predict into the same folder
    )
