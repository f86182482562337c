"""Writing large data to a disk: room, errors, and a bar that shows the bytes."""

import errno
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from danet_lightning.disk.progress import bar
from danet_lightning.errors import RequestError, RunError

CHUNK = 2**20  # bytes that are read and written at a time
AGAIN = "Free some space, or choose another disk with root=..., and run the command again."


def require_space(folder: Path, needed: int, name: str) -> None:
    """Check that so many bytes still fit on the disk of a folder.

    Raises:
        RequestError: They do not.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise RequestError(
            f"{name} needs {gigabytes(needed)} in {folder.absolute()}, and {gigabytes(free)} are "
            f"free there. {AGAIN}"
        )


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Explain what the operating system refuses while a path is written.

    Raises:
        RunError: The disk is full.
        RequestError: The path cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(
                f"{path.absolute()} cannot be written ({error.strerror}): its disk is full. {AGAIN}"
            ) from error
        raise RequestError(
            f"{path.absolute()} cannot be written: {error.strerror or error}. Choose another "
            "folder with root=... or archives=..., or mend its permissions."
        ) from error


def progress(name: str, total: int | None, done: int = 0) -> "tqdm[None]":
    """Return a bar over bytes; in a log file it is a line now and then."""
    options = {"unit": "B", "unit_scale": True, "leave": sys.stderr.isatty()}
    return bar(desc=name, total=total, initial=done, **options)


def gigabytes(count: int) -> str:
    """Write a number of bytes as people do."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
