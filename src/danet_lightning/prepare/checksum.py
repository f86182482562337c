"""Whether a file is the published one, and the record of what was seen where none is published."""

import hashlib
from pathlib import Path

from danet_lightning.errors import RequestError
from danet_lightning.prepare.storage import CHUNK, progress


def verify(path: Path, checksum: str | None) -> str:
    """Return a file's SHA-256 after comparing it with the published checksum, if there is one.

    Raises:
        RequestError: It is another file.
    """
    algorithm, _, published = (checksum or "sha256:").partition(":")
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in {algorithm, "sha256"}}
    with path.open("rb") as file, progress(f"checking {path.name}", path.stat().st_size) as bar:
        while chunk := file.read(CHUNK):
            for each in hashes.values():
                each.update(chunk)
            bar.update(len(chunk))
    seen = hashes[algorithm].hexdigest()
    if published and seen != published:
        raise RequestError(
            f"{path.absolute()} has the {algorithm} {seen}, and the published file has "
            f"{published}: it is damaged, or another release. Remove it and fetch it again."
        )
    return hashes["sha256"].hexdigest()


def record(path: Path, sha256: str) -> None:
    """Write beside a file what its SHA-256 is, as `sha256sum -c` reads it."""
    _note(path).write_text(f"{sha256}  {path.name}\n")


def recorded(path: Path) -> str | None:
    """Return the checksum that a file had when it was downloaded, if it was downloaded here."""
    note = _note(path)
    return f"sha256:{note.read_text().split()[0]}" if note.is_file() else None


def _note(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")
