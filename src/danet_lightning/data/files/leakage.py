"""Find the same image in two splits, whatever its name, before anything is learned from it."""

import filecmp
import itertools
import stat
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path

from danet_lightning.data.base import DataError, Source
from danet_lightning.data.files.digest import file_digest
from danet_lightning.data.files.pairing import first_five
from danet_lightning.errors import RequestError


def refuse_shared(train: Source, val: Source) -> None:
    """Refuse image files that are in train and in val, by their bytes.

    `check` compares the pixels of all splits, which takes decoding all of them.

    Raises:
        RequestError: What was learned by heart would count as found.
    """
    images = ([source.paths(index)[0] for index in range(len(source))] for source in (train, val))
    same = same_files(*images)
    if same:
        shown = first_five([f"{here} = {there}" for here, there in same])
        raise RequestError(
            f"{len(same)} images are in train and in val: {shown}. What was learned by heart would "
            "count as found. Remove them from one of the two."
        )


def same_files(here: Sequence[Path], there: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Find files with the same bytes in two lists; only those of equal size are read.

    Returns:
        (here, there) pairs, at most one for each file of the first list.

    Raises:
        RequestError: A file cannot be read.
    """
    pairs = []
    sizes_here, sizes_there = _grouped(here, _size), _grouped(there, _size)
    for size in sizes_here.keys() & sizes_there.keys() - {None}:
        candidates = _grouped(sizes_there[size], file_digest)
        for digest, paths in _grouped(sizes_here[size], file_digest).items():
            for path in paths:
                twins = candidates.get(digest, [])
                same = (twin for twin in twins if filecmp.cmp(path, twin, shallow=False))
                pairs += [(path, twin) for twin in itertools.islice(same, 1)]
    return sorted(pairs)


def _grouped(paths: Sequence[Path], key: Callable[[Path], Hashable]) -> dict[Hashable, list[Path]]:
    """Group files by what `key` reads of each."""
    groups = defaultdict(list)
    for path in paths:
        try:
            groups[key(path)].append(path)
        except OSError as error:
            text = f"{path} cannot be read: {error.strerror}."
            raise DataError(text, "unreadable", "Mend or remove it.", [path]) from error
    return groups


def _size(path: Path) -> int | None:
    """Return a file's size; None if it is no regular one: opening a pipe might wait for ever."""
    state = path.stat()
    return state.st_size if stat.S_ISREG(state.st_mode) else None
