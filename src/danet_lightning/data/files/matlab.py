"""Read the label maps of MATLAB files, in which some benchmarks publish them.

H, W: height and width of an image in pixels.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from danet_lightning.data.base import DataError
from danet_lightning.data.files.label_file import ids_of_numbers


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
        text = f"{path} is a MATLAB file of version 7.3."
        remedy = "Save it in MATLAB with the option -v7."
        raise DataError(text, "unreadable", remedy, [path]) from error
    except Exception as error:  # a damaged file makes the reader fail in every possible way
        text = f"{path} cannot be read as a MATLAB file: {error}."
        remedy = "Copy it again from the archive."
        raise DataError(text, "unreadable", remedy, [path]) from error
    try:
        value = content[name]
        for field in fields:
            value = value[field][0, 0]
    except (KeyError, IndexError, ValueError) as error:
        text = f"{path} holds no {variable}, as the label files of this data set do."
        remedy = "Does it belong to another one, or to another release?"
        raise DataError(text, "unreadable", remedy, [path]) from error
    labels = np.asarray(value)
    if labels.ndim != 2 or labels.dtype.kind not in "biuf":
        text = f"{path}: {variable} is no label map, one number for each pixel."
        remedy = "Save a matrix (H, W) of class ids under this name."
        raise DataError(text, "color_mask", remedy, [path])
    remedy = (
        f"In MATLAB, give pixels without a label an ignored id, as {variable}({variable}<0)=255"
    )
    return ids_of_numbers(path, variable, labels, remedy)  # MATLAB's default type is double


def mat_shape(path: Path, variable: str) -> tuple[int, ...] | None:
    """Return the shape of a variable of a MATLAB file without reading it; None if it has none.

    A damaged file has none either; it is refused where its labels are read.
    """
    import scipy.io

    try:
        with path.open("rb") as file:
            shapes = {name: shape for name, shape, _ in scipy.io.whosmat(file)}
    except Exception:  # as above
        return None
    return shapes.get(variable)
