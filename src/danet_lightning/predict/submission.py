"""Predictions for a split of a data set, also in the form that a benchmark's server takes."""

import os
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Literal, NamedTuple

from hydra.utils import instantiate
from omegaconf import DictConfig

from danet_lightning.config.building import DATASET, build_over
from danet_lightning.disk.names import expanded
from danet_lightning.disk.writing import write_atomically
from danet_lightning.errors import RequestError
from danet_lightning.predict import plan as prediction_plan
from danet_lightning.predict.plan import Job


@dataclass(frozen=True)
class ServerFiles:
    """How a server wants its files.

    Attributes:
        path: Of an image's prediction, with {name} for the image's.
        raw_ids: Whether the data set's own label ids are written instead of train ids.
        palette: Whether the PNG carries the classes' colors.
        archive: What all files are packed into, beside the output folder.
    """

    path: str
    raw_ids: bool
    palette: bool
    archive: Literal["zip", "tar.gz"]

    def jobs(self, images: Sequence[tuple[str, Path]], output: Path) -> list[Job]:
        """Return one prediction for each (name, image), without overlay."""
        return [Job(path, output / self.path.format(name=name), None) for name, path in images]

    def pack(self, jobs: Sequence[Job], output: Path) -> Path:
        """Pack the predictions; the archive is either whole or not there."""
        whole = output.absolute()  # "." has no name
        target = whole.with_name(f"{whole.name}.{self.archive}")
        names = [(job.mask, job.mask.relative_to(output).as_posix()) for job in jobs]

        def write(file: BinaryIO) -> None:
            if self.archive == "zip":
                with zipfile.ZipFile(file, "w") as packed:  # PNGs are compressed already
                    for path, name in names:
                        packed.write(path, name)
            else:
                with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as packed_tar:
                    for path, name in names:
                        packed_tar.add(path, name)

        write_atomically(target, write, suffix=f".{os.getpid()}.part")  # as each prediction
        return target


class Work(NamedTuple):
    """The predictions to write, and in which form."""

    jobs: Sequence[Job]
    form: ServerFiles | None = None
    ids: Sequence[int] | None = None
    others: Mapping[str, int] = MappingProxyType({})  # files that are no images, by suffix
    is_dataset: bool = True  # whether the images have labels, which belong to the stored pixels


def plan(config: DictConfig, classes: Sequence[str], stored: Mapping[str, Any]) -> Work:
    """Pair images with what is written for them: people's own, or a split of a data set.

    Args:
        config: Of `predict`.
        classes: The names of the classes that the network knows.
        stored: The configuration in the checkpoint.

    Raises:
        RequestError: The images are not there, or do not belong to the network.
    """
    if config.input:
        if config.format:
            raise RequestError("format: a server's files are of a data set: dataset=... split=...")
        jobs, others = prediction_plan.plan(config.input, config.output)
        return Work(jobs, others=others, is_dataset=False)
    data = build_over(stored["dataset"], config.dataset, DATASET, config.trusted)
    if tuple(data.classes) != tuple(classes):
        raise RequestError(
            f"dataset: its classes {list(data.classes)} are not the checkpoint's "
            f"{list(classes)}; predict the data set it was trained on."
        )
    images = data.image_files(config.split)
    output = expanded(config.output)
    if not config.format:
        known = [(image, Path(f"{name}{image.suffix}")) for name, image in images]
        return Work(prediction_plan.jobs_of(known, output))
    form: ServerFiles = instantiate(config.format)
    if form.raw_ids and data.raw_ids is None:
        raise RequestError(
            f"format: it writes a data set's own label ids, and {type(data).__name__} has none. "
            "Choose the format of its own server, or none for pictures."
        )
    return Work(form.jobs(images, output), form, data.raw_ids if form.raw_ids else None)
