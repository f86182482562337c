"""Which images a person means by a file, a folder or a glob pattern."""

import glob
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path, PurePath
from typing import NamedTuple

from danet_lightning.data.files.images import SUFFIXES, looks
from danet_lightning.disk.names import expanded, files_below, printable, real_path, stored_path
from danet_lightning.errors import RequestError
from danet_lightning.predict.derived import is_prediction, masks


class Selection(NamedTuple):
    """The images that an `input` means, and what else lies there.

    Attributes:
        root: The folder that all lies below.
        images: The images, relative to it, in the order of their names.
        unread: Files that are images, too, of formats that are not read, and folders that cannot
            be listed.
        others: How many other files there are, by suffix; earlier predictions and masks apart.
    """

    root: Path
    images: list[Path]
    unread: list[Path]
    others: Counter[str]


def find_images(request: str) -> Selection:
    """Find the images a person means.

    In a folder, and where a pattern matches, a file is an image by its suffix, or by its first
    bytes if it has another suffix or none. Hidden files are passed over, and so are earlier
    predictions and the masks of other images; a folder that links lead to counts once.

    Args:
        request: An image, a folder (searched with its sub-folders), or a glob pattern, in which
            `**` stands for any sub-folders. What exists is taken literally, so names with
            brackets need no escaping. The Unicode form of a name does not matter.

    Raises:
        RequestError: Nothing was found, or a file that is no image was given; says what was looked
            for, and where.
    """
    if not request.strip():
        raise RequestError("input is empty. Give an image, a folder, or a glob pattern in quotes.")
    path = stored_path(expanded(request))
    try:
        if path.is_file():
            if looks(path) == "other":
                raise RequestError(
                    f"input={request}: no image, by its suffix and its first bytes. Give an image, "
                    "a folder, or a glob pattern in quotes."
                )
            return Selection(path.parent, [Path(path.name)], [], Counter())
    except OSError as error:
        raise RequestError(f"input={request}: {error.strerror}.") from error
    root = path if path.is_dir() else _fixed_part(path)
    closed: list[str] = []
    failed: Callable[[OSError], None] = lambda error: closed.append(error.filename)  # noqa: E731
    if path.is_dir():
        names = files_below(root, failed)
    else:
        names = _matching(root, str(path.relative_to(root)), failed)
    images, unread = [], []
    others: Counter[str] = Counter()
    for name in sorted(map(Path, names)):
        match looks(root / name):
            case "read" if is_prediction(root / name):
                others["earlier predictions"] += 1
            case "read":
                images.append(name)
            case "not read":
                unread.append(name)
            case "other":
                others[name.suffix.lower() or "no suffix"] += 1
    unread += [Path(folder).relative_to(root) for folder in closed]
    labels = masks(root, images)
    if labels:
        others[f"masks, such as {printable(str(min(labels)))}"] += len(labels)
        images = [name for name in images if name not in labels]
    if not images and not unread:
        raise RequestError(f"input={request}: {_nothing_found(path, root, others)}")
    return Selection(root, images, unread, others)


def counted(others: Mapping[str, int]) -> str:
    """Write how many files of which kinds there are, the most frequent ones first."""
    ordered = Counter(others).most_common()
    return ", ".join(f"{count} {suffix}" for suffix, count in ordered)


def _matching(root: Path, pattern: str, failed: Callable[[OSError], None]) -> Iterator[str]:
    """Yield the files that a glob pattern means, each once: through no link if it may be."""
    forms = {pattern, *(unicodedata.normalize(form, pattern) for form in ("NFC", "NFD"))}
    matches = {name for form in forms for name in _globbed(root, form, failed)}
    real = real_path(root)
    targets = {name: real_path((root / name).parent) / Path(name).name for name in matches}
    seen = set()
    for name in sorted(matches, key=lambda name: (targets[name] != real / name, name)):
        if targets[name] not in seen and not (root / name).is_dir():
            seen.add(targets[name])
            yield name


def _globbed(root: Path, pattern: str, failed: Callable[[OSError], None]) -> Iterator[str]:
    parts = PurePath(pattern).parts
    if "**" not in parts:
        # not Path.glob, which finds hidden files
        yield from glob.iglob(pattern, root_dir=root)  # noqa: PTH207
        return
    place = parts.index("**")  # from there on links might go in circles
    before = str(PurePath(*parts[:place]))
    for start in glob.iglob(before, root_dir=root) if place else [""]:  # noqa: PTH207
        for name in files_below(root / start, failed):
            if _is_match(PurePath(name).parts, parts[place:]):
                yield str(PurePath(start, name))


def _is_match(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Tell whether a path fits a pattern of which each `**` stands for any number of folders."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_is_match(parts[skip:], pattern[1:]) for skip in range(len(parts) + 1))
    return bool(parts) and fnmatch(parts[0], pattern[0]) and _is_match(parts[1:], pattern[1:])


def _fixed_part(pattern: Path) -> Path:
    """Return the leading folders of a pattern that exist as they are written."""
    fixed = Path(pattern.anchor)
    for part in pattern.relative_to(fixed).parts[:-1]:
        if not (fixed / part).is_dir():
            break
        fixed /= part
    return fixed


def _nothing_found(path: Path, root: Path, others: Counter[str]) -> str:
    beside = f" Other files: {counted(others)}." if others else ""
    looked = f"looked for {' '.join(SUFFIXES)} and for images by their first bytes.{beside}"
    if path.is_dir():
        return f"no image in {path.absolute()} or below it; {looked}"
    if glob.has_magic(str(path.relative_to(root))):
        return (
            f"no image below {root.absolute()} matches this pattern; {looked} "
            "** stands for any sub-folders."
        )
    return (
        f"no such file or folder, looked for {path.absolute()}. Give an image, a folder, or a "
        "glob pattern in quotes."
    )
