"""Labelled images of a split, and what several networks make of them."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from danet_lightning.data.base import DataSet, Sample
from danet_lightning.data.datamodule import SegmentationDataModule
from danet_lightning.data.samples.dataset import SegmentationDataset
from danet_lightning.disk.progress import bar
from danet_lightning.evaluate.metrics import ConfusionMatrix, scores
from danet_lightning.models.segmenter import Segmenter


class Images:
    """Images of a split with their labels, evenly spread over it.

    Args:
        dataset: Whose split it is.
        split: Its name.
        limit: How many at most; None: all.

    Attributes:
        facts: Data set, split, how many images of how many, and where the labels are from.

    Raises:
        RequestError: The split cannot be read.
    """

    def __init__(self, dataset: DataSet, split: str, limit: int | None) -> None:
        source = SegmentationDataModule(dataset, validation_split=split).source(split)
        self.samples = SegmentationDataset(source)
        of = len(source)
        count = of if limit is None else min(limit, of)
        self.indices = [number * of // count for number in range(count)]
        self.facts = {
            "dataset": type(dataset).__name__,
            "label_source": dataset.label_source,
            "split": split,
            "images": count,
            "images_of_split": of,
        }

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[Sample]:
        return (self.samples[index] for index in self.indices)


def measured(segmenters: Mapping[str, Segmenter], images: Images) -> dict[str, Any]:
    """Score networks on labelled images by the protocol, and count how often each agrees with the
    first.

    Returns:
        The facts of the images, the protocol, and for each network its scores and the share of
        pixels to which it gives the class that the first one gives.
    """
    matrices = {name: ConfusionMatrix(len(each.classes)) for name, each in segmenters.items()}
    same = dict.fromkeys(segmenters, 0)
    pixels = 0
    with bar(images, desc="measure", unit="image") as progress:
        for sample in progress:
            predictions = {
                name: each.segment(sample["image"][None]) for name, each in segmenters.items()
            }
            first = next(iter(predictions.values()))
            pixels += first.numel()
            for name, ids in predictions.items():
                matrices[name].update(ids, sample["mask"][None])
                same[name] += int((ids == first).sum())
    protocol = next(iter(segmenters.values())).protocol.describe()
    networks = {
        name: {**_counted(matrix.compute()), "same_class": same[name] / pixels}
        for name, matrix in matrices.items()
    }
    return {**images.facts, "protocol": protocol, "networks": networks}


def _counted(matrix: Tensor) -> dict[str, Any]:
    return {name: None if torch.tensor(it).isnan() else it for name, it in scores(matrix).items()}
