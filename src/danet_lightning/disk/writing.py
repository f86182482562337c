"""Write files that are whole or not there, and say in one sentence what the system refuses."""

import errno
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from danet_lightning.errors import RunError

MAKE_ROOM = "Make room there, then run the same command again."
FULL = {errno.ENOSPC, errno.EDQUOT}
DISK_ERRORS = {*FULL, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE}
FEWER_WORKERS = "fewer workers (data.workers=0: none), and run the same command again."
WORKER_SIGNS = ("DataLoader worker (pid", "shared memory", "Too many open files", "of ancdata")
REMEDIES = {  # by what the system says; a program that stops at these has found no fault of its own
    errno.ENOSPC: MAKE_ROOM,
    errno.EDQUOT: MAKE_ROOM,
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
    """Explain in one sentence why code that is not ours can write no file, or share no memory.

    Args:
        folder: Named where the error names no file.

    Raises:
        RunError: A disk is full, broken, or cannot be written; a DataLoader's worker has died, or
            there is no memory that it could share.
    """
    before = threading.excepthook

    def explain(args: threading.ExceptHookArgs) -> None:  # TensorBoard writes in a thread
        text = _explanation(args.exc_value, folder)
        print(text, file=sys.stderr) if text else before(args)

    threading.excepthook = explain
    try:
        yield
    except (OSError, RuntimeError) as error:
        text = _explanation(error, folder)
        if text is None:
            raise
        raise RunError(text) from error
    finally:
        threading.excepthook = before


def _explanation(error: BaseException | None, folder: Path) -> str | None:
    """Return what the machine lacks, if an error says so; of a worker's, its last line."""
    match error:
        case OSError(errno=errno.EMFILE | errno.ENFILE):
            return f"{error.strerror}: raise the limit by `ulimit -n 4096`, or use {FEWER_WORKERS}"
        case OSError(errno=errno.EACCES | errno.EPERM, filename=str(name)):
            return f"{name}: {error.strerror}. {REMEDIES[errno.EACCES]}"
        case OSError() if error.errno in DISK_ERRORS:
            return refusal(error.filename or f"A file of {folder}", error)
        case RuntimeError():
            lines = str(error).splitlines()
            for line in lines[::-1]:
                if any(sign in line for sign in WORKER_SIGNS):
                    return (
                        f"The processes that read images cannot go on: {line.partition('. ')[0]}. "
                        "Give more memory (shared memory too, in a container by --shm-size=8g), or "
                        f"use {FEWER_WORKERS}"
                    )
    return None


def refusal(path: Path | str, error: OSError) -> str:
    """Say which file could not be written, why, and what to do."""
    remedy = REMEDIES.get(error.errno or 0, "Mend that, then run the same command again.")
    return f"{path} cannot be written ({error.strerror or error}). {remedy}"


def write_content(target: Path, content: bytes) -> None:
    """Write a file, after which there is the old one or the whole new one.

    Raises:
        RunError: It cannot be written; the old file is still there.
    """
    write_atomically(target, lambda file: file.write(content))


def write_new(contents: Mapping[Path, bytes]) -> None:
    """Write files that are not there yet: all of them, or none where one cannot be written.

    Raises:
        RunError: One cannot be written.
    """
    written = []
    try:
        for target, content in contents.items():
            write_content(target, content)
            written.append(target)
    except BaseException:
        for target in written:
            target.unlink(missing_ok=True)
        raise


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
