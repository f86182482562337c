"""Read and check the image and label files of a data set.

H, W: height and width of an image in pixels.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from danet_lightning.data.base import IGNORE, DataError, Pixels, Source, Triple, histogram
from danet_lightning.data.files.images import read_image
from danet_lightning.data.files.label_file import LabelFile, read_label
from danet_lightning.data.files.legend import Color, legend
from danet_lightning.data.files.matlab import read_mat
from danet_lightning.data.files.readings import UNMAPPED


class FileSource(Source):
    """Image and label files, checked whenever they are read.

    Args:
        files: One (id, image, label) triple for each image.
        train_ids: The train id (0..253, or 255 for ignored pixels) of every id that a label file
            may hold. Any other id is an error, which is why 255 is not ignored by itself.
        colors: The train id of every color that a person's own masks may hold; empty: a mask of
            colors is an error. None: these are a benchmark's label files.
        variable: The name of the labels inside label files of MATLAB (.mat).

    Raises:
        ValueError: `train_ids` maps to something that is no train id.
    """

    def __init__(
        self,
        files: Sequence[Triple],
        train_ids: Mapping[int, int],
        colors: Mapping[Color, int] | None = None,
        variable: str = "",
    ) -> None:
        self.files = files
        self.legend = legend(train_ids, colors)
        self.variable = variable
        black, white = (int(self.legend.table[value]) for value in (0, 255))
        self.black = black if black < UNMAPPED and white == IGNORE else None
        self._seen: dict[int, tuple[list[int], Path]] = {}  # colors of indices, and who has them

    def __len__(self) -> int:
        return len(self.files)

    def name(self, index: int) -> str:
        """Return the id of an image."""
        return self.files[index][0]

    def paths(self, index: int) -> tuple[Path, ...]:
        """Return the files of image and label."""
        return self.files[index][1:]

    def read(self, index: int) -> tuple[Pixels, Pixels]:
        """Return the RGB image (H, W, 3) and its train ids (H, W).

        Raises:
            RequestError: A file is missing, damaged, of the wrong kind or size, or holds an
                id outside `train_ids`.
        """
        _, image_path, label_path = self.files[index]
        image, label = self.read_image(index), self._label(label_path)
        (height, width), (rows, columns) = image.shape[:2], label.values.shape
        if (height, width) != (rows, columns):
            raise DataError(
                f"Image and label differ in size: {image_path} is {width} x {height}, {label_path} "
                f"is {columns} x {rows}.",
                "size_mismatch",
                "Export the labels at the image's stored size (an EXIF rotation is applied to "
                "neither).",
                (image_path, label_path),
            )
        return image, self._mask(label_path, label)

    def read_image(self, index: int) -> Pixels:
        """Return the RGB image (H, W, 3) alone, as stored: an EXIF rotation is not applied.

        Raises:
            RequestError: The file is missing, damaged or of an unsupported kind.
        """
        return read_image(self.files[index][1], upright=False)

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
        if self.legend.reads_indices(label):
            self._refuse_other_colors(path, label)
        return self.legend.mask(path, label)

    def _refuse_other_colors(self, path: Path, label: LabelFile) -> None:
        """Refuse a palette in which an index has another color than in a file read before.

        Optimizers and quantization number colors anew in each file, and every viewer shows the
        same picture. An index that does not occur, or is ignored, may have any color.
        """
        palette = [] if label.shown is None else label.shown.tolist()
        for index in np.flatnonzero(histogram(label.values)).tolist():
            if index >= len(palette) or self.legend.table[index] == IGNORE:
                continue
            before, other = self._seen.setdefault(index, (palette[index], path))
            if palette[index] != before:
                raise DataError(
                    f"{path}: index {index} of the palette has the color {palette[index]}, and "
                    f"{before} in {other}: one of them names other classes.",
                    "ambiguous_label",
                    "Save the labels as 8-bit grey, without palettes, if the indices are right; "
                    "as RGB, if the colors are (dataset=folder: with dataset.colors=[...]).",
                    [path, other],
                )
