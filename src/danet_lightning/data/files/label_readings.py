"""What the values that a label file stores may mean, where more than one thing is possible.

n: number of different values in a file.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from danet_lightning.data.base import DataError
from danet_lightning.data.files.label_file import LabelFile

AS_COLOR = "as a color"


class Reading(NamedTuple):
    """One way to read the values of a file.

    Attributes:
        how: The way, for a message.
        ids: (n,) the id that each value then is, or the color 0xRRGGBB.
        train_ids: (n,) the train id of each.
    """

    how: str
    ids: NDArray[Any]
    train_ids: NDArray[np.uint8]


def is_grey(colors: NDArray[np.uint8]) -> bool:
    """Whether none of the colors (n, 3) has a hue."""
    return bool((colors == colors[:, :1]).all())


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


def ambiguous(
    path: Path, one: Reading, other: Reading, counts: NDArray[Any], remedy: str
) -> DataError:
    """Say that two ways to read a file lead to different labels.

    Args:
        path: The file.
        one: One of them.
        other: The other one.
        counts: (n,) pixels of each used value.
        remedy: What to do about it.
    """
    place = int(np.flatnonzero(one.train_ids != other.train_ids)[0])
    ways = " or ".join(
        f"{_shown(each, place)} {each.how}, which is {_meaning(each.train_ids[place])}"
        for each in (one, other)
    )
    return DataError(
        f"{path} can be read in two ways: {int(counts[place])} pixels are {ways}.",
        "ambiguous_label",
        remedy,
        [path],
    )


def _shown(reading: Reading, place: int) -> str:
    value = int(reading.ids[place])
    if reading.how != AS_COLOR:
        return str(value)
    return f"[{value >> 16},{value >> 8 & 255},{value & 255}]"


def _meaning(train_id: int) -> str:
    return "ignored" if train_id == 255 else f"class {train_id}, counted from 0"


def _no_entry(path: Path, fact: str) -> DataError:
    return DataError(
        f"{path}: {fact}, so what is seen there is no class.",
        "illegal_label",
        "Save the labels as 8-bit grey, without a palette.",
        [path],
    )
