"""Masks of a person's own, which hold ids or the colours of the classes.

H, W: height and width of a mask in pixels.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from danet_lightning.data.dataset import Pixels
from danet_lightning.data.files import FileSource, decode, ids_of
from danet_lightning.data.inspection import complain
from danet_lightning.data.legend import Color
from danet_lightning.errors import RequestError

Codes = NDArray[np.int32]
COLOR_MODES = ("RGB", "RGBA")  # what lies under transparency counts, as in images
SHOWN = 8  # ids or colours in a message


class ColorSource(FileSource):
    """Image files and masks: colours go by the table, grey and palette images hold ids.

    Args:
        files: As in `FileSource`.
        train_ids: As in `FileSource`.
        color_ids: The id of every colour that a mask may hold; empty: a mask of colours is an
            error.
    """

    def __init__(
        self,
        files: Sequence[tuple[str, Path, Path]],
        train_ids: Mapping[int, int],
        color_ids: Mapping[Color, int],
    ) -> None:
        super().__init__(files, train_ids)
        ordered = sorted((_code(color), raw) for color, raw in color_ids.items())
        self.codes = np.array([code for code, _ in ordered], np.int32)
        self.code_ids = np.array([raw for _, raw in ordered], np.uint16)

    def _labels(self, path: Path) -> NDArray[Any]:
        image = decode(path)
        if image.mode in COLOR_MODES:
            return self._ids_of_colors(path, _codes(image))
        ids = ids_of(path, image)
        if image.mode == "P" and self.codes.size:
            self._compare_palette(path, image, ids)
        return ids

    def _mask(self, path: Path, labels: NDArray[Any]) -> Pixels:
        try:
            return super()._mask(path, labels)
        except RequestError as error:
            raise RequestError(
                error.fact,
                error.kind,
                "dataset.ids=[...] says which id each class has in the masks ([1,2] if they count "
                "from 1, [0,255] for masks of black and white), dataset.ignore=[...] which ids "
                "are ignored.",
                error.files,
            ) from None

    def _ids_of_colors(self, path: Path, codes: Codes) -> NDArray[np.uint16]:
        if not self.codes.size:
            raise _without_table(path, codes)
        places = np.searchsorted(self.codes, codes).clip(max=self.codes.size - 1)  # (H, W)
        unknown = codes[self.codes[places] != codes]
        if unknown.size:
            raise RequestError(
                f"{path}: {_counted(unknown)} of no class.",
                "illegal_label",
                "Add it to dataset.colors with a class of its own or to dataset.ignore; colours "
                "in between two classes come from smoothed edges: export without antialiasing.",
                [path],
            )
        ids: NDArray[np.uint16] = self.code_ids[places]
        return ids

    def _compare_palette(self, path: Path, image: Image.Image, ids: NDArray[Any]) -> None:
        """Refuse a palette that names other classes than the indices do, as quantisation makes."""
        palette = np.zeros((256, 3), np.int32)
        stored = np.array(image.getpalette(), np.int32).reshape(-1, 3)
        palette[: len(stored)] = stored
        for raw in np.unique(ids):
            code = _code(palette[raw])
            place = int(np.searchsorted(self.codes, code))
            if place == self.codes.size or self.codes[place] != code:
                continue
            meant = self.table[self.code_ids[place]]
            if meant != self.table[raw]:
                raise RequestError(
                    f"{path}: index {raw} of the palette has the colour {_color(code)}, which is "
                    f"another class in dataset.colors than index {raw} is.",
                    "illegal_label",
                    "Save the mask as RGB, if its colours are right; change dataset.colors, if "
                    "its indices are.",
                    [path],
                )


def refuse_black_and_white(split: str, masks: Sequence[Path]) -> None:
    """Refuse masks of 0 and 255 where 255 is ignored: legal ids, from which nothing is learned.

    Raises:
        RequestError: No mask of the split holds another id; most do, the first one already.
    """
    seen: set[int] = set()
    for path in masks:
        image = decode(path)
        if image.mode in COLOR_MODES:
            return
        seen |= {*np.unique(ids_of(path, image)).tolist()}
        if seen - {0, 255}:
            return
    if 255 in seen:
        complain(
            RequestError(
                f"All {len(masks)} masks of {split} hold the ids 0 and 255 alone, as black and "
                "white ones do, and 255 is ignored.",
                "mask_0_255",
                "If white is a class of its own: dataset.ids=[0,255] dataset.ignore=null",
                masks,
            )
        )


def _without_table(path: Path, codes: Codes) -> RequestError:
    return RequestError(
        f"{path}: a mask of colours ({_counted(codes)}), and dataset.colors does not say which "
        "class each one is.",
        "colour_mask",
        "Give one for each class, in the order of dataset.classes: dataset.colors=[[0,0,0],"
        "[128,64,128],...], and the ignored ones as dataset.ignore=[[224,224,192]]; or save "
        "class indices as an 8-bit grey or palette PNG.",
        [path],
    )


def _codes(image: Image.Image) -> Codes:
    """The colours (H, W) as numbers 0xRRGGBB."""
    rgb = np.asarray(image.convert("RGB")).astype(np.int32)  # (H, W, 3)
    return rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]


def _code(color: Sequence[int] | NDArray[Any]) -> int:
    return int(color[0]) << 16 | int(color[1]) << 8 | int(color[2])


def _color(code: int) -> str:
    return f"[{code >> 16},{code >> 8 & 255},{code & 255}]"


def _counted(codes: Codes) -> str:
    """Colours with their pixels, the most frequent ones first."""
    colors, counts = np.unique(codes, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    shown = [f"{_color(int(colors[k]))} in {counts[k]} pixels" for k in order[:SHOWN]]
    more = [f"and {len(colors) - SHOWN} more"] if len(colors) > SHOWN else []
    return ("colours " if len(colors) > 1 else "colour ") + ", ".join(shown + more)
