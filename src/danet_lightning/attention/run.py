"""Look into a checkpoint: find the images, observe each, write its page and its figures."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig

from danet_lightning.attention import figures, layout
from danet_lightning.attention.observation import Observation, mapped_modules, observe
from danet_lightning.attention.page import page
from danet_lightning.checkpoints import loading
from danet_lightning.config.building import DATASET, build_over, request_errors
from danet_lightning.data.base import Pixels
from danet_lightning.data.files.images import read_image
from danet_lightning.disk.names import expanded
from danet_lightning.disk.progress import bar
from danet_lightning.disk.writing import write_content
from danet_lightning.errors import RequestError
from danet_lightning.models.maps import ChannelMap
from danet_lightning.models.segmenter import Segmenter
from danet_lightning.predict.plan import plan
from danet_lightning.predict.writing import choose_device


class Picture(NamedTuple):
    """An image to look at.

    Attributes:
        name: What it is called.
        target: Folder and beginning of the names of what is written.
        read: Returns it, (H, W, 3), and its label, (H, W) or None.
    """

    name: str
    target: Path
    read: Callable[[], tuple[Pixels, Pixels | None]]


def attention(config: DictConfig, run_dir: Path) -> None:
    """Write page and figures of each image; exit code 1 if one had to be skipped."""
    with request_errors():
        content = loading.read(config.ckpt_path)
        if "onnx" in content:
            raise RequestError(
                f"ckpt_path: {config.ckpt_path} is exported, and its attention cannot be looked "
                "into any more; give the checkpoint, or a folder of danet export format=hub."
            )
        segmenter = loading.segmenter(content, config.trusted)
        mapped_modules(segmenter.net)
        images = _of_split(config, content) if config.dataset else _of_input(config)
    pictures = images[: config.count]
    segmenter = segmenter.to(choose_device(config.device))
    skipped = []
    for picture in bar(pictures, desc="attention", unit="image"):
        try:
            image, label = picture.read()
        except ValueError as error:
            skipped.append(str(error))
            continue
        _require_points(config.points, picture, image)
        try:
            observation = observe(segmenter, image, label, config.max_side)
        except torch.OutOfMemoryError:
            skipped.append(f"{picture.name} does not fit into memory; try a smaller max_side")
            continue
        _require_channels(config.channels, observation)
        _write(observation, picture, segmenter, config)
    print(f"{len(pictures) - len(skipped)} of {len(images)} images looked at, see {config.output}")
    if skipped:
        print(f"{len(skipped)} skipped:", *skipped, sep="\n  ", file=sys.stderr)
        raise SystemExit(1)


def _of_input(config: DictConfig) -> list[Picture]:
    jobs, _ = plan(config.input, config.output)
    return [
        Picture(
            job.image.name,
            job.mask.with_name(job.mask.name.removesuffix(".png")),
            lambda path=job.image: (read_image(path), None),  # type: ignore[misc]
        )
        for job in jobs
    ]


def _of_split(config: DictConfig, content: dict[str, Any]) -> list[Picture]:
    facts = content["danet_lightning"]
    data = build_over(facts["config"]["dataset"], config.dataset, DATASET, config.trusted)
    if list(data.classes) != facts["classes"]:
        raise RequestError(
            f"dataset: its classes {list(data.classes)} are not the checkpoint's "
            f"{facts['classes']}; look at the data set it was trained on."
        )
    data.require_split(config.split)
    source, problems, _ = data.pairs(config.split)
    if problems:
        raise problems[0]
    folder = expanded(config.output)
    return [
        Picture(name, folder / name, lambda index=index: source.read(index))  # type: ignore[misc]
        for index, name in ((index, source.name(index)) for index in range(len(source)))
    ]


def _write(
    observation: Observation, picture: Picture, segmenter: Segmenter, config: DictConfig
) -> None:
    facts = segmenter.classes, segmenter.palette
    points = [tuple(point) for point in config.points or ()] or figures.typical_points(observation)
    channel = config.channels[0] if config.channels else None
    text = page(observation, picture.name, *facts, points[0], channel, config.page_megabytes)
    written = {".html": text.encode()}
    for name, figure in (
        ("attention", figures.attention_figure(observation, *facts, points, config.channels)),
        ("branches", figures.branches_figure(observation, *facts)),
    ):
        written[f"_{name}.png"] = layout.file_of(figure, "png")
        written[f"_{name}.pdf"] = layout.file_of(figure, "pdf")
    for suffix, data in written.items():
        path = picture.target.with_name(picture.target.name + suffix)
        write_content(path, data)


def _require_points(
    points: Sequence[tuple[int, int]] | None, picture: Picture, image: Pixels
) -> None:
    rows, columns = image.shape[:2]
    for y, x in points or ():
        if y >= rows or x >= columns:
            raise RequestError(
                f"points: [{y},{x}] lies outside of {picture.name}, which is {columns} pixels wide "
                f"and {rows} high. Give [y,x], from [0,0] to [{rows - 1},{columns - 1}]."
            )


def _require_channels(channels: Sequence[int] | None, observation: Observation) -> None:
    largest = max(channels or [0])
    for branch in observation.branches:
        count = len(branch.after)
        if isinstance(branch.map, ChannelMap) and largest >= count:
            raise RequestError(
                f"channels: {largest}; {branch.name} has the channels 0 to {count - 1}."
            )
