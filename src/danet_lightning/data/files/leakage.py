"""The same image in two splits, whatever its name."""

import filecmp
import stat
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

from danet_lightning.data.base import DataError, Source
from danet_lightning.data.files.pairing import first_five
from danet_lightning.errors import RequestError

SAMPLE = 2**14  # bytes; from the middle, as borders and headers are alike


def refuse_shared(train: Source, val: Source) -> None:
    """Refuse images that are in train and in val, by their content.

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
    sizes_here, sizes_there = _by_size(here), _by_size(there)
    found = []
    for size in sizes_here.keys() & sizes_there.keys():
        candidates = _by_sample(sizes_there[size], size)
        for path in sizes_here[size]:
            alike = candidates.get(_sample(path, size), [])
            twin = next((each for each in alike if filecmp.cmp(path, each, shallow=False)), None)
            if twin is not None:
                found.append((path, twin))
    return sorted(found)


def _by_size(paths: Sequence[Path]) -> dict[int, list[Path]]:
    sizes = defaultdict(list)
    for path in paths:
        try:
            state = path.stat()
        except OSError as error:
            raise _unreadable(path, error) from error
        if stat.S_ISREG(state.st_mode):  # opening a pipe might wait for ever
            sizes[state.st_size].append(path)
    return sizes


def _by_sample(paths: Sequence[Path], size: int) -> dict[int, list[Path]]:
    samples = defaultdict(list)
    for path in paths:
        samples[_sample(path, size)].append(path)
    return samples


def _sample(path: Path, size: int) -> int:
    try:
        with path.open("rb") as file:
            file.seek(max(0, size - SAMPLE) // 2)
            return crc32(file.read(SAMPLE))
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> RequestError:
    return DataError(
        f"{path} cannot be read: {error.strerror}.", "unreadable", "Mend or remove it.", [path]
    )
