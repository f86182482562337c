"""Small archives that would fill memory, disk or days are refused in little of each."""

import gzip
import io
import os
import resource
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from danet_lightning.errors import RequestError
from danet_lightning.prepare import archives
from danet_lightning.prepare.unpacking import unpack

ROOM = 400 * 2**20  # bytes of memory beyond what the tests have
ZEROS = bytes(2**20)
END = bytes(2 * tarfile.BLOCKSIZE)


def header(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def patched(block: bytes, place: int, value: bytes) -> bytes:
    """A tar header with other bytes at a place, and the checksum that belongs to it."""
    changed = bytearray(block)
    changed[place : place + len(value)] = value
    changed[148:156] = b"%06o\0 " % (256 + sum(changed[:148]) + sum(changed[156:512]))
    return bytes(changed)


def tgz(*parts: bytes) -> Callable[[Path], Path]:
    return lambda folder: write(folder / "a.tar.gz", gzip.compress(b"".join(parts), 1))


def inflated(first: bytes, block: bytes, count: int) -> Callable[[Path], Path]:
    def made(folder: Path) -> Path:
        with gzip.open(folder / "a.tar.gz", "wb", 1) as file:
            file.write(first)
            for _ in range(count):
                file.write(block)
        return folder / "a.tar.gz"

    return made


def zipped(names: Iterable[str], content: bytes = b"x") -> Callable[[Path], Path]:
    def made(folder: Path) -> Path:
        with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED, True, 1) as file:
            for name in names:
                file.writestr(name, content)
        return folder / "a.zip"

    return made


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def sparse() -> bytes:
    """8 GB of which the archive holds nothing."""
    block = patched(header("images/s"), 156, tarfile.GNUTYPE_SPARSE)
    return patched(block, 483, b"%011o\0" % (8 * 2**30 - 1))


def sparse_map(numbers: int) -> bytes:
    content = b"%d\n" % numbers + b"1\n" * (2 * numbers)
    info = tarfile.TarInfo("images/s")
    info.size = len(content)
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "s"}
    return info.tobuf(tarfile.PAX_FORMAT) + content + bytes(-len(content) % tarfile.BLOCKSIZE)


def facts_of_all(count: int) -> bytes:
    """Facts of which tarfile gives each member a copy."""
    records = b"".join(b"14 k%05d=xyz\n" % number for number in range(count))
    padding = bytes(-len(records) % tarfile.BLOCKSIZE)
    return header("g", len(records), tarfile.XGLTYPE) + records + padding


def overlapping(folder: Path) -> Path:
    """Five names for the same compressed bytes."""
    content = zipped(["images/a"], ZEROS)(folder).read_bytes()
    start, end = content.index(b"PK\1\2"), content.index(b"PK\5\6")
    entry = content[start:end]
    entries = b"".join(entry.replace(b"images/a", b"images/%c" % letter) for letter in b"abcde")
    last = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 5, 5, len(entries), start, 0)
    return write(folder / "a.zip", content[:start] + entries + last)


def lying(folder: Path) -> Path:
    """A file of 1 MB that is said to have 10 bytes."""
    path = zipped(["images/a"], ZEROS)(folder)
    return write(path, path.read_bytes().replace(struct.pack("<L", 2**20), struct.pack("<L", 10)))


def crowded(folder: Path) -> Path:
    """A million names of one letter in the list of a zip."""
    entry = struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, *(7 * [0]), 1, *(6 * [0])) + b"a"
    count = 1_000_000
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 65535, 65535, len(entry) * count, 0, 0)
    return write(folder / "a.zip", entry * count + end)


