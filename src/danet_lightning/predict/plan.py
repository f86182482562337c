"""Where the predictions of images go: no file is written twice, and no image is overwritten."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from danet_lightning.disk.names import composed, expanded, real_path
from danet_lightning.errors import RequestError
from danet_lightning.predict.derived import is_prediction
from danet_lightning.predict.search import find_images


class Job(NamedTuple):
    """An image and the files its prediction is written to."""

    image: Path
    mask: Path
    overlay: Path | None  # a benchmark's server wants none


def plan(request: str, output: str) -> tuple[list[Job], Counter[str]]:
    """Pair every image with its outputs, so that no file is written twice and no image is lost.

    The input's sub-folders are kept. `NAME.png` and `NAME_overlay.png` take the image's name
    without its suffix, or with it where two images would otherwise write the same file.

    Args:
        request: An image, a folder or a glob pattern, see `find_images`.
        output: The folder to write to. If it lies inside the input, nothing in it is read.

    Returns:
        The jobs, among them files that are images and cannot be read, which predicting will name;
        and how many files are no images, by suffix.

    Raises:
        RequestError: Nothing to segment, or an image would be overwritten.
    """
    folder = expanded(output)
    root, images, unread, others = find_images(request)
    if root == expanded(request) and real_path(root) == real_path(folder):
        raise RequestError(
            f"output={output} is the input folder, whose images would mix with the predictions. "
            "Choose another folder; one inside it will do."
        )
    if real_path(root) in real_path(folder).parents:
        count = len(images) + len(unread)
        images, unread = (_outside(root, each, folder) for each in (images, unread))
        if not images and not unread:
            raise RequestError(
                f"output={folder} holds all {count} images of the input. Choose another folder."
            )
    jobs = jobs_of([(root / image, image) for image in images], folder)
    jobs += [Job(root / name, folder / f"{name}.png", None) for name in unread]
    return sorted(jobs), others


def jobs_of(images: Sequence[tuple[Path, Path]], folder: Path) -> list[Job]:
    """Choose where the predictions of images go, as `plan` says.

    Args:
        images: The file of each, and the path with suffix that it is known by.
        folder: Where to.

    Raises:
        RequestError: An image would be overwritten.
    """
    names = _names([known for _, known in images])
    jobs = [
        Job(image, *(folder / target for target in _targets(names[known])))
        for image, known in images
    ]
    written = {real_path(path) for job in jobs for path in (job.mask, job.overlay) if path}
    for job in jobs:
        if real_path(job.image) in written:
            raise RequestError(
                f"output={job.mask.parent}: a prediction would overwrite the image {job.image}. "
                "Choose another folder."
            )
    return jobs


def refuse_foreign(jobs: Sequence[Job], *others: Path) -> None:
    """Refuse to write over what `predict` has not written: masks that a person has made, say.

    Args:
        jobs: Of the predictions.
        others: What is written beside them.

    Raises:
        RequestError: A file is there under the name of a prediction.
    """
    written = [path for job in jobs for path in (job.mask, job.overlay) if path]
    for path in [*written, *others]:
        if os.path.lexists(path) and not is_prediction(path):
            raise RequestError(
                f"output: {path} exists, and is no earlier prediction. Choose another folder, or "
                "remove it."
            )


def _outside(root: Path, images: Sequence[Path], folder: Path) -> list[Path]:
    earlier = real_path(folder)
    return [image for image in images if not real_path(root / image).is_relative_to(earlier)]


def _targets(name: Path) -> tuple[Path, Path]:
    return name.with_name(f"{name.name}.png"), name.with_name(f"{name.name}_overlay.png")


def _names(images: Sequence[Path]) -> dict[Path, Path]:
    """Return the name each image's outputs start with, relative like the images."""
    names = {image: image.with_suffix("") for image in images}
    while True:
        # Many file systems take A.png and a.png for the same file, and some both forms of ä.
        keys = {
            image: [composed(str(target).casefold()) for target in _targets(name)]
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
