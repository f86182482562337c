"""What a data set is made of: labelled images, and the archives of its release.

H, W: height and width of an image in pixels. Labels are train ids 0..C-1, and 255 is ignored.
"""

from typing import NamedTuple, Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Pixels = NDArray[np.uint8]

IGNORE = 255  # pixels with this label count in no loss and no metric


class Sample(TypedDict):
    """One image and its labels as tensors."""

    image: Tensor  # (3, H, W) uint8, RGB
    mask: Tensor  # (H, W) uint8, train ids and 255
    id: str  # empty for the sample that stands in for a process without images


class Source(Protocol):
    """Numbered images with their labels, unchanged from where they come from."""

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def name(self, index: int) -> str:
        """Return the image's id: unique in the split, usable as a file name without suffix."""
        ...

    def read(self, index: int) -> tuple[Pixels, Pixels]:
        """Return the RGB image (H, W, 3) and its train ids (H, W)."""
        ...


class Archive(NamedTuple):
    """One file of a release.

    Attributes:
        name: The published file name. Its suffix tells the format: .zip, .tar, .tar.gz or .tgz;
            any other file is used as it is.
        entries: The folders and files of it that are used, by their places below the root. The
            archive may hold them inside further folders.
        urls: Where it can be fetched, tried in this order; none: only a person may.
        checksum: Of the published file: "md5:...", "sha1:..." or "sha256:...". None: not known.
        page: Where a person gets it, if no URL serves.
        option: The argument of the data set that names the folder the entries are in.
    """

    name: str
    entries: tuple[str, ...]
    urls: tuple[str, ...] = ()
    checksum: str | None = None
    page: str = ""
    option: str = "root"
