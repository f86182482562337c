"""Weights of the classes in the loss, by how many pixels each of them has."""

import logging
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from danet_lightning.data.base import Source
from danet_lightning.data.datamodule import SegmentationDataModule
from danet_lightning.data.samples.cores import cores
from danet_lightning.errors import RequestError

log = logging.getLogger(__name__)


def resolved(weights: Any, data: SegmentationDataModule) -> Any:
    """Replace `loss.class_weights=auto` by numbers, and check that a list fits the data set.

    Args:
        weights: The list, `auto` or None.
        data: Whose training split is counted for `auto`, as `check` counts it: all its labels.

    Raises:
        RequestError: There are more weights than classes, or fewer; a label cannot be read.
    """
    classes = data.dataset.classes
    if weights == "auto":
        source = data.dataset.pairs("train").source  # not through a cache: one process builds that
        weights = from_shares(class_pixels(source, len(classes)))
        listed = ", ".join(f"{name} {each:g}" for name, each in zip(classes, weights, strict=True))
        log.info(
            "loss.class_weights=auto: 1 / ln(1.02 + share of the labelled pixels of the training "
            f"split), ENet's rule (arXiv 1606.02147): {listed}"
        )
        return weights
    if isinstance(weights, Sequence) and len(weights) != len(classes):
        raise RequestError(
            f"loss.class_weights: {len(weights)} numbers for {len(classes)} classes; give one for "
            f"each of {', '.join(classes)}, or auto."
        )
    return weights


def class_pixels(source: Source, num_classes: int) -> NDArray[np.int64]:
    """Count the pixels (num_classes,) of each class over all labels of a split."""

    def count(index: int) -> NDArray[np.int64]:
        histogram = Image.fromarray(source.read_mask(index)).histogram()
        return np.array(histogram[:num_classes])

    with ThreadPoolExecutor(cores()) as pool:
        return sum(pool.map(count, range(len(source))), start=np.zeros(num_classes, np.int64))


def from_shares(pixels: NDArray[np.int64]) -> list[float]:
    """Weigh classes by ENet's rule, 1 / ln(1.02 + share): from 1.4 for all pixels to 50 for none.

    (arXiv 1606.02147, section 5.2.)

    Args:
        pixels: (C,) of each class.

    Returns:
        C weights of five digits, so that they are the same on every machine.
    """
    shares = pixels / max(1, pixels.sum())
    return [float(f"{1 / math.log(1.02 + share):.5g}") for share in shares]
