"""Find the folders and lists of a benchmark's release, or say what belongs there."""

import re
from collections.abc import Sequence
from pathlib import Path

from danet_lightning.data.base import DataError
from danet_lightning.errors import RequestError


def require_folder(path: Path, layout: str) -> Path:
    """Return a folder that has to be there.

    Raises:
        RequestError: It is missing; the message adds `layout`, which tells what belongs there.
    """
    if not path.is_dir():
        raise DataError(f"There is no folder {path.absolute()}.\n{layout}", "absent")
    return path


def find_folder(root: Path, places: Sequence[str], content: str, layout: str) -> Path:
    """Return the first of the places below a root that holds `content`, a file or folder.

    People unpack an archive here or one folder higher, and give either as the root.

    Raises:
        RequestError: None does; the message adds `layout`, which tells what belongs there.
    """
    if not root.is_dir():
        raise DataError(f"There is no folder {root.absolute()}.\n{layout}", "absent")
    for place in places:
        if (root / place / content).exists():
            return root / place
    looked = " or ".join(str((root / place / content).absolute()) for place in places)
    raise DataError(f"There is no {looked}.\n{layout}", "absent")


def read_names(path: Path, layout: str) -> list[str]:
    """Read the names of a list of images: one a line, without folders, suffix and repetitions.

    Only the first word of a line counts: some lists give the image's path and the label's.

    Raises:
        RequestError: The list is missing or is no text; the message adds `layout`.
    """
    words = [line.split()[0].rpartition("/")[2] for line in read_lines(path, layout)]
    names = [word.removesuffix(".jpg").removesuffix(".png") for word in words]
    return list(dict.fromkeys(names))


def read_lines(path: Path, layout: str) -> list[str]:
    """Read the lines of a list that are not blank; a name that is no UTF-8 keeps its bytes.

    Raises:
        RequestError: The list is missing or is no text; the message adds `layout`.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
    except FileNotFoundError:
        raise DataError(f"There is no list {path.absolute()}.\n{layout}", "absent") from None
    except OSError as error:
        raise RequestError(f"{path} cannot be read as a list of names: {error}.") from error
    if "\0" in text:
        raise RequestError(
            f"{path} cannot be read as a list of names: it is UTF-16 or no text. Save it in UTF-8."
        )
    # not str.splitlines, for which many a character of a name is the end of a line
    return [line for line in re.split(r"\r\n?|\n", text) if line.strip()]
