"""Read archives: the files in them by their paths, and none that could harm whoever unpacks it."""

import gzip
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, NamedTuple, cast

from danet_lightning.errors import RequestError, RunError
from danet_lightning.prepare.storage import CHUNK

# What no release of a data set exceeds by far. COCO's largest archive has 123,000 files.
MAX_MEMBERS = 300_000
MAX_FOLDERS = 50_000
MAX_DEPTH, MAX_LENGTH = 32, 1000  # of a path: its folders, its characters
MAX_RATIO = 100  # bytes out of one; images are compressed already, so 1 is usual
SMALL = 2**30  # bytes that an archive may unpack to whatever its ratio
# What is read at once of a description, which the standard library keeps in memory.
TAR_HEADER = 2**20  # bytes that describe one member
TAR_FACTS = 100  # that a tar states of all its members
ZIP_LIST = 128 * MAX_MEMBERS  # bytes


class Member(NamedTuple):
    """A file in an archive; a link, device or pipe is listed as well, and is not regular."""

    path: PurePosixPath
    size: int
    is_regular: bool
    is_folder: bool
    open: Callable[[], IO[bytes]]


@contextmanager
def open_archive(archive: Path) -> Iterator[list[Member]]:
    """Open an archive and list its files, which can be read until it is closed.

    Args:
        archive: A .zip, .tar, .tar.gz or .tgz; any other file is a list of itself.

    Raises:
        RequestError: It is damaged, also when that shows while its files are read; it would unpack
            to more than any data set, or to places outside of a folder.
    """
    try:
        size = archive.stat().st_size
        limit = max(SMALL, MAX_RATIO * size)
        with ExitStack() as files:
            raw: IO[bytes] = files.enter_context(archive.open("rb"))
            if archive.name.endswith(".zip"):
                metered = MeteredFile(raw, size, ZIP_LIST)
                zipped = files.enter_context(zipfile.ZipFile(cast(IO[bytes], metered)))
                yield _listed(archive, _zip_members(zipped, metered), limit)
            elif archive.name.endswith((".tar", ".tar.gz", ".tgz")):
                is_packed = raw.read(2) == b"\x1f\x8b"
                raw.seek(0)
                if is_packed:  # by gzip, whose memory is small; no other compression is read
                    raw = cast(IO[bytes], files.enter_context(gzip.open(raw)))
                metered = MeteredFile(raw, limit, TAR_HEADER)
                file = cast(IO[bytes], metered)
                tar = files.enter_context(tarfile.open(fileobj=file, mode="r:"))
                members = _listed(archive, _tar_members(tar, metered), limit)
                _require_end(metered)
                yield members
            else:
                path = PurePosixPath(archive.name)
                yield [Member(path, size, True, False, lambda: archive.open("rb"))]
    except (RequestError, RunError):
        raise
    except Exception as error:  # a damaged file makes the readers fail in every possible way
        raise RequestError(
            f"{archive.absolute()} cannot be unpacked: {error or type(error).__name__}. It is "
            "damaged, or no such archive; remove it and fetch it again."
        ) from error


def _listed(archive: Path, members: Iterable[Member], limit: int) -> list[Member]:
    """List the members but the folders, as long as a data set may have so many, deep and large.

    Args:
        archive: For the message.
        members: What the archive says it holds; no more is read of it than is allowed.
        limit: Bytes that the members may have together.
    """
    files: list[Member] = []
    folders: set[PurePosixPath] = set()
    count = total = 0
    for count, member in enumerate(members, 1):
        name = str(member.path)
        if len(member.path.parts) > MAX_DEPTH or len(name) > MAX_LENGTH:
            raise harmful(archive, f"the path {name[:60]}... is too deep or too long")
        by_windows = PureWindowsPath(name)  # whose rules know each separator and root of POSIX, too
        if by_windows.drive or by_windows.root or ".." in by_windows.parts:
            raise harmful(archive, f"the path {name!r} leads out of the folder")
        total += member.size
        folders.update(member.path.parents)
        if count > MAX_MEMBERS or len(folders) > MAX_FOLDERS:
            raise harmful(archive, f"it has more than {MAX_MEMBERS} files or {MAX_FOLDERS} folders")
        if total > limit:
            raise harmful(archive, f"it unpacks to more than {limit / 1e9:.1f} GB")
        if not member.is_folder:
            files.append(member)
    return files


