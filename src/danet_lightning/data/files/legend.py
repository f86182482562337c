"""Turn what a label file stores into train ids, by the ids and the colors of the classes.

H, W: height and width of a label file in pixels; n: number of different values in it.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from danet_lightning.data.base import IGNORE, DataError, Pixels, histogram
from danet_lightning.data.files.label_file import COLOR_MODES, LabelFile, colors_instead_of_ids
from danet_lightning.data.files.readings import (
    AS_COLOR,
    GREY_REMEDY,
    UNMAPPED,
    Reading,
    color_text,
    id_readings,
    is_grey,
    refuse_contradiction,
)

Color = tuple[int, int, int]
Codes = NDArray[np.int32]  # colors as numbers 0xRRGGBB

SHOWN = 8  # ids or colors in a message
BENCHMARK_REMEDY = (
    "Usual causes: a 0/255 mask (write class indices, 0 and 1), an RGB mask saved as grey "
    "(write class indices instead of colors), labels counted from 1 (subtract 1), or the "
    "labels of another data set."
)
OWN_REMEDY = (
    "dataset.ids=[...] says which id each class has in the masks ([1,2] if they count from 1, "
    "[0,255] for masks of black and white), dataset.ignore=[...] which ids are ignored."
)
OWN_GREY_REMEDY = (
    "Save it as RGB if it holds colors, as 8-bit grey without a palette if it holds ids. "
    "dataset.ignore=null if white is a class: 255 is then no id."
)


class Legend(NamedTuple):
    """The meaning of ids and colors in the label files of a data set.

    Attributes:
        table: (65536,) the train id of every id.
        codes: (k,) the colors that label files may hold, in rising order; none: they hold ids.
        code_ids: (k,) the train id of each color.
        is_own: Whether these are a person's own masks, so that the configuration can change it.
    """

    table: Pixels
    codes: Codes
    code_ids: Pixels
    is_own: bool

    def mask(self, path: Path, label: LabelFile) -> Pixels:
        """Return the train ids (H, W) of a label file.

        Raises:
            RequestError: It holds ids or colors of no class, or can be read in two ways.
        """
        if label.mode in COLOR_MODES and self.is_own:
            return self._mask_of_colors(path, label.values)
        if label.mode == "LA" and self.codes.size:
            label = replace(label, mode="L")
        if label.mode in (*COLOR_MODES, "LA"):
            raise colors_instead_of_ids(path, label.mode)
        if label.values.dtype == np.uint8:  # a third of numpy's time, beside the decoding
            mask: Pixels = np.asarray(cv2.LUT(label.values, self._lookup(path, label)))
        else:
            mask = self.table.take(label.values)
        if (mask == UNMAPPED).any():
            raise self._illegal(path, label.values, mask == UNMAPPED)
        return mask

    def reads_indices(self, label: LabelFile) -> bool:
        """Tell whether the indices of a file with a palette are its ids, as no colors are
        configured.
        """
        return label.shown is not None and not is_grey(label.shown) and not self.codes.size

    def _mask_of_colors(self, path: Path, codes: Codes) -> Pixels:
        if not self.codes.size:
            raise DataError(
                f"{path}: a mask of colors ({_counted(codes)}), and dataset.colors does not say "
                "which class each one is.",
                "color_mask",
                "Give one for each class, in the order of dataset.classes: dataset.colors=[[0,0,0],"
                "[128,64,128],...], and the ignored ones as dataset.ignore=[[224,224,192]]; or "
                "save class indices as an 8-bit grey or palette PNG.",
                [path],
            )
        mask = self._train_ids(codes)
        unknown = codes[mask == UNMAPPED]
        if unknown.size:
            raise DataError(
                f"{path}: {_counted(unknown)} of no class.",
                "illegal_label",
                "Add it to dataset.colors with a class of its own or to dataset.ignore; colors "
                "in between two classes come from smoothed edges: export without antialiasing.",
                [path],
            )
        return mask

    def _lookup(self, path: Path, label: LabelFile) -> Pixels:
        """Return the train id (256,) of every value that may be stored."""
        if not self._is_open(label):
            return self.table[:256]
        counts = histogram(label.values)
        used = np.flatnonzero(counts)
        readings = self._readings(path, label, used)
        legal = [reading for reading in readings if reading.is_legal]
        if not legal:
            ids = readings[0].ids[np.searchsorted(used, label.values)]
            raise self._illegal(path, ids, self.table[ids] == UNMAPPED, readings[0].how)
        for other in legal[1:]:
            differ = np.flatnonzero(other.train_ids != legal[0].train_ids)
            if differ.size:
                ways = " or ".join(reading.meaning(differ[0]) for reading in (legal[0], other))
                raise DataError(
                    f"{path} can be read in two ways: {counts[used[differ[0]]]} pixels are {ways}.",
                    "ambiguous_label",
                    OWN_GREY_REMEDY if self.is_own else GREY_REMEDY,
                    [path],
                )
        train_ids = np.full(256, UNMAPPED, np.uint8)
        train_ids[used] = legal[0].train_ids
        return train_ids

    def _is_open(self, label: LabelFile) -> bool:
        """Tell whether a file can be read in another way than by the ids that it stores."""
        if label.shown is None:
            return bool((self.codes % 0x010101 == 0).any())  # the greys of the table
        return bool(self.codes.size) or is_grey(label.shown)

    def _readings(self, path: Path, label: LabelFile, used: NDArray[Any]) -> list[Reading]:
        """Return what the used values (n,) may mean: one way to read them at least."""
        ways = id_readings(path, label, used)
        readings = [Reading(how, ids, self.table[ids]) for how, ids in ways.items()]
        if not self.codes.size:
            return readings
        palette = np.zeros((256, 3), np.int32)  # an index without an entry is black
        if label.shown is None:
            palette += np.arange(256, dtype=np.int32)[:, None]
        else:
            palette[: len(label.shown)] = label.shown
        codes = palette[used] @ np.array([1 << 16, 1 << 8, 1], np.int32)
        colors = Reading(AS_COLOR, codes, self._train_ids(codes))
        if label.shown is not None and not is_grey(label.shown):
            refuse_contradiction(path, readings[0], colors)
        # Of a file that stores few greys, the table says what each of them is shown for.
        return [*(readings[:1] if colors.is_legal else readings), colors]

    def _train_ids(self, codes: Codes) -> Pixels:
        places = np.searchsorted(self.codes, codes).clip(max=self.codes.size - 1)
        return np.where(self.codes[places] == codes, self.code_ids[places], np.uint8(UNMAPPED))

    def _illegal(
        self, path: Path, labels: NDArray[Any], where: NDArray[Any], how: str = "as stored"
    ) -> DataError:
        ids = np.unique(labels[where])
        is_0_255 = ids.tolist() == [255] and bool(((labels == 0) | (labels == 255)).all())
        shown = ", ".join(str(value) for value in ids[:SHOWN]) + ", ..." * (len(ids) > SHOWN)
        count = int(where.sum())
        share = f"{count} {'pixel' if count == 1 else 'pixels'}"
        share += "" if how == "as stored" else f", {how} by its palette"
        allowed = np.flatnonzero(self.table != UNMAPPED)
        runs = np.split(allowed, np.flatnonzero(np.diff(allowed) > 1) + 1)  # 0-2, 255
        ranges = (f"{run[0]}-{run[-1]}" if run.size > 1 else f"{run[0]}" for run in runs)
        return DataError(
            f"{path}: label {shown} ({share}) is outside the allowed {', '.join(ranges)}.",
            "mask_0_255" if is_0_255 else "illegal_label",
            OWN_REMEDY if self.is_own else BENCHMARK_REMEDY,
            [path],
        )


def legend(train_ids: Mapping[int, int], colors: Mapping[Color, int] | None = None) -> Legend:
    """Build the tables of a legend.

    Args:
        train_ids: The train id (0..253, or 255 for ignored pixels) of every id that a label file
            may hold. Any other id is an error, which is why 255 is not ignored by itself.
        colors: The train id of every color that a person's own masks may hold; empty: a mask of
            colors is an error. None: these are a benchmark's label files.

    Raises:
        ValueError: `train_ids` maps to something that is no train id.
    """
    table = np.full(2**16, UNMAPPED, np.uint8)
    for raw, train_id in train_ids.items():
        if not 0 <= raw < 2**16 or not (0 <= train_id < UNMAPPED or train_id == IGNORE):
            raise ValueError(f"train_ids[{raw}]={train_id}: ids are 0..65535 -> 0..253 or 255")
        table[raw] = train_id
    ordered = sorted((r << 16 | g << 8 | b, to) for (r, g, b), to in (colors or {}).items())
    codes = np.array([code for code, _ in ordered], np.int32)
    code_ids = np.array([train_id for _, train_id in ordered], np.uint8)
    return Legend(table, codes, code_ids, colors is not None)


def _counted(codes: Codes) -> str:
    """Write colors with their pixels, the most frequent ones first."""
    colors, counts = np.unique(codes, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    shown = [f"{color_text(int(colors[k]))} in {counts[k]} pixels" for k in order[:SHOWN]]
    more = [f"and {len(colors) - SHOWN} more"] if len(colors) > SHOWN else []
    return ("colors " if len(colors) > 1 else "color ") + ", ".join(shown + more)
