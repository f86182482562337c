"""Image and label files: reading and checking them.

H, W: height and width of an image in pixels.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from danet_lightning.data.base import IGNORE, DataError, Pixels, Source, Triple
from danet_lightning.data.files import images
from danet_lightning.data.files.label_file import (
    LabelFile,
    colors_instead_of_ids,
    read_label,
    with_remedy,
)
from danet_lightning.data.files.label_readings import Reading, ambiguous, id_readings, is_grey
from danet_lightning.data.files.layout import read_mat

ID_MODES = ("1", "L", "P", "I;16", "I;16B", "I")
UNMAPPED = 254  # marks, inside a label table, the ids that the data set does not have


class FileSource(Source):
    """Image and label files, checked whenever they are read.

    Args:
        files: One (id, image, label) triple for each image.
        train_ids: The train id (0..253, or 255 for ignored pixels) of every id that a label file
            may hold. Any other id is an error, which is why 255 is not ignored by itself.
        variable: The name of the labels inside label files of MATLAB (.mat).

    Raises:
        ValueError: `train_ids` maps to something that is no train id.
    """

    # What to do about labels that are no class, and about files that can be read in two ways.
    illegal = (
        "Usual causes: a 0/255 mask (write class indices, 0 and 1), an RGB mask saved as grey "
        "(write class indices instead of colors), labels counted from 1 (subtract 1), or the "
        "labels of another data set."
    )
    ambiguous = "Save the labels as 8-bit grey, without a palette."

    def __init__(
        self,
        files: Sequence[Triple],
        train_ids: Mapping[int, int],
        variable: str = "",
    ) -> None:
        self.files = files
        self.variable = variable
        self.allowed = sorted(train_ids)
        self.table = np.full(2**16, UNMAPPED, np.uint8)
        for raw, train_id in train_ids.items():
            if not 0 <= raw < 2**16 or not (0 <= train_id < UNMAPPED or train_id == 255):
                raise ValueError(f"train_ids[{raw}]={train_id}: ids are 0..65535 -> 0..253 or 255")
            self.table[raw] = train_id
        if self.table[0] < UNMAPPED and self.table[IGNORE] == IGNORE:
            self.black = int(self.table[0])
        self._seen: dict[int, tuple[list[int], Path]] = {}  # colors of indices, and who has them

    def __len__(self) -> int:
        return len(self.files)

    def name(self, index: int) -> str:
        """Return the id of an image."""
        return self.files[index][0]

    def read(self, index: int) -> tuple[Pixels, Pixels]:
        """Return the RGB image (H, W, 3) and its train ids (H, W).

        Raises:
            RequestError: A file is missing, damaged, of the wrong kind or size, or holds an
                id outside `train_ids`.
        """
        _, image_path, label_path = self.files[index]
        image, label = read_image(image_path), self._label(label_path)
        if image.shape[:2] != label.values.shape:
            raise DataError(
                f"Image and label differ in size: {image_path} is {_size(image)}, {label_path} is "
                f"{_size(label.values)}.",
                "size_mismatch",
                "Export the labels at the image's stored size (an EXIF rotation is applied to "
                "neither).",
                (image_path, label_path),
            )
        return image, self._mask(label_path, label)

    def paths(self, index: int) -> tuple[Path, ...]:
        """Return the files of image and label."""
        return self.files[index][1:]

    def read_image(self, index: int) -> Pixels:
        """Return the RGB image (H, W, 3) alone.

        Raises:
            RequestError: The file is missing, damaged or of an unsupported kind.
        """
        return read_image(self.files[index][1])

    def read_mask(self, index: int) -> Pixels:
        """Return the train ids (H, W) alone.

        Raises:
            RequestError: As `read`, of what concerns the label file.
        """
        path = self.files[index][2]
        return self._mask(path, self._label(path))

    def _label(self, path: Path) -> LabelFile:
        if self.variable and path.suffix == ".mat":
            return LabelFile(read_mat(path, self.variable))
        return read_label(path)

    def _mask(self, path: Path, label: LabelFile) -> Pixels:
        if label.mode not in ID_MODES:
            raise colors_instead_of_ids(path, label.mode)
        if label.values.dtype == np.uint8:  # a third of numpy's time, beside the decoding
            mask: Pixels = np.asarray(cv2.LUT(label.values, self._lut(path, label)))
        else:
            mask = self.table.take(label.values)
        if (mask == UNMAPPED).any():
            raise self._illegal(path, label.values, mask == UNMAPPED)
        return mask

    def _lut(self, path: Path, label: LabelFile) -> Pixels:
        """The train id (256,) of every value that may be stored."""
        if not self._is_open(label):
            self._refuse_other_colors(path, label)
            return self.table[:256]
        counts = cv2.calcHist([label.values], [0], None, [256], [0, 256]).ravel()
        used = np.flatnonzero(counts)
        readings = self._readings(path, label, used)
        legal = [each for each in readings if not (each.train_ids == UNMAPPED).any()]
        if not legal:
            ids = readings[0].ids[np.searchsorted(used, label.values)]
            raise self._illegal(path, ids, self.table[ids] == UNMAPPED, readings[0].how)
        for other in legal[1:]:
            if (other.train_ids != legal[0].train_ids).any():
                raise ambiguous(path, legal[0], other, counts[used], self.ambiguous)
        lut = np.full(256, UNMAPPED, np.uint8)
        lut[used] = legal[0].train_ids
        return lut

    def _refuse_other_colors(self, path: Path, label: LabelFile) -> None:
        """Refuse a palette in which an index has another color than in a file read before.

        Optimizers and quantisation number colors anew in each file, and every viewer shows the
        same picture. An index that does not occur, or is ignored, may have any color.
        """
        if label.shown is None:
            return
        counts = cv2.calcHist([label.values], [0], None, [256], [0, 256]).ravel()
        for index in np.flatnonzero(counts).tolist():
            if index >= len(label.shown) or self.table[index] == IGNORE:
                continue
            color = label.shown[index].tolist()
            before, other = self._seen.setdefault(index, (color, path))
            if color != before:
                raise DataError(
                    f"{path}: index {index} of the palette has the color {color}, and {before} in "
                    f"{other}: one of them names other classes.",
                    "ambiguous_label",
                    "Save the labels as 8-bit grey, without palettes, if the indices are right; "
                    "as RGB, if the colors are (dataset=folder: with dataset.colors=[...]).",
                    [path, other],
                )

    def _is_open(self, label: LabelFile) -> bool:
        """Whether a file can be read in another way than by the ids that it stores."""
        return label.shown is not None and is_grey(label.shown)

    def _readings(self, path: Path, label: LabelFile, used: NDArray[Any]) -> list[Reading]:
        """What the used values may mean: one way to read them at least."""
        ways = id_readings(path, label, used)
        return [Reading(how, ids, self.table[ids]) for how, ids in ways.items()]

    def _illegal(
        self, path: Path, labels: NDArray[Any], where: NDArray[Any], how: str = "as stored"
    ) -> DataError:
        found = labels[where]
        ids = np.unique(found)
        only_0_255 = ids.tolist() == [255] and bool(((labels == 0) | (labels == 255)).all())
        shown = ", ".join(str(value) for value in ids[:8]) + (", ..." if len(ids) > 8 else "")
        share = f"{found.size} {'pixel' if found.size == 1 else 'pixels'}"
        share += "" if how == "as stored" else f", {how} by its palette"
        return DataError(
            f"{path}: label {shown} ({share}) is outside the allowed {_ranges(self.allowed)}.",
            "mask_0_255" if only_0_255 else "illegal_label",
            self.illegal,
            [path],
        )


def read_image(path: Path) -> Pixels:
    """Read an image as RGB (H, W, 3), as stored: an EXIF rotation is not applied.

    Raises:
        RequestError: The file is missing, damaged or of an unsupported kind.
    """
    try:
        return images.read_image(path, upright=False)
    except DataError as error:
        raise with_remedy(error) from error


def _size(pixels: NDArray[Any]) -> str:
    return f"{pixels.shape[1]} x {pixels.shape[0]}"


def _ranges(values: Sequence[int]) -> str:
    """Write sorted numbers shortly: 0, 1, 2, 255 is "0-2, 255"."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ", ".join(f"{low}-{high}" if low < high else str(low) for low, high in runs)
