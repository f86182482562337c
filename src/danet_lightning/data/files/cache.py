"""The pixel cache: each file of a split decoded once, then read as it lies in memory.

A folder holds, for each image, KEY.image.npy (H, W, 3) and KEY.mask.npy (H, W), in NumPy's own
format. The key is a digest of all that decides the pixels, so nothing stale is ever read: an image
that changes is decoded anew, under another key, and all others stay. Each file is renamed into its
place whole, so there is no lock, and a build that was killed goes on.
"""

import errno
import logging
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from danet_lightning.data.base import Pixels, Source
from danet_lightning.data.files.cache_keys import files_key, rules_key
from danet_lightning.data.samples.loader import SegmentationLoader, start_worker
from danet_lightning.disk.progress import bar
from danet_lightning.disk.space import readable_size, require_space
from danet_lightning.disk.writing import write_atomically
from danet_lightning.errors import RequestError, RunError

log = logging.getLogger(__name__)

CHANNELS = 4  # bytes for each pixel: red, green, blue and the train id
KILLED_AFTER = 600  # seconds after which an unfinished file is of a process that was killed
WITHOUT_MAPS = {errno.ENODEV, errno.ENOSYS, errno.EOPNOTSUPP}  # what such file systems say


class CachedSource(Source):
    """A source whose pixels come from a folder: the same names and the same bytes.

    An image is mapped anew whenever it is read, and released with it. That costs 0.2 ms, and in
    return there is nothing to share with a worker, a worker's memory does not grow by what it has
    ever read, and a file that is cut short under a running training is an error instead of a signal
    that kills.

    Args:
        source: The images and labels.
        folder: Where their pixels lie.
        root: The folder of the data set, in which the keys do not depend on where it lies.
    """

    def __init__(self, source: Source, folder: Path, root: Path | None) -> None:
        self.source = source
        self.folder = folder
        self.root = root
        self.keys = [self._key(index) for index in range(len(source))]
        self.black = source.black

    def __len__(self) -> int:
        return len(self.source)

    def name(self, index: int) -> str:
        """Return the id of an image."""
        return self.source.name(index)

    def paths(self, index: int) -> tuple[Path, ...]:
        """Return the files of image and label that were decoded."""
        return self.source.paths(index)

    def read(self, index: int) -> tuple[Pixels, Pixels]:
        """Return the RGB image (H, W, 3) and its train ids (H, W), read-only and not yet loaded.

        Raises:
            RequestError: A file of the cache was removed or cut short since it was checked.
        """
        image, mask = self._files(index)
        try:
            return _mapped(image), _mapped(mask)
        except (OSError, ValueError, EOFError) as error:
            raise RequestError(
                f"The pixel cache {self.folder} was changed while it was in use: {error}. Start "
                "again: what is missing is built anew."
            ) from error

    def missing(self) -> list[int]:
        """List the images whose files in the folder are not there, or are not whole."""
        return [index for index in range(len(self)) if not self._is_whole(index)]

    def decode(self, index: int) -> None:
        """Read an image and its label from their own files, and write their pixels to the folder.

        Raises:
            RequestError: They cannot be read, or have changed since the folder was opened.
            RunError: The pixels cannot be written.
        """
        pixels = self.source.read(index)
        if self._key(index) != self.keys[index]:
            raise RequestError(
                f"{self.paths(index)[0]} or its label was changed while the pixel cache was built "
                "from it. Start again when nothing writes to the data set any more."
            )
        for path, part in zip(self._files(index), pixels, strict=True):
            save = partial(np.save, arr=np.ascontiguousarray(part, np.uint8))
            write_atomically(path, save, suffix=f".{os.getpid()}.part")  # others may build as well

    def _key(self, index: int) -> str:
        return files_key(self.paths(index), self.root)

    def _files(self, index: int) -> tuple[Path, Path]:
        key = self.keys[index]
        return self.folder / f"{key}.image.npy", self.folder / f"{key}.mask.npy"

    def _is_whole(self, index: int) -> bool:
        try:
            image, mask = map(_mapped, self._files(index))
        except FileNotFoundError:
            return False
        except (OSError, ValueError, EOFError) as error:
            log.warning("A file of the pixel cache %s is damaged: %s.", self.folder, error)
            return False
        is_bytes = image.dtype == mask.dtype == np.uint8
        return is_bytes and image.shape == (*mask.shape, 3)


