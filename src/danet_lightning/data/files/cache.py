"""The pixel cache: the files of a split decoded once, then read as they lie in memory."""

import logging
import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from danet_lightning.data.base import Pixels, Source
from danet_lightning.data.files.cache_building import build
from danet_lightning.data.files.cache_key import cache_key
from danet_lightning.data.files.pixel_file import DamagedError, PixelFile, open_pixels
from danet_lightning.data.files.source import FileSource
from danet_lightning.disk.claim import HeldError, claimed
from danet_lightning.errors import RequestError

log = logging.getLogger(__name__)


class CachedSource(Source):
    """A source whose pixels come from a cache: the same names and the same bytes.

    Args:
        source: What the cache was built from.
        pixels: The cache.
    """

    def __init__(self, source: Source, pixels: PixelFile) -> None:
        self.source = source
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.source)

    def name(self, index: int) -> str:
        """Return the id of an image."""
        return self.source.name(index)

    def paths(self, index: int) -> tuple[Path, ...]:
        """Return the files of image and label."""
        return self.source.paths(index)

    def read(self, index: int) -> tuple[Pixels, Pixels]:
        """Return the RGB image (H, W, 3) and its train ids (H, W), both read-only."""
        return self.pixels.read(index)


def cached(source: Source, name: str, folders: Sequence[Path], workers: int = 0) -> CachedSource:
    """Open the cache of a source, after building it if no folder has it whole.

    Processes that need the same cache at once wait for the first of them to build it.

    Args:
        source: A source of files.
        name: What the cache's file name starts with.
        folders: Where it may lie; it is built in the first that can be written.
        workers: Processes that decode; 0: this one.

    Raises:
        RequestError: The source reads no files, one of them cannot be read, or there is no place
            for the cache.
    """
    if not isinstance(source, FileSource):
        raise RequestError(
            f"data.cache=memmap keeps decoded files, and {type(source).__name__} reads none. "
            "Use data.cache=none."
        )
    key = cache_key(source)
    file_name = f"{name}-{key[:16]}.pixels"
    for folder in folders:  # one may hold it that this user can only read
        pixels = _whole(folder / file_name, key)
        if pixels is not None:
            return CachedSource(source, pixels)
    path = _writable(folders) / file_name
    with _turn(path):
        pixels = _whole(path, key, tell=False)  # by now another process may have built it
        if pixels is None:
            build(source, path, key, workers)
            pixels = open_pixels(path, key)
    return CachedSource(source, pixels)


def _whole(path: Path, key: str, tell: bool = True) -> PixelFile | None:
    try:
        return open_pixels(path, key)
    except FileNotFoundError:
        return None
    except (DamagedError, OSError) as error:
        if tell:
            log.warning("The pixel cache %s is damaged and not read: %s.", path, error)
        return None


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


@contextmanager
def _turn(path: Path) -> Iterator[None]:
    """Wait until no other process builds this file; one that is killed loses its turn."""
    lock = path.with_name(f"{path.name}.lock")
    with ExitStack() as turn:
        try:
            turn.enter_context(claimed(lock, patience=0))
        except HeldError as error:
            log.info("Waiting for the pixel cache %s, which is built by %s.", path, error)
            turn.enter_context(claimed(lock, patience=math.inf))
        yield
