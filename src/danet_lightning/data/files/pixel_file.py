"""Decoded images one after another in one file, of which a reader maps what it needs.

NAME.pixels holds, for each image, its RGB bytes (H, W, 3) and then its train ids (H, W);
NAME.json holds the sizes. The sizes are written last: where they are whole, so are the pixels.
"""

import errno
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from danet_lightning.data.base import Pixels
from danet_lightning.disk.writing import write_atomically
from danet_lightning.errors import RequestError

WITHOUT_MAPS = {errno.ENODEV, errno.ENOSYS, errno.EOPNOTSUPP}  # what such file systems say
CHANNELS = 4  # bytes for each pixel: red, green, blue and the train id


class DamagedError(Exception):
    """A file is not what was once written; the message says why."""


class PixelFile:
    """The images and masks of a finished file.

    It is mapped anew for every image and released with it. That costs 0.05 ms, and in return
    there is nothing to share with or send to a worker, a worker's memory does not grow by what
    it has ever read, and a file that is cut short under a running training is an error instead
    of a signal that kills.

    Args:
        path: The .pixels file.
        sizes: Height and width of each image.
    """

    def __init__(self, path: Path, sizes: Sequence[tuple[int, int]]) -> None:
        self.path = path
        self.sizes = np.array(sizes, np.int64).reshape(-1, 2)
        self.starts = np.concatenate([[0], np.cumsum(CHANNELS * self.sizes.prod(axis=1))])

    def read(self, index: int) -> tuple[Pixels, Pixels]:
        """Return the image (H, W, 3) and its train ids (H, W), read-only and not yet loaded.

        Raises:
            RequestError: The file was removed or cut short since it was checked.
        """
        height, width = map(int, self.sizes[index])
        size, start = height * width, int(self.starts[index])
        try:
            mapped = _mapped(self.path, start, CHANNELS * size)
        except (OSError, ValueError) as error:
            raise RequestError(
                f"The pixel cache {self.path} was removed or changed while it was in use: {error}. "
                "Start again: it is built anew."
            ) from error
        pixels = mapped.view(np.ndarray)  # a window of a memmap object is slow to make
        return (
            pixels[: 3 * size].reshape(height, width, 3),
            pixels[3 * size :].reshape(height, width),
        )


def _mapped(path: Path, start: int, count: int) -> Pixels:
    try:
        return np.memmap(path, np.uint8, "r", start, (count,))
    except OSError as error:
        if error.errno not in WITHOUT_MAPS:
            raise
    with path.open("rb") as file:
        file.seek(start)
        content = file.read(count)
    if len(content) < count:
        raise ValueError(f"it ends {count - len(content)} bytes too early")
    return np.frombuffer(content, np.uint8)


def open_pixels(path: Path, key: str) -> PixelFile:
    """Open a file that was written whole for this key.

    Raises:
        FileNotFoundError: There is none.
        DamagedError: There is one, which is not whole or not for this key.
    """
    header = header_of(path)
    if not header.exists() and not path.exists():
        raise FileNotFoundError(path)
    try:
        whole = json.loads(header.read_bytes())
        content, checksum = whole["content"], whole["sha256"]
    except OSError as error:
        raise DamagedError(f"{header.name}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{header.name} cannot be read") from error
    if _checksum(content) != checksum:
        raise DamagedError(f"{header.name} does not match its checksum")
    if content["key"] != key:
        raise DamagedError(f"{header.name} belongs to other files")
    pixels = PixelFile(path, content["sizes"])
    expected = int(pixels.starts[-1])
    found = path.stat().st_size if path.is_file() else 0
    if found != expected:
        raise DamagedError(f"{path.name} has {found} bytes instead of {expected}")
    return pixels


def write_pixels(path: Path, key: str, images: Iterable[tuple[Pixels, Pixels]]) -> None:
    """Write images and masks so that at any moment there is a whole file or none.

    Raises:
        RunError: It cannot be written.
    """
    sizes: list[tuple[int, ...]] = []

    def write(file: BinaryIO) -> None:
        for image, mask in images:
            file.write(np.ascontiguousarray(image).data)
            file.write(np.ascontiguousarray(mask).data)
            sizes.append(mask.shape)

    write_atomically(path, write)
    content = {"key": key, "sizes": sizes}
    header = json.dumps({"sha256": _checksum(content), "content": content}).encode()
    write_atomically(header_of(path), lambda file: file.write(header))


def header_of(path: Path) -> Path:
    """The file with the sizes that belongs to a .pixels file."""
    return path.with_suffix(".json")


def _checksum(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
