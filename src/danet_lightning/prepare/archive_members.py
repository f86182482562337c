"""What is in an archive: its files by their paths, and which of them may be unpacked."""

import gzip
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Literal, NamedTuple, cast

from danet_lightning.errors import RequestError, RunError
from danet_lightning.prepare.storage import CHUNK

TARS = (".tar", ".tar.gz", ".tgz")
# What no release of a data set exceeds by far. COCO's largest archive has 123,000 files.
MEMBERS = 300_000
FOLDERS = 50_000
DEPTH, LENGTH = 32, 1000  # of a path: its folders, its characters
HEADER = 2**20  # bytes that describe one member of a tar
GLOBAL_FACTS = 100  # that a tar states of all its members
DIRECTORY = 128 * MEMBERS  # bytes of the list in a zip
RATIO = 100  # bytes out of one; images are compressed already, so 1 is usual
ALWAYS = 2**30  # bytes that a small archive may unpack to all the same


Kind = Literal["file", "folder", "other"]


class Member(NamedTuple):
    """A file or folder in an archive, or a link, device or pipe, which is neither."""

    path: PurePosixPath
    size: int
    kind: Kind
    open: Callable[[], IO[bytes]]


@contextmanager
def open_members(archive: Path) -> Iterator[list[Member]]:
    """Open an archive and list its files; they can be read until it is closed.

    Raises:
        RequestError: It is damaged, also when that is found while its files are read, or it would
            unpack to more than any data set.
    """
    try:
        size = archive.stat().st_size
        limit = max(ALWAYS, RATIO * size)
        if archive.name.endswith(".zip"):
            with archive.open("rb") as raw:
                metered = _Metered(raw, size, DIRECTORY)
                with zipfile.ZipFile(metered) as zipped:
                    yield bounded(archive, _in_zip(zipped, metered), limit)
        elif archive.name.endswith(TARS):
            with _plain(archive) as raw:
                metered = _Metered(raw, limit, HEADER)
                with tarfile.open(fileobj=cast(IO[bytes], metered), mode="r:") as tar:
                    members = bounded(archive, _in_tar(tar, metered), limit)
                    _check_end(metered)
                    yield members
        else:
            path = PurePosixPath(archive.name)
            yield [Member(path, size, "file", lambda: archive.open("rb"))]
    except (RequestError, RunError):
        raise
    except Exception as error:  # a damaged file makes the readers fail in every possible way
        raise RequestError(
            f"{archive.absolute()} cannot be unpacked: {error or type(error).__name__}. It is "
            "damaged, or no such archive; remove it and fetch it again."
        ) from error


def bounded(archive: Path, members: Iterable[Member], limit: int) -> list[Member]:
    """List what an archive says it holds, as long as that is what a data set may be.

    Args:
        archive: For the message.
        members: Its members, of which no more are asked for than are taken.
        limit: Bytes that they may have together.

    Raises:
        RequestError: They are too many, too deep or too large.
    """
    found: list[Member] = []
    folders: set[PurePosixPath] = set()
    total = 0
    for member in members:
        name = str(member.path)
        if len(member.path.parts) > DEPTH or len(name) > LENGTH:
            raise refused(archive, f"the path {name[:60]}... is too deep or too long")
        found.append(member)
        total += member.size
        for folder in member.path.parents:
            if folder in folders:
                break
            folders.add(folder)
        if len(found) > MEMBERS or len(folders) > FOLDERS:
            raise refused(archive, f"it has more than {MEMBERS} files or {FOLDERS} folders")
        if total > limit:
            raise refused(archive, f"it unpacks to more than {limit / 1e9:.1f} GB")
    return [member for member in found if member.kind != "folder"]


class _Metered:
    """A file of which only so much can be read at once, as whoever asks keeps it in memory.

    Args:
        file: What is read.
        limit: Bytes that it may have.
        allowance: Bytes that may be read until there is a new allowance; None: any number.
    """

    def __init__(self, file: IO[bytes], limit: int, allowance: int | None) -> None:
        self.file = file
        self.limit = limit
        self.allowance = allowance
        self.tell, self.seekable = file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
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
        if whence == os.SEEK_SET and place > self.limit:
            raise tarfile.ReadError("it ends before a file in it does")
        return self.file.seek(place, whence)