DEEP, LARGE, MANY = "too deep or too long", "unpacks to more than", "has more than"
SAYS, DAMAGED = "what it says of its files is longer", "cannot be unpacked"
BOMBS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "path 50,000 deep": (tgz(header("images/" + "a/" * 50_000), END), DEEP),
    "path 30,000 deep in a zip": (zipped(["images/" + "a/" * 30_000 + "b"]), DEEP),
    "paths 900 deep": (tgz(*(header(f"images/{n}/" + "d/" * 900) for n in range(99)), END), DEEP),
    "name of 60,000 letters": (tgz(header("images/" + "a" * 60_000), END), DEEP),
    "pax header of 2 GB": (inflated(header("h", 2**31, tarfile.XHDTYPE), ZEROS, 20), SAYS),
    "GNU name of 2 GB": (inflated(header("h", 2**31, tarfile.GNUTYPE_LONGNAME), ZEROS, 20), SAYS),
    "GNU link of 2 GB": (inflated(header("h", 2**31, tarfile.GNUTYPE_LONGLINK), ZEROS, 20), SAYS),
    "headers of headers": (inflated(b"", header("h", 0, tarfile.XHDTYPE), 50_000), DAMAGED),
    "facts of all members": (tgz(facts_of_all(9000), header("images/a"), END), "what cannot be"),
    "sparse file": (tgz(sparse(), END), LARGE),
    "map of a sparse file": (tgz(sparse_map(1_000_000), END), SAYS),
    "8 GB declared": (tgz(header("images/a", 2**33), ZEROS), LARGE),
    "zeros behind the end": (inflated(header("images/a") + END, ZEROS, 1100), LARGE),
    "size below zero": (
        tgz(patched(header("images/a"), 124, b"\xff" * 10 + b"\xfc\0"), END),
        "what cannot be",
    ),
    "many folders": (
        tgz(*(header(f"images/{n}/" + f"{n}/" * 20) for n in range(200)), END),
        MANY,
    ),
    "many members": (inflated(b"", header("images/a"), 4000), MANY),
    "many empty folders": (inflated(b"", header("images/a", kind=tarfile.DIRTYPE), 4000), MANY),
    "many members in a zip": (zipped(map(str, range(4000))), MANY),
    "list of a zip": (crowded, SAYS),
    "zip of zeros": (zipped(["images/a"], bytes(2 * 2**20)), LARGE),
    "overlapping entries": (overlapping, "overlap"),
    "size that lies": (lying, DAMAGED),
    "NUL in a name": (
        tgz(*(header("h", 19, tarfile.XHDTYPE), b"19 path=images/a\0b\n".ljust(512, b"\0")),
            header("x"), END),
        DAMAGED,
    ),
    "no UTF-8": (
        lambda folder: write(
            zipped(["images/ä"])(folder),
            (folder / "a.zip").read_bytes().replace("ä".encode(), b"\xff\xfe"),
        ),
        DAMAGED,
    ),
    "the same name twice": (tgz(header("images/a"), header("images/a"), END), "two of its files"),
    "a file that is a folder too": (
        tgz(header("images/a"), header("images/a/b"), END),
        "two of its files",
    ),
    "a compression that takes memory": (
        lambda folder: write_xz(folder / "a.tar.gz"),
        DAMAGED,
    ),
}  # fmt: skip


def write_xz(path: Path) -> Path:
    with tarfile.open(path, "w:xz") as tar:
        tar.addfile(tarfile.TarInfo("images/a"), io.BytesIO())
    return path


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_little_memory(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, expected = BOMBS[name]
    archive, target = make(tmp_path), tmp_path / "target"
    target.mkdir()
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3000)
    monkeypatch.setattr(archives, "MAX_FOLDERS", 3000)
    if name == "zip of zeros":
        monkeypatch.setattr(archives, "SMALL", 2**20)
    told = refused_in_a_child(archive, target)
    assert expected in told
    assert len(told) < 500 + len(str(archive))
    assert list(target.iterdir()) == []


def refused_in_a_child(archive: Path, target: Path) -> str:
    """Unpack in a process of which the memory is bounded; what it is refused with."""
    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))
        try:
            unpack(archive, ["images"], target)
            told = "unpacked"
        except RequestError as error:
            told = str(error)
        except BaseException as error:
            told = repr(error)
        os.write(writing, told[:4000].encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(pid, 0)
    text = os.read(reading, 10_000).decode()
    os.close(reading)
    return text


def test_the_bounds_leave_room_for_every_release() -> None:
    """COCO's largest archive: 123,287 files in one folder; Cityscapes: 11 GB, 1:1."""
    assert archives.MAX_MEMBERS > 2 * 123_287
    assert archives.MAX_DEPTH > 20  # ADE20K's full release: 8
    assert archives.MAX_RATIO >= 100  # labels as zeros and ones, compressed: 30
