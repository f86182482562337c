"""What the releases of benchmarks have in common: their folders, lists, MATLAB labels and colors.

H, W: height and width of an image in pixels.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from danet_lightning.data.base import DataError
from danet_lightning.data.files.label_file import ids_of_numbers
from danet_lightning.errors import RequestError


def require_folder(path: Path, layout: str) -> Path:
    """Return the folder if it is there.

    Raises:
        RequestError: It is not; the message adds `layout`, which tells what belongs there.
    """
    if not path.is_dir():
        raise DataError(f"There is no folder {path.absolute()}.\n{layout}", "absent")
    return path


def find_folder(root: Path, places: Sequence[str], content: str, layout: str) -> Path:
    """Return the first of the places below a root that holds `content`, a file or folder.

    People unpack an archive here or one folder higher, and give either as the root.

    Raises:
        RequestError: None does; the message adds `layout`, which tells what belongs there.
    """
    if not root.is_dir():
        raise DataError(f"There is no folder {root.absolute()}.\n{layout}", "absent")
    for place in places:
        if (root / place / content).exists():
            return root / place
    looked = " or ".join(str((root / place / content).absolute()) for place in places)
    raise DataError(f"There is no {looked}.\n{layout}", "absent")


def read_names(path: Path, layout: str) -> list[str]:
    """Read the names of a list of images: one a line, without folders, suffix and repetitions.

    Only the first word of a line counts: some lists give the image's path and the label's.

    Raises:
        RequestError: The list is missing or is no text; the message adds `layout`.
    """
    words = [line.split()[0].rpartition("/")[2] for line in read_lines(path, layout)]
    names = [word.removesuffix(".jpg").removesuffix(".png") for word in words]
    return list(dict.fromkeys(names))


def read_lines(path: Path, layout: str) -> list[str]:
    """Read the lines of a list that are not blank, of names that are no UTF-8 the bytes.

    Raises:
        RequestError: The list is missing or is no text; the message adds `layout`.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
    except FileNotFoundError:
        raise DataError(f"There is no list {path.absolute()}.\n{layout}", "absent") from None
    except OSError as error:
        raise RequestError(f"{path} cannot be read as a list of names: {error}.") from error
    if "\0" in text:
        raise RequestError(
            f"{path} cannot be read as a list of names: it is UTF-16 or no text. Save it in UTF-8."
        )
    # not str.splitlines, for which many a character of a name is the end of a line
    return [line for line in re.split(r"\r\n?|\n", text) if line.strip()]


def read_mat(path: Path, variable: str) -> NDArray[Any]:
    """Read the class ids (H, W) of a MATLAB file.

    Args:
        path: A file of MATLAB's versions 4 to 7.
        variable: The name of the label map; "GTcls.Segmentation" is a field of a struct.

    Raises:
        RequestError: The file is missing or damaged, has no such variable, or it is no label map.
    """
    import scipy.io  # only where labels are MATLAB's

    name, *fields = variable.split(".")
    try:
        with path.open("rb") as file:
            content = scipy.io.loadmat(file, variable_names=[name])
    except NotImplementedError as error:  # an HDF5 file
        raise DataError(
            f"{path} is a MATLAB file of version 7.3.",
            "unreadable",
            "Save it in MATLAB with the option -v7.",
            [path],
        ) from error
    except Exception as error:  # a damaged file makes the reader fail in every possible way
        raise _damaged(path, error) from error
    try:
        value = content[name]
        for field in fields:
            value = value[field][0, 0]
    except (KeyError, IndexError, ValueError) as error:
        raise DataError(
            f"{path} holds no {variable}, as the label files of this data set do.",
            "unreadable",
            "Does it belong to another one, or to another release?",
            [path],
        ) from error
    return _ids(path, variable, value)


def mat_shape(path: Path, variable: str) -> tuple[int, ...] | None:
    """Return the shape of a variable of a MATLAB file without reading it; None if it has none.

    A damaged file has none either; it is refused where its labels are read.
    """
    import scipy.io

    try:
        with path.open("rb") as file:
            shapes = {name: shape for name, shape, _ in scipy.io.whosmat(file)}
    except Exception:  # as above
        return None  # whoever reads the file is told
    return shapes.get(variable)


def voc_colors(count: int) -> tuple[tuple[int, int, int], ...]:
    """PASCAL VOC's first colors, black first; up to 256 of them are distinct.

    The bits of the index are dealt out to red, green and blue in turn, each color's highest bit
    first (`VOClabelcolormap` in the VOC devkit).
    """
    return tuple(
        (_channel(index), _channel(index >> 1), _channel(index >> 2)) for index in range(count)
    )


def _channel(bits: int) -> int:
    """Bits 0, 3 and 6 as bits 7, 6 and 5."""
    return sum((bits >> 3 * place & 1) << 7 - place for place in range(3))


def _ids(path: Path, variable: str, value: Any) -> NDArray[Any]:
    labels = np.asarray(value)
    if labels.ndim != 2 or labels.dtype.kind not in "biuf":
        text = f"{path}: {variable} is no label map, one number for each pixel."
        remedy = "Save a matrix (H, W) of class ids under this name."
        raise DataError(text, "color_mask", remedy, [path])
    remedy = (
        f"In MATLAB, give pixels without a label an ignored id, as {variable}({variable}<0)=255"
    )
    return ids_of_numbers(path, variable, labels, remedy)  # MATLAB's default type is double


def _damaged(path: Path, error: Exception) -> RequestError:
    return DataError(
        f"{path} cannot be read as a MATLAB file: {error}.",
        "unreadable",
        "Copy it again from the archive.",
        [path],
    )
