"""The same validation images, as the best run of each group segments them."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image

from danet_lightning.checkpoints import loading, rebuilding
from danet_lightning.config.building import DATASET, request_errors
from danet_lightning.data.base import IGNORE, DataSet, Source
from danet_lightning.disk.progress import bar
from danet_lightning.errors import RequestError
from danet_lightning.pictures.masks import panels
from danet_lightning.runs.grouping import Group


@dataclass(frozen=True)
class Predicted:
    """One image by one group: the addresses of two pictures, and the share of wrong pixels."""

    group: str
    prediction: str
    errors: str
    wrong: float


@dataclass(frozen=True)
class Shown:
    """One validation image with its label, and what the groups make of it."""

    name: str
    image: str
    label: str
    predicted: list[Predicted] = field(default_factory=list)


@dataclass
class Gallery:
    """What there is to see, and a sentence on each group of which there is nothing.

    Attributes:
        images: In the order of the split.
        legend: (number and name, color as #rrggbb) of all classes.
        notes: Why a group, or everything, is missing.
    """

    images: list[Shown] = field(default_factory=list)
    legend: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def gallery(
    groups: Sequence[Group], count: int, device: torch.device, trusted: Sequence[str]
) -> Gallery:
    """Let the best run of each group predict some validation images, evenly spread over the split.

    Data and classes are those of the first group that has a checkpoint; a group with others, or
    whose checkpoint or images cannot be read, gets a note instead.

    Args:
        groups: In the order in which they are shown.
        count: Of the images, at most.
        device: That computes.
        trusted: Packages whose classes the checkpoints may name, beside ours.
    """
    made = Gallery()
    source: Source | None = None
    facts: dict[str, Any] = {}
    for group in bar(groups, desc="predict", unit="group") if count else ():
        run = group.best
        if run is None:
            made.notes.append(f"{group.name}: no run of it is finished.")
            continue
        try:
            content = loading.read(run.path / "best.ckpt")
            own = content["danet_lightning"]
            if source is not None and own["classes"] != facts["classes"]:
                made.notes.append(f"{group.name}: it has other classes.")
                continue
            segmenter = loading.segmenter(content, trusted).to(device)
            if source is None:
                source = _images(own, trusted)
                facts = own
                made.images += _originals(source, count, own["palette"])
                made.legend += _legend(own)
            chosen = _places(source, count)
            for shown, index in zip(made.images, chosen, strict=True):
                shown.predicted.append(_predict(group, segmenter, source, index))
        except RequestError as error:
            made.notes.append(f"{group.name}: {error}")
    return made


def _images(facts: dict[str, Any], trusted: Sequence[str]) -> Source:
    """Find the validation images of the data set that a checkpoint names."""
    with request_errors():
        dataset: DataSet = rebuilding.build(facts["config"]["dataset"], DATASET, trusted)
        source, problems, _ = dataset.pairs("val")
    if problems:
        raise problems[0]
    if not len(source):
        raise RequestError("its validation split holds no images.")
    return source


def _places(source: Source, count: int) -> list[int]:
    total = len(source)
    count = min(count, total)
    return [total * number // count for number in range(count)]


def _originals(source: Source, count: int, palette: Any) -> list[Shown]:
    images = []
    for index in _places(source, count):
        image, label = source.read(index)
        drawn = panels(image, label, np.full_like(label, IGNORE), palette)
        images.append(Shown(source.name(index), address(drawn["image"]), address(drawn["label"])))
    return images


def _predict(group: Group, segmenter: Any, source: Source, index: int) -> Predicted:
    image, label = source.read(index)
    prediction = segmenter.segment(image.copy()).cpu().numpy()
    drawn = panels(image, label, prediction, segmenter.palette)
    counted = label != IGNORE
    wrong = float((prediction != label)[counted].mean()) if counted.any() else 0.0
    return Predicted(group.name, address(drawn["prediction"]), address(drawn["errors"]), wrong)


def _legend(facts: dict[str, Any]) -> list[tuple[str, str]]:
    colors = ["#{:02x}{:02x}{:02x}".format(*color) for color in facts["palette"]]
    names = [f"{index} {name}" for index, name in enumerate(facts["classes"])]  # as in the panels
    return list(zip(names, colors, strict=True))


def address(picture: Image.Image) -> str:
    """Return a picture as the address of an image that holds it; photos as JPEG."""
    content = io.BytesIO()
    kind = "PNG" if picture.getcolors(256) else "JPEG"
    (picture.quantize(256) if kind == "PNG" else picture).save(content, kind, quality=85)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(content.getvalue()).decode()}"
