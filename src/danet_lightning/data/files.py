"""Image and label files: reading and checking them.

H, W: height and width of an image in pixels.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from danet_lightning import images
from danet_lightning.data.dataset import Pixels
from danet_lightning.data.release import read_mat
from danet_lightning.errors import RequestError

LABEL_MODES = ("1", "L", "P", "I;16", "I;16B", "I")
REMEDY = "Copy the file again if it is damaged, remove it from the data set if it is no image."
UNMAPPED = 254  # marks, inside a label table, the ids that the data set does not have


class FileSource:
    """Image and label files, checked whenever they are read.

    Args:
        files: One (id, image, label) triple for each image.
        train_ids: The train id (0..253, or 255 for ignored pixels) of every id that a label file
            may hold. Any other id is an error, which is why 255 is not ignored by itself.
        variable: The name of the labels inside label files of MATLAB (.mat).

    Raises:
        ValueError: `train_ids` maps to something that is no train id.
    """

    def __init__(
        self,
        files: Sequence[tuple[str, Path, Path]],
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
        image, labels = read_image(image_path), self._labels(label_path)
        if image.shape[:2] != labels.shape:
            raise RequestError(
                f"Image and label differ in size: {image_path} is {_size(image)}, {label_path} is "
                f"{_size(labels)}.",
                "size_mismatch",
                "Export the labels at the image's stored size (an EXIF rotation is applied to "
                "neither).",
                (image_path, label_path),
            )
        return image, self._mask(label_path, labels)

    def read_mask(self, index: int) -> Pixels:
        """Return the train ids (H, W) alone.

        Raises:
            RequestError: As `read`, of what concerns the label file.
        """
        path = self.files[index][2]
        return self._mask(path, self._labels(path))

    def _mask(self, path: Path, labels: NDArray[Any]) -> Pixels:
        if labels.dtype == np.uint8:  # a third of numpy's time, which counts beside the decoding
            mask: Pixels = np.asarray(cv2.LUT(labels, self.table[:256]))
        else:
            mask = self.table.take(labels, mode="clip")
        if (mask == UNMAPPED).any():
            raise self._illegal(path, labels, labels[mask == UNMAPPED])
        return mask

    def _labels(self, path: Path) -> NDArray[Any]:
        return read_mat(path, self.variable) if path.suffix == ".mat" else read_labels(path)

    def _illegal(self, path: Path, labels: NDArray[Any], found: NDArray[Any]) -> RequestError:
        ids = np.unique(found)
        only_0_255 = ids.tolist() == [255] and bool(((labels == 0) | (labels == 255)).all())
        shown = ", ".join(str(value) for value in ids[:8]) + (", ..." if len(ids) > 8 else "")
        share = f"{found.size} {'pixel' if found.size == 1 else 'pixels'}"
        return RequestError(
            f"{path}: label {shown} ({share}) is outside the allowed {_ranges(self.allowed)}.",
            "mask_0_255" if only_0_255 else "illegal_label",
            "Usual causes: a 0/255 mask (write class indices, 0 and 1), an RGB mask saved as grey "
            "(write class indices instead of colours), labels counted from 1 (subtract 1), or "
            "the labels of another data set.",
            [path],
        )


def read_image(path: Path) -> Pixels:
    """Read an image as RGB (H, W, 3), as stored: an EXIF rotation is not applied.

    Raises:
        RequestError: The file is missing, damaged or of an unsupported kind.
    """
    try:
        return images.read_image(path, upright=False)
    except ValueError as error:
        raise RequestError(f"{error}.", "unreadable", REMEDY, [path]) from error


def read_labels(path: Path) -> NDArray[Any]:
    """Read the class ids (H, W) of a label file; of a palette image the indices.

    Raises:
        RequestError: The file is missing, damaged, or holds colours instead of ids.
    """
    return ids_of(path, decode(path))


def ids_of(path: Path, image: Image.Image) -> NDArray[Any]:
    """Return the class ids (H, W) of a decoded label file; of a palette image the indices.

    Raises:
        RequestError: It holds colours instead of ids.
    """
    if image.mode not in LABEL_MODES:
        raise RequestError(
            f"{path}: a label file holds one class index for each pixel, and this is an image of "
            f"{len(image.getbands())} channels ({image.mode}).",
            "colour_mask",
            "Convert its colours to class indices and save them as an 8-bit grey or palette PNG.",
            [path],
        )
    labels = np.asarray(image)
    return labels.astype(np.uint8) if labels.dtype == bool else labels


def decode(path: Path) -> Image.Image:
    """Return an image file as it is stored, whole: an orientation is not applied.

    Raises:
        RequestError: The file is missing or damaged.
    """
    try:
        with path.open("rb") as file, Image.open(file) as image:
            return images.decode(image)  # everything, so a truncated file is found here
    except Exception as error:  # a damaged file makes decoders fail in every possible way
        text = f"{path} cannot be read as an image: {error}."
        raise RequestError(text, "unreadable", REMEDY, [path]) from error


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
