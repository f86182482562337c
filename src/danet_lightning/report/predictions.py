"""The same validation images, as the best run of each group segments them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image

from danet_lightning.checkpoints import loading, rebuilding
from danet_lightning.config.building import DATASET, request_errors
from danet_lightning.data.base import IGNORE, DataSet, Pixels, Source
from danet_lightning.disk.progress import bar
from danet_lightning.errors import RequestError
from danet_lightning.pictures.color_vision import look_alike
from danet_lightning.pictures.embedding import embedded
from danet_lightning.pictures.legend import class_name
from danet_lightning.pictures.masks import Palette, panel_size
from danet_lightning.pictures.panels import panels, present_in
from danet_lightning.runs.grouping import Group

NUMBER = 28  # height of a class's number in pixels: a page shows the pictures at half their size


@dataclass(frozen=True)
class Predicted:
    """What the best run of one group predicts for one image.

    Attributes:
        group: Its name.
        ids: (h, w), the predicted classes in the size of the pictures.
        wrong: The share of wrong pixels in the size of the image.
    """

    group: str
    ids: Pixels
    wrong: float


@dataclass(frozen=True)
class Shown:
    """One validation image with its label, (h, w), and what the groups make of it."""

    name: str
    image: Pixels
    label: Pixels
    predicted: list[Predicted] = field(default_factory=list)


@dataclass
class Gallery:
    """Validation images as the groups predict them, and a sentence on each group that predicts
    none.

    Attributes:
        images: In the order of the split.
        classes: Their names.
        palette: One RGB color for each.
        notes: Why a group, or everything, is missing.
    """

    images: list[Shown] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    palette: Palette = ()
    notes: list[str] = field(default_factory=list)

    @cached_property
    def present(self) -> list[int]:
        """Return the class ids in all pictures, and 255 where a label ignores pixels."""
        masks = [each.ids for shown in self.images for each in shown.predicted]
        return present_in(*masks, *(shown.label for shown in self.images)) if self.images else []

    @cached_property
    def numbered(self) -> set[int]:
        """Return the classes that one of these could be taken for: the same in all pictures."""
        return look_alike(self.palette, self.present)

    def legend(self) -> list[tuple[str, str | None]]:
        """Return name and color, as #rrggbb, of each class; None: hatched."""
        return [
            (
                class_name(index, self.classes, self.numbered),
                None if index == IGNORE else "#{:02x}{:02x}{:02x}".format(*self.palette[index]),
            )
            for index in self.present
        ]

    def pictures(self, shown: Shown, predicted: Predicted | None = None) -> dict[str, str]:
        """Return the addresses of the pictures of an image, by their names.

        Args:
            shown: The image.
            predicted: What a group makes of it; None: no prediction and errors are needed.
        """
        ids = predicted.ids if predicted else shown.label
        drawn = panels(shown.image, shown.label, ids, self.palette, self.numbered, NUMBER)
        return {
            "image": embedded(drawn["image"], "JPEG", quality=85),
            "label": embedded(drawn["label"], "PNG"),
            "prediction": embedded(drawn["prediction"], "PNG"),
            "errors": embedded(drawn["errors"], "JPEG", quality=85),
        }


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
    for group in bar(groups, desc="predict", unit="group") if count else ():
        run = group.best
        if run is None:
            made.notes.append(f"{group.name}: no run of it is finished.")
            continue
        try:
            content = loading.read(run.path / "best.ckpt")
            facts = content["danet_lightning"]
            if source is not None and facts["classes"] != made.classes:
                made.notes.append(f"{group.name}: it has other classes.")
                continue
            segmenter = loading.segmenter(content, trusted).to(device)
            if source is None:
                source = _images(facts, trusted)
                made.classes, made.palette = facts["classes"], facts["palette"]
                for index in _places(source, count):
                    image, label = source.read(index)
                    made.images.append(Shown(source.name(index), _sized(image), _sized(label)))
            for shown, index in zip(made.images, _places(source, count), strict=True):
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


def _predict(group: Group, segmenter: Any, source: Source, index: int) -> Predicted:
    image, label = source.read(index)
    prediction = segmenter.segment(image.copy()).cpu().numpy()
    counted = label != IGNORE
    wrong = float((prediction != label)[counted].mean()) if counted.any() else 0.0
    return Predicted(group.name, _sized(prediction.astype(np.uint8)), wrong)


def _sized(pixels: Pixels) -> Pixels:
    """Enlarge or reduce a photo, (H, W, 3), or a mask, (H, W), to the size of its picture."""
    size = panel_size(pixels.shape[1], pixels.shape[0])
    method = Image.Resampling.NEAREST if pixels.ndim == 2 else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(pixels).resize(size, method))
