"""What is in an archive: its files by their paths, and which of them may be unpacked."""

import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, NamedTuple

from danet_lightning.errors import RequestError
from danet_lightning.preparing.storage import CHUNK

TARS = (".tar", ".tar.gz", ".tgz")
DAMAGED = (  # what the readers of damaged files raise; a RuntimeError is an encrypted one
    zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, RuntimeError,
)  # fmt: skip


class Member(NamedTuple):
    """A file in an archive, or a link, device or pipe if it is not regular."""

    path: PurePosixPath
    size: int
    regular: bool
    open: Callable[[], IO[bytes]]


@contextmanager
def open_members(archive: Path) -> Iterator[list[Member]]:
    """Open an archive and list its files; they can be read until it is closed.

    Raises:
        RequestError: It is damaged, also when that is found while its files are read.
    """
    try:
        if archive.name.endswith(".zip"):
            with zipfile.ZipFile(archive) as zipped:
                yield [_in_zip(zipped, info) for info in zipped.infolist() if not info.is_dir()]
        elif archive.name.endswith(TARS):
            with tarfile.open(archive) as tar:
                found = [_in_tar(tar, info) for info in tar.getmembers() if not info.isdir()]
                _check_end(archive, tar)
                yield found
        else:
            size = archive.stat().st_size
            yield [Member(PurePosixPath(archive.name), size, True, lambda: archive.open("rb"))]
    except DAMAGED as error:
        raise RequestError(
            f"{archive.absolute()} cannot be unpacked: {error}. It is damaged, or no such archive; "
            "remove it and fetch it again."
        ) from error


def _check_end(archive: Path, tar: tarfile.TarFile) -> None:
    """Miss the end of a tar that was cut between two files, with which its reader is content."""
    if archive.name.endswith(".tar"):
        with archive.open("rb") as file:
            file.seek(-min(tarfile.BLOCKSIZE, archive.stat().st_size), os.SEEK_END)
            if any(file.read()):
                raise tarfile.ReadError("its end is missing")
    while tar.fileobj and tar.fileobj.read(CHUNK):
        pass  # up to gzip's checksum


def _in_zip(zipped: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    regular = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG)
    path = PurePosixPath(info.filename)
    return Member(path, info.file_size, regular, partial(zipped.open, info))


def _in_tar(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    def extract() -> IO[bytes]:
        file = tar.extractfile(info)
        assert file is not None  # it is regular: no other member is opened
        return file

    return Member(PurePosixPath(info.name), info.size, info.isreg(), extract)


def chosen_members(
    archive: Path, members: Sequence[Member], entries: Sequence[str]
) -> list[tuple[PurePosixPath, Member]]:
    """Return the members below the entries, with their places below the target.

    Raises:
        RequestError: An entry is missing, or the archive has paths or links that lead out of it.
    """
    for member in members:
        if _leads_out(member.path):
            raise _refused(archive, f"the path {str(member.path)!r} leads out of the folder")
    folders = {folder for member in members for folder in (member.path, *member.path.parents)}
    bases = [base for base in folders if all(base / entry in folders for entry in entries)]
    if not bases:
        top = sorted({member.path.parts[0] for member in members if member.path.parts})
        raise RequestError(
            f"{archive.absolute()} holds no {', '.join(entries)}, but "
            f"{', '.join(top[:8]) or 'nothing'}: it is not the file that is expected by this name."
        )
    base = min(bases, key=lambda folder: (len(folder.parts), folder))
    chosen = [
        (member.path.relative_to(base), member)
        for member in members
        if any(member.path.is_relative_to(base / entry) for entry in entries)
    ]
    for path, member in chosen:
        if not member.regular:  # not even links that stay inside: a chain of them can lead out
            raise _refused(archive, f"{str(path)!r} is a link or a device")
    return chosen


def _leads_out(path: PurePosixPath) -> bool:
    """Judged by the rules of Windows, which know every separator and root that POSIX does."""
    judged = PureWindowsPath(path)
    return bool(judged.drive or judged.root or ".." in judged.parts)


def _refused(archive: Path, problem: str) -> RequestError:
    return RequestError(
        f"{archive.absolute()} is not unpacked: {problem}, as in no archive of a data set. Remove "
        "it and fetch it from where it is published."
    )
