"""Write files that are whole or not there; what the system refuses is told in one sentence."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from danet_lightning.errors import RunError

ROOM = "Make room there, then run the same command again."
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE}
WORKERS = ("DataLoader worker (pid", "shared memory", "Too many open files", "of ancdata")
REMEDIES = {  # by what the system says; a program that stops at these has found no fault of its own
    errno.ENOSPC: ROOM,
    errno.EDQUOT: ROOM,
    errno.EFBIG: "A limit (`ulimit -f`) or the file system forbids larger files: choose another.",
    errno.EROFS: "Choose a folder that can be written.",
    errno.EACCES: "Mend its permissions, or choose another folder.",
    errno.EPERM: "Mend its permissions, or choose another folder.",
    errno.EIO: "Look at the disk, then run the same command again.",
    errno.ESTALE: "Look at the network drive, then run the same command again.",
    errno.ENOENT: "Its folder was removed: leave it there, and run the same command again.",
}


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Name the file, the reason and the remedy where the system refuses to write a file.

    Raises:
        RunError: It does.
    """
    try:
        yield
    except OSError as error:
        raise RunError(refusal(path, error)) from error


@contextmanager
def machine_errors(folder: Path) -> Iterator[None]:
    """Tell what a machine refuses to code that is not ours, and does not name its file.

    Args:
        folder: What is written, as far as one can know.

    Raises:
        RunError: A disk is full, broken, or cannot be written; a DataLoader's worker has died, or
            there is no memory that it could share.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise RunError(
                f"{error.strerror}: raise the limit by `ulimit -n 4096`, or use fewer "
                "dataset.workers, and run the same command again."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM) and error.filename:
            text = f"{error.filename}: {error.strerror}. {REMEDIES[error.errno]}"
            raise RunError(text) from error
        if error.errno not in DISK:
            raise
        raise RunError(refusal(error.filename or f"A file of {folder}", error)) from error
    except RuntimeError as error:  # the text comes alone, or behind a worker's traceback
        told = [line for line in str(error).splitlines() if any(text in line for text in WORKERS)]
        if not told:
            raise
        raise RunError(
            f"The processes that read images cannot go on: {told[-1].partition('. ')[0]}. Give "
            "more memory (shared memory too, in a container by --shm-size=8g), or fewer "
            "dataset.workers, 0 for none, and run the same command again."
        ) from error


def refusal(path: Path | str, error: OSError) -> str:
    """What is said of a file that could not be written."""
    remedy = REMEDIES.get(error.errno or 0, "Mend that, then run the same command again.")
    return f"{path} cannot be written ({error.strerror or error}). {remedy}"


def write_atomically(
    target: Path, write: Callable[[BinaryIO], Any], name: str = "", suffix: str = ".part"
) -> None:
    """Write a file beside the target, flush it to the disk, rename it.

    Args:
        target: The file.
        write: Writes its content.
        name: What an error calls it; by default its path.
        suffix: Of the file beside it, one of its own where several processes may write the target.

    Raises:
        RunError: It cannot be written; the old file is still there.
    """
    part = target.with_name(f"{target.name}{suffix}")
    with writing(name or target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
