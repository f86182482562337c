"""Unpack archives so that a folder is there whole or not at all, and nothing leaves its place."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from danet_lightning.disk.space import require_space
from danet_lightning.prepare.archives import choose_members, harmful, open_archive
from danet_lightning.prepare.storage import CHUNK, REMEDY, byte_bar, writing


def unpack(archive: Path, entries: Sequence[str], target: Path) -> None:
    """Put folders and files of an archive below `target`; what is there already is left alone.

    They are written beside their places and renamed when all of them are complete, so that a run
    that ends in the middle leaves nothing that looks like data.

    Args:
        archive: A .zip, .tar, .tar.gz or .tgz; any other file is copied.
        entries: Their places below `target`; in the archive they may lie inside further folders.
        target: A folder.

    Raises:
        RequestError: The archive is damaged, lacks an entry, or has names or links that lead out
            of it, or the target cannot be written. Nothing is left of it then.
        RunError: The disk is full.
    """
    part, whole = _hidden(archive, target, "part"), _hidden(archive, target, "whole")
    with writing(part):
        shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
        part.mkdir(parents=True)
    try:
        _write(archive, entries, part)
        if hasattr(os, "sync"):
            os.sync()  # the files before their new name, also if the power fails
        part.rename(whole)
    except BaseException:  # Ctrl-C as well
        shutil.rmtree(part, ignore_errors=True)
        raise
    settle(archive, entries, target)


def settle(archive: Path, entries: Sequence[str], target: Path) -> None:
    """Move what is completely unpacked to its places; also what a killed run did not get to.

    Raises:
        RequestError: The target cannot be written.
    """
    whole = _hidden(archive, target, "whole")
    if not whole.is_dir():
        return
    with writing(target):
        for entry in entries:
            if (whole / entry).exists() and not present(target / entry):
                (target / entry).parent.mkdir(parents=True, exist_ok=True)
                if (target / entry).is_dir():
                    (target / entry).rmdir()
                (whole / entry).rename(target / entry)
        shutil.rmtree(whole)


def pending(archive: Path, target: Path) -> bool:
    """Tell whether an archive is unpacked, and not everything moved to its place."""
    return _hidden(archive, target, "whole").is_dir()


def present(path: Path) -> bool:
    """Tell whether there is a file, or a folder with something in it."""
    return any(path.iterdir()) if path.is_dir() else path.exists()


def _hidden(archive: Path, target: Path, state: str) -> Path:
    return target / f".{archive.name}.{state}"


def _write(archive: Path, entries: Sequence[str], folder: Path) -> None:
    """Write the files of an archive that lie below the entries into an empty folder."""
    with open_archive(archive) as members:
        chosen = choose_members(archive, members, entries)
        total = sum(member.size for _, member in chosen)
        require_space(folder, total, f"{archive.name}, unpacked,", REMEDY)
        with byte_bar(f"unpacking {archive.name}", total) as bar:
            for path, member in chosen:
                place = folder / path
                with writing(place):
                    try:
                        place.parent.mkdir(parents=True, exist_ok=True)
                        file = place.open("xb")
                    except (FileExistsError, NotADirectoryError):  # also where case is ignored
                        raise harmful(archive, f"two of its files are {str(path)!r} here") from None
                with file, member.open() as content:
                    while chunk := content.read(CHUNK):
                        with writing(place):
                            file.write(chunk)
                        bar.update(len(chunk))
                    with writing(place):
                        file.flush()