class MeteredFile:
    """A file of which only so much can be read at once, as its reader keeps that in memory.

    Args:
        file: What is read.
        limit: Bytes that it may have.
        allowance: Bytes that may be read before a new allowance is set; None: any number.
    """

    def __init__(self, file: IO[bytes], limit: int, allowance: int | None) -> None:
        self.file = file
        self.limit = limit
        self.allowance = allowance
        self.tell, self.seekable = file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        """Read bytes, or raise a ReadError where they exceed the allowance or the limit."""
        if size < 0:
            size = self.limit - self.tell()
        if self.allowance is not None:
            if size > self.allowance:
                raise tarfile.ReadError("what it says of its files is longer than it could be")
            self.allowance -= size
        data = self.file.read(size)
        if self.tell() > self.limit:
            raise tarfile.ReadError(f"it unpacks to more than {self.limit / 1e9:.1f} GB")
        return data

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        """Move to a place, or raise a ReadError where it lies behind the limit."""
        if whence == os.SEEK_SET and place > self.limit:
            raise tarfile.ReadError("it ends before a file in it does")
        return self.file.seek(place, whence)


def _require_end(metered: MeteredFile) -> None:
    """Detect a tar that was cut between two members, which `tarfile` does not."""
    if not isinstance(metered.file, gzip.GzipFile):
        metered.seek(0, os.SEEK_END)
        metered.seek(-min(tarfile.BLOCKSIZE, metered.tell()), os.SEEK_END)
        if any(metered.read(tarfile.BLOCKSIZE)):
            raise tarfile.ReadError("its end is missing")
    while metered.read(CHUNK):
        pass  # up to gzip's checksum


def _zip_members(zipped: zipfile.ZipFile, metered: MeteredFile) -> Iterator[Member]:
    metered.allowance = None
    end = 0
    for info in sorted(zipped.infolist(), key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise zipfile.BadZipFile("files in it overlap")
        end = info.header_offset + info.compress_size
        is_regular = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG)
        path, opened = PurePosixPath(info.filename), partial(zipped.open, info)
        yield Member(path, info.file_size, is_regular, info.is_dir(), opened)


def _tar_members(tar: tarfile.TarFile, metered: MeteredFile) -> Iterator[Member]:
    place = -1
    while (info := tar.next()) is not None:
        if info.size < 0 or info.offset <= place or len(tar.pax_headers) > TAR_FACTS:
            raise tarfile.ReadError(f"it says of {info.name[:60]} what cannot be")
        place = info.offset
        info.pax_headers = {}  # each has a copy of the whole archive's
        is_regular = info.isreg() and not info.issparse()
        path = PurePosixPath(info.name)
        opened = cast(Callable[[], IO[bytes]], partial(tar.extractfile, info))
        yield Member(path, info.size, is_regular, info.isdir(), opened)
        metered.allowance = TAR_HEADER
    metered.allowance = None


def choose_members(
    archive: Path, members: Sequence[Member], entries: Sequence[str]
) -> list[tuple[PurePosixPath, Member]]:
    """Return the members below the entries, with their places below the target.

    Raises:
        RequestError: An entry is missing, or something below one is no file.
    """
    folders = {folder for member in members for folder in (member.path, *member.path.parents)}
    bases = [base for base in folders if all(base / entry in folders for entry in entries)]
    if not bases:
        top = sorted({member.path.parts[0] for member in members if member.path.parts})
        raise RequestError(
            f"{archive.absolute()} holds no {', '.join(entries)}, but "
            f"{', '.join(top[:8]) or 'nothing'}: it is not the file that is expected by this name."
        )
    base = min(bases, key=lambda folder: (len(folder.parts), folder))
    roots = {base / entry for entry in entries}
    chosen = []
    for member in members:
        if not roots.isdisjoint((member.path, *member.path.parents)):
            path = member.path.relative_to(base)
            if not member.is_regular:  # not even links inside: a chain of them can lead out
                raise harmful(archive, f"{str(path)!r} is a link or a device")
            chosen.append((path, member))
    return chosen


def harmful(archive: Path, problem: str) -> RequestError:
    """Return what is raised for an archive that is whole, and of which somebody means harm."""
    return RequestError(
        f"{archive.absolute()} is not unpacked: {problem}, as in no archive of a data set. Remove "
        "it and fetch it from where it is published."
    )