@contextmanager
def _plain(archive: Path) -> Iterator[IO[bytes]]:
    """A tar without its compression; no other than gzip, whose memory is small."""
    with archive.open("rb") as raw:
        is_packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if not is_packed:
            yield raw
            return
        with gzip.open(raw) as unpacked:
            yield cast(IO[bytes], unpacked)


def _check_end(metered: _Metered) -> None:
    """Miss the end of a tar that was cut between two files, with which its reader is content."""
    if not isinstance(metered.file, gzip.GzipFile):
        metered.seek(0, os.SEEK_END)
        metered.seek(-min(tarfile.BLOCKSIZE, metered.tell()), os.SEEK_END)
        if any(metered.read(tarfile.BLOCKSIZE)):
            raise tarfile.ReadError("its end is missing")
    while metered.read(CHUNK):
        pass  # up to gzip's checksum


def _in_zip(zipped: zipfile.ZipFile, metered: _Metered) -> Iterator[Member]:
    metered.allowance = None
    end = 0
    for info in sorted(zipped.infolist(), key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise zipfile.BadZipFile("files in it overlap")
        end = info.header_offset + info.compress_size
        is_file = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG)
        kind: Kind = "folder" if info.is_dir() else "file" if is_file else "other"
        yield Member(PurePosixPath(info.filename), info.file_size, kind, partial(zipped.open, info))


def _in_tar(tar: tarfile.TarFile, metered: _Metered) -> Iterator[Member]:
    place = -1
    while True:
        metered.allowance = HEADER
        info = tar.next()
        if info is None:
            metered.allowance = None
            return
        if info.size < 0 or info.offset <= place or len(tar.pax_headers) > GLOBAL_FACTS:
            raise tarfile.ReadError(f"it says of {info.name[:60]} what cannot be")
        place = info.offset
        info.pax_headers = {}  # each has a copy of the whole archive's
        is_file = info.isreg() and not info.issparse()
        kind: Kind = "folder" if info.isdir() else "file" if is_file else "other"
        yield Member(PurePosixPath(info.name), info.size, kind, partial(_extracted, tar, info))


def _extracted(tar: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    file = tar.extractfile(info)
    assert file is not None  # it is regular: no other member is opened
    return file


def chosen_members(
    archive: Path, members: Sequence[Member], entries: Sequence[str]
) -> list[tuple[PurePosixPath, Member]]:
    """Return the members below the entries, with their places below the target.

    Raises:
        RequestError: An entry is missing, or the archive has paths or links that lead out of it.
    """
    for member in members:
        if _leads_out(member.path):
            raise refused(archive, f"the path {str(member.path)!r} leads out of the folder")
    folders = {folder for member in members for folder in (member.path, *member.path.parents)}
    bases = [base for base in folders if all(base / entry in folders for entry in entries)]
    if not bases:
        top = sorted({member.path.parts[0] for member in members if member.path.parts})
        raise RequestError(
            f"{archive.absolute()} holds no {', '.join(entries)}, but "
            f"{', '.join(top[:8]) or 'nothing'}: it is not the file that is expected by this name."
        )
    base = min(bases, key=lambda folder: (len(folder.parts), folder))
    wanted = {base / entry for entry in entries}
    chosen = [
        (member.path.relative_to(base), member)
        for member in members
        if not wanted.isdisjoint((member.path, *member.path.parents))
    ]
    for path, member in chosen:
        if member.kind == "other":  # not even links that stay inside: a chain of them can lead out
            raise refused(archive, f"{str(path)!r} is a link or a device")
    return chosen


def _leads_out(path: PurePosixPath) -> bool:
    """Judged by the rules of Windows, which know every separator and root that POSIX does."""
    judged = PureWindowsPath(path)
    return bool(judged.drive or judged.root or ".." in judged.parts)


def refused(archive: Path, problem: str) -> RequestError:
    """What is said of an archive that is whole and harmful."""
    return RequestError(
        f"{archive.absolute()} is not unpacked: {problem}, as in no archive of a data set. Remove "
        "it and fetch it from where it is published."
    )
