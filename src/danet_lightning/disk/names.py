"""Compare names of files in one Unicode form, find them in any, and list them once each."""

import os
import unicodedata
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from danet_lightning.errors import RequestError

Listings = dict[Path, dict[str, str]]


def composed(name: str) -> str:
    """Return a name in its composed form (NFC): disks of a Mac may hold "ä" as "a" and its dots."""
    return unicodedata.normalize("NFC", name)


def is_utf_8(name: str) -> bool:
    """Tell whether a name can be written as UTF-8: Python keeps its other bytes as surrogates."""
    return name == name.encode("utf-8", "replace").decode()


def expanded(text: str | Path) -> Path:
    """Return a path as typed, with a leading ~ replaced.

    Raises:
        RequestError: There is no home folder to put there.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise RequestError(
            f"{text}: {error} Set HOME, or write the folder's whole path."
        ) from error


def real_path(path: Path) -> Path:
    """Return where links lead to; Path.resolve fails where one leads to itself."""
    return Path(os.path.realpath(path))


def stored_path(path: Path, listings: Listings | None = None) -> Path:
    """Return a path in the Unicode form that the disk has; unchanged where nothing is alike.

    Args:
        path: What was typed, or stands in a list.
        listings: The folders read so far, for a caller with many paths.
    """
    if str(path).isascii() or path.parent == path or os.path.lexists(path):
        return path
    listings = {} if listings is None else listings
    folder = stored_path(path.parent, listings)
    if os.path.lexists(folder / path.name):
        return folder / path.name
    if folder not in listings:
        try:
            listings[folder] = {composed(file.name): file.name for file in folder.iterdir()}
        except OSError:
            listings[folder] = {}
    return folder / listings[folder].get(composed(path.name), path.name)


def files_below(folder: Path, failed: Callable[[OSError], None]) -> Iterator[str]:
    """Yield the files in a folder and its sub-folders, relative to it, without hidden ones.

    A folder that links lead to counts once, under its own path where it lies below, and a link to
    a folder that holds the link leads nowhere, so circles end. A link to nothing is yielded, too.

    Args:
        folder: Where to look.
        failed: Called with the error of each folder that cannot be listed.
    """
    entered: set[Path] = set()
    folders, linked_folders = [""], deque[str]()
    prefix = str(folder / "x")[:-1]  # what the entries' paths begin with
    while folders or linked_folders:  # linked ones last: each counts where it really lies
        below = folders.pop() if folders else linked_folders.popleft()
        target = real_path(folder / below)
        if target in entered:
            continue
        entered.add(target)
        try:
            with os.scandir(folder / below) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            failed(error)
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = entry.path[len(prefix) :]
            if entry.is_symlink() and Path(entry).is_dir():
                if not target.is_relative_to(real_path(Path(entry))):
                    linked_folders.append(path)
            elif entry.is_dir(follow_symlinks=False):
                folders.append(path)
            else:
                yield path


def printable(text: str) -> str:
    """Replace what a terminal, a page or a picture would take for a command: control characters."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)
