"""Find masks of 0 and 255 where 255 is ignored: legal ids, from which nothing is learned."""

import logging
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from danet_lightning.data.base import IGNORE, DataError, Source, histogram
from danet_lightning.errors import RequestError

SAMPLE = 64  # masks of a split that training looks at before it starts
log = logging.getLogger(__name__)


@dataclass
class BlackAndWhite:
    """Counts the masks of one split by what they hold: black (the id 0), white (255), another id.

    Args:
        source: The split. Nothing is wrong in it unless 0 is a class and 255 is ignored.
        split: Its name, for the message.
    """

    source: Source
    split: str
    masks: Counter[tuple[bool, bool, bool]] = field(default_factory=Counter, init=False)

    def add(self, counts: NDArray[np.int64]) -> None:
        """Count one mask, by its pixels (256,) of each train id."""
        black = self.source.black
        if black is not None and counts.any():
            has_other = bool(np.delete(counts, [black, IGNORE]).any())
            self.masks[bool(counts[black]), bool(counts[IGNORE]), has_other] += 1

    def is_suspect(self) -> bool:
        """Tell whether there is white in some masks, and no other id than black and white in
        any.
        """
        return any(white for _, white, _ in self.masks) and not any(o for *_, o in self.masks)

    def problem(self) -> DataError | None:
        """Return what is wrong: an error ("mask_0_255"), a warning ("some_0_255") or nothing.

        An error: no mask holds anything else. A warning: some masks do, and white lies beside
        another class in none of them, or half of all masks are black and white.
        """
        count, alone = self.masks.total(), self.masks[True, True, False]
        if self.is_suspect() and any(black for black, _, _ in self.masks):
            return DataError(
                f"All {count} masks of {self.split} hold the ids 0 and 255 alone, as black and "
                "white ones do, and 255 is ignored.",
                "mask_0_255",
                "Write class indices, 0 and 1. Of masks of your own (dataset=folder): "
                "dataset.ids=[0,255] dataset.ignore=null if white is a class.",
                [self.source.paths(index)[-1] for index in range(len(self.source))],
            )
        is_beside = any(white and other for _, white, other in self.masks)
        if alone and not self.is_suspect() and (not is_beside or 2 * alone >= count):
            return DataError(
                f"{alone} of {count} masks of {self.split} hold the ids 0 and 255 alone, as black "
                "and white ones do, and 255 is ignored: nothing is learned from their white.",
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
    if source.black is None:
        return
    masks = BlackAndWhite(source, split)
    spread = range(0, len(source), max(1, len(source) // SAMPLE))[:SAMPLE]
    rest = (index for index in range(len(source)) if index not in spread)
    for number, index in enumerate((*spread, *rest)):
        if number >= len(spread) and not masks.is_suspect():
            break
        with suppress(RequestError):  # reading it for its labels says what is wrong
            masks.add(histogram(source.read_mask(index)))
    problem = masks.problem()
    if problem is not None and problem.kind == "mask_0_255":
        raise problem
    if problem is not None:
        log.warning("%s", problem)