def cached(
    source: Source, name: str, folders: Sequence[Path], workers: int = 0, root: Path | None = None
) -> CachedSource:
    """Open the cache of a source, after decoding the images that it lacks.

    Args:
        source: Images and labels that are files.
        name: What the cache's folder is called, before a digest of the rules by which labels are
            read.
        folders: Where that folder may lie; what is lacking is written into the first that can be.
        workers: Processes that decode; 0: this one.
        root: The data set's folder; a data set that is moved as a whole keeps its cache.

    Raises:
        RequestError: The source reads no files, one of them cannot be read or changes meanwhile,
            or there is no place for the cache.
        RunError: The cache cannot be written.
    """
    if len(source) and not source.paths(0):
        raise RequestError(
            f"data.cache=memmap keeps decoded files, and {type(source).__name__} reads none. Use "
            "data.cache=none."
        )
    place = f"{name}-{rules_key(source)}"
    for folder in folders:  # one may hold it that this user can only read
        if (folder / place).is_dir():
            cache = CachedSource(source, folder / place, root)
            if not cache.missing():
                return cache
    cache = CachedSource(source, _writable(folders) / place, root)
    _complete(cache, workers)
    return cache


def _mapped(path: Path) -> Pixels:
    try:
        pixels: Pixels = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        if error.errno not in WITHOUT_MAPS:
            raise
        pixels = np.load(path, allow_pickle=False)
        pixels.flags.writeable = False
    return pixels


def _writable(folders: Sequence[Path]) -> Path:
    problems = []
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            problems.append(f"{folder.absolute()} ({error.strerror})")
        else:
            return folder
    raise RequestError(
        f"The pixel cache cannot be written to {' or '.join(problems)}. Give data.cache_dir a "
        "folder that can be, or use data.cache=none."
    )


def _complete(cache: CachedSource, workers: int) -> None:
    """Decode what a cache lacks, each image into files of its own."""
    missing = cache.missing()
    if not missing:
        return
    remedy = "Or give data.cache_dir another folder, or use data.cache=none."
    size = sum(CHANNELS * _pixel_count(cache.source, index) for index in missing)
    require_space(cache.folder.parent, size, "The pixel cache", f"Free some space. {remedy}")
    for part in cache.folder.glob("*.part"):
        with suppress(OSError):
            if time.time() - part.stat().st_mtime > KILLED_AFTER:
                part.unlink()
    log.info("Building the pixel cache %s: %s to write.", cache.folder, readable_size(size))
    loader = SegmentationLoader(
        _Decoding(cache, missing),
        batch_size=None,
        num_workers=min(workers, len(missing)),
        worker_init_fn=start_worker,
    )
    try:
        cache.folder.mkdir(exist_ok=True)
        for _ in bar(loader, desc="cache", total=len(missing), unit="image"):
            pass
    except (RunError, OSError) as error:
        raise RunError(f"The pixel cache: {error} {remedy}") from error


class _Decoding(Dataset[int]):
    """The images that a cache lacks; getting one decodes it, in whichever process that happens."""

    def __init__(self, cache: CachedSource, missing: Sequence[int]) -> None:
        self.cache = cache
        self.missing = missing

    def __len__(self) -> int:
        return len(self.missing)

    def __getitem__(self, number: int) -> int:
        self.cache.decode(self.missing[number])
        return number


def _pixel_count(source: Source, index: int) -> int:
    """Return the pixels of one image, of which as little is read as its format allows."""
    try:
        with Image.open(source.paths(index)[0]) as image:
            return image.width * image.height
    except Exception:  # whatever a damaged file makes of a decoder; reading it says more
        return source.read(index)[1].size
