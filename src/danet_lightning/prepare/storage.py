"""Write large data to a disk: room, errors, and a bar that shows the bytes."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from danet_lightning.disk.progress import bar
from danet_lightning.errors import RequestError, RunError

CHUNK = 2**20  # bytes that are read and written at a time
REMEDY = "Free some space, or choose another disk with root=..., and run the command again."


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Explain in one sentence why the operating system refuses to write a path.

    Raises:
        RunError: The disk is full.
        RequestError: The path cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(
                f"{path.absolute()} cannot be written ({error.strerror}): its disk is full. "
                f"{REMEDY}"
            ) from error
        raise RequestError(
            f"{path.absolute()} cannot be written: {error.strerror or error}. Choose another "
            "folder with root=... or archives=..., or mend its permissions."
        ) from error


def byte_bar(name: str, total: int | None, done: int = 0) -> "tqdm[None]":
    """Return a progress bar over bytes, of which some may be there already."""
    options = {"unit": "B", "unit_scale": True, "leave": sys.stderr.isatty()}
    return bar(desc=name, total=total, initial=done, **options)
