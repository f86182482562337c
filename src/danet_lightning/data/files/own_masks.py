"""Masks of a person's own, which hold ids or the colors of the classes.

H, W: height and width of a mask in pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from danet_lightning.data.base import DataError, Pixels
from danet_lightning.data.files.label_file import COLOR_MODES, LabelFile
from danet_lightning.data.files.label_readings import AS_COLOR, Reading, is_grey
from danet_lightning.data.files.legend import Color
from danet_lightning.data.files.source import UNMAPPED, FileSource

Codes = NDArray[np.int32]
SHOWN = 8  # colors in a message


class ColorSource(FileSource):
    """Image files and masks, whose colors go by a table, and whose ids go by another.

    A file of colors needs the table. Grey and palette files may hold either: they are read as
    what only one of the two allows, and refused where both do, with different results.

    Args:
        files: As in `FileSource`.
        train_ids: As in `FileSource`.
        color_ids: The train id of every color that a mask may hold; empty: a mask of colors is
            an error.
    """

    illegal = (
        "dataset.ids=[...] says which id each class has in the masks ([1,2] if they count from 1, "
        "[0,255] for masks of black and white), dataset.ignore=[...] which ids are ignored."
    )
    ambiguous = (
        "Save it as RGB if it holds colors, as 8-bit grey without a palette if it holds ids. "
        "dataset.ignore=null if white is a class: 255 is then no id."
    )

    def __init__(
        self,
        files: Sequence[tuple[str, Path, Path]],
        train_ids: Mapping[int, int],
        color_ids: Mapping[Color, int],
    ) -> None:
        super().__init__(files, train_ids)
        ordered = sorted((_code(color), train_id) for color, train_id in color_ids.items())
        self.codes = np.array([code for code, _ in ordered], np.int32)
        self.code_ids = np.array([train_id for _, train_id in ordered], np.uint8)
        self.has_greys = any(len({*color}) == 1 for color in color_ids)

    def _mask(self, path: Path, label: LabelFile) -> Pixels:
        if label.mode in COLOR_MODES:
            return self._mask_of_colors(path, label.values)
        if label.mode == "LA" and self.codes.size:
            label = replace(label, mode="L")
        return super()._mask(path, label)

    def _mask_of_colors(self, path: Path, codes: Codes) -> Pixels:
        if not self.codes.size:
            raise _without_table(path, codes)
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

    def _is_open(self, label: LabelFile) -> bool:
        by_color = self.has_greys if label.shown is None else bool(self.codes.size)
        return by_color or super()._is_open(label)

    def _readings(self, path: Path, label: LabelFile, used: NDArray[Any]) -> list[Reading]:
        readings = super()._readings(path, label, used)
        if not self.codes.size:
            return readings
        if label.shown is None:
            codes = used.astype(np.int32) * 0x010101
        else:
            known = np.zeros((256, 3), np.int32)  # an index without an entry is black
            known[: len(label.shown)] = label.shown
            codes = known[used] @ np.array([1 << 16, 1 << 8, 1], np.int32)
        colors = Reading(AS_COLOR, codes, self._train_ids(codes))
        is_whole = not (colors.train_ids == UNMAPPED).any()
        if label.shown is not None and not is_grey(label.shown):
            _refuse_contradiction(path, readings[0], colors)
        # Of a file that stores few greys, the table says what each of them is shown for.
        return [*(readings[:1] if is_whole else readings), colors]

    def _train_ids(self, codes: Codes) -> Pixels:
        places = np.searchsorted(self.codes, codes).clip(max=self.codes.size - 1)
        return np.where(self.codes[places] == codes, self.code_ids[places], np.uint8(UNMAPPED))


def _refuse_contradiction(path: Path, indices: Reading, colors: Reading) -> None:
    """Refuse a palette that names other classes than the indices do, as quantisation makes."""
    if (indices.train_ids == UNMAPPED).any():
        return
    differ = (colors.train_ids != UNMAPPED) & (colors.train_ids != indices.train_ids)
    for index, code in zip(indices.ids[differ], colors.ids[differ], strict=True):
        raise DataError(
            f"{path}: index {index} of the palette has the color {_color(int(code))}, which is "
            f"another class in dataset.colors than index {index} is.",
            "illegal_label",
            "Save the mask as RGB, if its colors are right; change dataset.colors, if its "
            "indices are.",
            [path],
        )


def _without_table(path: Path, codes: Codes) -> DataError:
    return DataError(
        f"{path}: a mask of colors ({_counted(codes)}), and dataset.colors does not say which "
        "class each one is.",
        "color_mask",
        "Give one for each class, in the order of dataset.classes: dataset.colors=[[0,0,0],"
        "[128,64,128],...], and the ignored ones as dataset.ignore=[[224,224,192]]; or save "
        "class indices as an 8-bit grey or palette PNG.",
        [path],
    )


def _code(color: Sequence[int]) -> int:
    return color[0] << 16 | color[1] << 8 | color[2]


def _color(code: int) -> str:
    return f"[{code >> 16},{code >> 8 & 255},{code & 255}]"


def _counted(codes: Codes) -> str:
    """Colors with their pixels, the most frequent ones first."""
    colors, counts = np.unique(codes, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    shown = [f"{_color(int(colors[k]))} in {counts[k]} pixels" for k in order[:SHOWN]]
    more = [f"and {len(colors) - SHOWN} more"] if len(colors) > SHOWN else []
    return ("colors " if len(colors) > 1 else "color ") + ", ".join(shown + more)
