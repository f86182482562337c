"""Inspect a file of torch.save before torch loads it: what it names, what memory it takes.

`torch.load(weights_only=True)` runs no foreign code, but it allocates what a file asks for: 2 GB
for a compressed storage, 5 GB for a tensor with strides of 0, 10 GB for `bytearray(10**10)`. Here
the pickle is run on stand-ins that only count.
"""

import os
import struct
import zipfile
from typing import BinaryIO

from danet_lightning.models.pickle_inspection import Inspector, RefusedFileError

MOST_DIRECTORY_BYTES = 8 * 2**20  # of a zip file: 100,000 entries


def inspect_file(file: BinaryIO) -> None:
    """Refuse a file that runs code or takes far more memory than it has bytes.

    Args:
        file: Of torch.save, in its zip format or in the one of 2019; read from the beginning.

    Raises:
        RefusedFileError: It names a callable, or its tensors or entries do not fit into it.
        Exception: It is damaged.
    """
    size = os.fstat(file.fileno()).st_size
    if file.read(4) == b"PK\3\4":
        _inspect_zip(file, size)
        return
    file.seek(0)
    inspector = Inspector(file, size)
    for _ in range(4):  # magic number, version, system, content
        inspector.load()
    keys = inspector.load()
    stored = inspector.storages
    if sorted(keys) != sorted(stored):
        raise RefusedFileError("the storages that its tensors name are not those that it holds")
    needed = sum(8 + storage.numbers * storage.item for storage in stored.values())
    if file.tell() + needed > size:
        raise EOFError


def _inspect_zip(file: BinaryIO, size: int) -> None:
    _check_directory(file, size)
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        names = {entry.filename.casefold() for entry in entries}
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED:
                raise RefusedFileError(
                    f"its entry {entry.filename[:80]} is compressed and may grow to "
                    f"{entry.file_size} bytes; torch.save compresses nothing"
                )
        if len(names) < len(entries) or sum(entry.file_size for entry in entries) > size:
            raise RefusedFileError("its entries overlap, which torch.save never does")
        folder = entries[0].filename.partition("/")[0]
        sizes = {entry.filename: entry.file_size for entry in entries}
        with archive.open(f"{folder}/data.pkl") as content:
            inspector = Inspector(content, size)
            inspector.load()
        for key, storage in inspector.storages.items():
            stored = sizes[f"{folder}/data/{key}"]
            if stored != storage.numbers * storage.item:
                raise RefusedFileError(
                    f"its storage {key[:80]} has {stored} bytes, and its tensors need "
                    f"{storage.numbers * storage.item}"
                )


def _check_directory(file: BinaryIO, size: int) -> None:
    """Check that a zip file ends as torch.save ends it, so that all readers find the same entries.

    The end is 22 bytes, with 76 before them for sizes beyond 4 GB, directly behind the directory.
    """
    file.seek(max(0, size - 98))
    end = file.read()
    mark, length, start, comment = struct.unpack("<4s8x2LH", end[-22:])
    if mark != b"PK\5\6" or comment:
        raise EOFError
    if end[:4] == b"PK\6\6":
        long_length, long_start = struct.unpack("<2Q", end[40:56])
        if (length, start) not in ((long_length, long_start), (long_length, 2**32 - 1)):
            raise RefusedFileError("it has two directories of entries")
        length, start, size = long_length, long_start, size - 76
    if start + length + 22 != size or length > MOST_DIRECTORY_BYTES:
        raise RefusedFileError("its directory of entries is not where or what torch.save writes")
