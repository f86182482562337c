"""What tells one data set from another, wherever it lies: a digest of each image and label."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from danet_lightning.data.base import Source

WHOLE = 2**18  # bytes; of a larger file, as much is read in pieces spread over it
PIECES = 16


def digests(source: Source) -> Tensor:
    """Digest the images and labels of a split, in the order in which training numbers them.

    Of each image that is its id, and size and content of its files; not where they lie, nor their
    times, so a copy is the same data set. Files up to 256 KiB are read whole, of larger ones 16
    pieces with the first and the last: whoever changes some bytes of an uncompressed file between
    them, and not its size, is not noticed. A source that reads no files is told by its ids.

    Args:
        source: The images and labels.

    Returns:
        (N, 2) int64, 128 bits for each of the N images.

    Raises:
        OSError: A file cannot be read.
    """
    with ThreadPoolExecutor(16) as threads:  # a file system far away is asked ahead
        values = list(threads.map(lambda index: _image(source, index), range(len(source))))
    return torch.tensor(values, dtype=torch.int64).reshape(-1, 2)


def _image(source: Source, index: int) -> list[int]:
    name, paths = source.name(index).encode(), source.paths(index)
    if not paths:
        return _number(name)
    parts = [name, *map(file_digest, paths)]
    return _number(b"".join(len(part).to_bytes(4, "big") + part for part in parts))


def file_digest(path: Path) -> bytes:
    """Digest a file's size and content; of one above 256 KiB, pieces of the content."""
    size = path.stat().st_size
    digest = hashlib.blake2b(size.to_bytes(8, "big"), digest_size=16)
    with path.open("rb") as file:
        if size <= WHOLE:
            digest.update(file.read())
        else:
            piece = WHOLE // PIECES
            for number in range(PIECES):
                file.seek((size - piece) * number // (PIECES - 1))
                digest.update(file.read(piece))
    return digest.digest()


def _number(content: bytes) -> list[int]:
    digest = hashlib.blake2b(content, digest_size=16).digest()
    return [int.from_bytes(digest[at : at + 8], "big", signed=True) for at in (0, 8)]
