"""The ways in which the values of one label file can be read.

n: number of different values in a label file.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from danet_lightning.data.base import IGNORE, DataError, Pixels
from danet_lightning.data.files.label_file import LabelFile

UNMAPPED = 254  # stands in a table for ids and colors that are no class
AS_COLOR = "as a color"
GREY_REMEDY = "Save the labels as 8-bit grey, without a palette."


class Reading(NamedTuple):
    """One way to read the values of a file.

    Attributes:
        how: The way, for a message.
        ids: (n,) the id that each value then is, or the color 0xRRGGBB.
        train_ids: (n,) the train id of each.
    """

    how: str
    ids: NDArray[Any]
    train_ids: Pixels

    @property
    def is_legal(self) -> bool:
        """Tell whether each value is a class or ignored."""
        return not (self.train_ids == UNMAPPED).any()

    def meaning(self, place: int) -> str:
        """Write what one of the values is: "255 as shown, which is ignored"."""
        value, train_id = int(self.ids[place]), self.train_ids[place]
        shown = color_text(value) if self.how == AS_COLOR else str(value)
        meaning = "ignored" if train_id == IGNORE else f"class {train_id}, counted from 0"
        return f"{shown} {self.how}, which is {meaning}"


def id_readings(path: Path, label: LabelFile, used: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Return the ids (n,) that the used values of a file may be, by the way they are read.

    A palette of colors names classes, whose ids are its indices. A palette of greys is a way to
    store a grey file, which optimizers choose: they put greys into any order, and leave out those
    that do not occur, so only the greys tell. A palette of all 256 greys, and a file of 1, 2 or 4
    bits, may have been made from ids that are stored or from ids that are shown.

    Raises:
        RequestError: The greys of a palette tell no ids.
    """
    stored = {"as stored": used}
    if label.shown is None or not is_grey(label.shown):
        return stored
    greys = label.shown[:, 0].astype(np.int64)
    if used[-1] >= len(greys):
        raise _no_entry(path, f"index {used[-1]} has no entry in the palette")
    shown = greys[used]
    if (shown == used).all():
        return stored
    if label.mode != "P" or len({*greys.tolist()}) == 256:
        return stored | {"as shown": shown}
    for index, grey in zip(used.tolist(), shown.tolist(), strict=True):
        first = greys.tolist().index(grey)
        if first != index:
            raise _no_entry(path, f"indices {first} and {index} of the palette are the same grey")
    if {*shown.tolist()} <= {0, 255}:  # as a file of 1 bit
        return {"as black and white": shown // 255, "as shown": shown}
    return {"as shown": shown}


def refuse_contradiction(path: Path, indices: Reading, colors: Reading) -> None:
    """Refuse a palette that names other classes than the indices do, as quantization makes."""
    differ = (colors.train_ids != UNMAPPED) & (colors.train_ids != indices.train_ids)
    if indices.is_legal and differ.any():
        index, code = (int(reading.ids[differ][0]) for reading in (indices, colors))
        raise DataError(
            f"{path}: index {index} of the palette has the color {color_text(code)}, which is "
            f"another class in dataset.colors than index {index} is.",
            "illegal_label",
            "Save the mask as RGB, if its colors are right; change dataset.colors, if its "
            "indices are.",
            [path],
        )


def _no_entry(path: Path, fact: str) -> DataError:
    text = f"{path}: {fact}, so what is seen there is no class."
    return DataError(text, "illegal_label", GREY_REMEDY, [path])


def is_grey(colors: Pixels) -> bool:
    """Tell whether none of the colors (n, 3) has a hue."""
    return bool((colors == colors[:, :1]).all())


def color_text(code: int) -> str:
    """Write a color as a configuration has it."""
    return f"[{code >> 16},{code >> 8 & 255},{code & 255}]"
