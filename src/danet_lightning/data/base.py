"""What a data set is made of: labelled images, and the archives of its release.

H, W: height and width of an image in pixels. Labels are train ids 0..C-1, and 255 is ignored.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from danet_lightning.errors import PLACED, RequestError

if TYPE_CHECKING:  # `check` and `prepare` do without torch: its import takes longer than they do
    from torch import Tensor

Pixels = NDArray[np.uint8]
Place = Annotated[str, PLACED]  # a folder; what is in it is compared by its content
Triple = tuple[str, Path, Path]  # id, image and label

IGNORE = 255  # pixels with this label count in no loss and no metric


def histogram(values: Pixels) -> NDArray[np.int64]:
    """Count the pixels (256,) of each value in a mask (H, W)."""
    return np.array(Image.fromarray(values).histogram())  # a tenth of np.bincount's time


class Sample(TypedDict):
    """One image and its labels as tensors."""

    image: "Tensor"  # (3, H, W) uint8, RGB
    mask: "Tensor"  # (H, W) uint8, train ids and 255
    id: str  # empty for the sample that stands in for a process without images


class DataError(RequestError):
    """Something is wrong with files of a data set; raised where they are used, listed by `check`.

    Args:
        text: What is wrong; the whole message if the rest is not given.
        kind: One word for it, by which `check` sorts its findings.
        remedy: What to do about it.
        files: The files at fault, also those that the text does not name.

    Attributes:
        fact: The text without the remedy.
    """

    is_listed_by_check = True

    def __init__(
        self, text: str, kind: str = "", remedy: str = "", files: Sequence[Path] = ()
    ) -> None:
        super().__init__(f"{text} {remedy}".rstrip())  # one argument: it has to pass processes
        self.fact = text
        self.kind = kind
        self.remedy = remedy
        self.files = tuple(files)


class LeftOutError(DataError):
    """Say which files are left out because a person asked for it; printed, and never raised."""


class Source(ABC):
    """Numbered images with their labels, unchanged from where they come from."""

    black: int | None = None  # train id of 0 in label files in which 255 is ignored

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of images."""

    @abstractmethod
    def name(self, index: int) -> str:
        """Return the image's id: unique in the split, usable as a file name without suffix."""

    @abstractmethod
    def read(self, index: int) -> tuple[Pixels, Pixels]:
        """Return the RGB image (H, W, 3) and its train ids (H, W)."""

    def read_image(self, index: int) -> Pixels:
        """Return the RGB image (H, W, 3) alone."""
        return self.read(index)[0]

    def read_mask(self, index: int) -> Pixels:
        """Return the train ids (H, W) alone."""
        return self.read(index)[1]

    def paths(self, index: int) -> tuple[Path, ...]:
        """Return the files of image and label; none where there are no files."""
        return ()


class Pairs(NamedTuple):
    """The images of a split with their labels.

    Attributes:
        source: Those that are complete.
        problems: What is wrong with the others, or why they are left out.
        published: How many there are as published; None: not known.
    """

    source: Source
    problems: Sequence[DataError] = ()
    published: int | None = None

    @property
    def errors(self) -> list[DataError]:
        """Return the problems that keep the split from being used."""
        return [problem for problem in self.problems if not isinstance(problem, LeftOutError)]


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


class DataSet(ABC):
    """The facts of a data set, and where its images lie; nothing of how they are used.

    Attributes:
        classes: Class names; a train id is the position in it.
        palette: One RGB color (0..255) for each class.
        label_source: Where the labels come from; recorded with every number.
        splits: Names of the splits there may be.
        raw_ids: The label file's id of each class, where a benchmark's server wants it.
        images: How many images each split has, as published.
        archives: The files of its release, for `prepare`.
        root: The folder it lies in; empty without files.
        is_own: Whether a person has put it together, who may put an image into two splits.
    """

    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    label_source: str
    splits: tuple[str, ...] = ("train", "val", "test")
    raw_ids: tuple[int, ...] | None = None
    images: ClassVar[Mapping[str, int]] = {}
    archives: tuple[Archive, ...] = ()
    root: str = ""
    is_own: bool = False

    @abstractmethod
    def pairs(self, split: str) -> Pairs:
        """Find the images and labels of a split; the first access to disk.

        Raises:
            RequestError: They are not there, or not in the expected layout.
        """

    def image_files(self, split: str) -> list[tuple[str, Path]]:
        """Return (id, image) for the images of a split, to predict them; labels may be missing.

        Raises:
            RequestError: The data set has no image files, or something is wrong with them.
        """
        self.require_split(split)
        pairs = self.pairs(split)
        source = pairs.source
        if pairs.errors:
            raise pairs.errors[0]
        if len(source) and not source.paths(0):
            raise RequestError(f"{type(self).__name__} has no image files that could be predicted.")
        return [(source.name(index), source.paths(index)[0]) for index in range(len(source))]

    def require_split(self, split: str) -> None:
        """Refuse the name of a split that there cannot be.

        Raises:
            RequestError: With the names there are.
        """
        if split not in self.splits:
            raise RequestError(f"split={split}: there are {', '.join(self.splits)}.")


def voc_colors(count: int) -> tuple[tuple[int, int, int], ...]:
    """Return PASCAL VOC's first colors, black first; up to 256 of them are distinct.

    The bits of the index are dealt out to red, green and blue in turn, each color's highest bit
    first (`VOClabelcolormap` in the VOC devkit).
    """
    return tuple(
        (_channel(index), _channel(index >> 1), _channel(index >> 2)) for index in range(count)
    )


def _channel(bits: int) -> int:
    """Return bits 0, 3 and 6 as bits 7, 6 and 5."""
    return sum((bits >> 3 * place & 1) << 7 - place for place in range(3))
