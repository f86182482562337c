"""Masks of 0 and 255 where 255 is ignored: legal ids, from which nothing is learned."""

import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from danet_lightning.data.base import IGNORE, DataError, Source
from danet_lightning.errors import RequestError

LOOKED_AT = 64  # masks of a split that training looks at before it starts
log = logging.getLogger(__name__)


@dataclass
class BlackAndWhite:
    """What the masks of one split hold beside black, the id 0, and white, the id 255.

    Args:
        source: The split. Nothing is wrong in it unless 0 is a class and 255 is ignored.
        split: Its name, for the message.
    """

    source: Source
    split: str
    masks: int = field(default=0, init=False)
    alone: int = field(default=0, init=False)  # masks of black and white and nothing else
    beside: int = field(default=0, init=False)  # masks of white and of another class
    others: int = field(default=0, init=False)  # masks of another class
    has_black: bool = field(default=False, init=False)
    has_white: bool = field(default=False, init=False)

    def add(self, counts: NDArray[Any]) -> None:
        """Count one mask, by its pixels (256,) of each train id."""
        black, white = self.source.black, bool(counts[IGNORE])
        if black is None or not counts.any():
            return
        has_other = bool(np.delete(counts, [black, IGNORE]).any())
        self.masks += 1
        self.others += has_other
        self.beside += has_other and white
        self.alone += white and bool(counts[black]) and not has_other
        self.has_black |= bool(counts[black])
        self.has_white |= white

    def problem(self) -> DataError | None:
        """Return what is wrong: an error ("mask_0_255"), a warning ("some_0_255") or nothing.

        An error: no mask holds anything else. A warning: some masks do, and white lies beside
        another class in none of them, or half of all masks are black and white.
        """
        if not (self.has_black and self.has_white):
            return None
        if not self.others:
            return DataError(
                f"All {self.masks} masks of {self.split} hold the ids 0 and 255 alone, as black "
                "and white ones do, and 255 is ignored.",
                "mask_0_255",
                "Write class indices, 0 and 1. Of masks of your own (dataset=folder): "
                "dataset.ids=[0,255] dataset.ignore=null if white is a class.",
                [self.source.paths(index)[-1] for index in range(len(self.source))],
            )
        if self.alone and (not self.beside or 2 * self.alone >= self.masks):
            return DataError(
                f"{self.alone} of {self.masks} masks of {self.split} hold the ids 0 and 255 alone, "
                "as black and white ones do, and 255 is ignored: nothing is learned from their "
                "white.",
                "some_0_255",
                "If white is a class there, write class indices, 0 and 1; nothing is wrong if "
                "these pixels have no label.",
            )
        return None


def look_for_black_and_white(source: Source, split: str) -> None:
    """Refuse a split whose masks are black and white, and warn where some of them are.

    64 masks, spread over the split, are looked at; if they are all black and white, the others
    up to the first one that is not. `check` counts all of them itself, by the same rule.

    Raises:
        RequestError: No mask of the split holds anything else.
    """
    found = BlackAndWhite(source, split)
    if source.black is None:
        return
    step = max(1, len(source) // LOOKED_AT)
    first = range(0, len(source), step)[:LOOKED_AT]
    for index in first:
        _add(found, index)
    for index in range(len(source)):
        if found.others or not found.has_white:
            break
        if index not in first:
            _add(found, index)
    problem = found.problem()
    if problem is not None and problem.kind == "mask_0_255":
        raise problem
    if problem is not None:
        log.warning("%s", problem)


def _add(found: BlackAndWhite, index: int) -> None:
    try:
        mask = found.source.read_mask(index)
    except RequestError:
        return  # whoever reads it for its labels is told
    found.add(np.array(Image.fromarray(mask).histogram()))
