"""The names in the pixel cache: digests of all that decides the pixels of an image."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from danet_lightning.data.base import Source
from danet_lightning.errors import RequestError

FORMAT = 3  # raise it when the same files are decoded to other bytes, or are laid out otherwise
PLAIN_TYPES = (bool, int, float, str, type(None))


def files_key(paths: Iterable[Path], root: Path | None) -> str:
    """Digest what tells the files of one image from others: path, size and time of change.

    Args:
        paths: Of the files.
        root: The folder below which it does not count where they lie.
    """
    return _digest([_file_facts(path, root) for path in paths])[:32]


def rules_key(source: Source) -> str:
    """Digest how labels are read: each attribute of a source but its files.

    So also one that a class of yours adds; a path among them counts with the file's size and its
    time of change.

    Raises:
        RequestError: An attribute is no plain value, so that a change of it would go unnoticed.
    """
    kind = f"{type(source).__module__}.{type(source).__qualname__}"
    in_no_rule = ("files", "_seen")  # are in the keys; notes of what was read
    facts = {name: value for name, value in vars(source).items() if name not in in_no_rule}
    content = {name: _plain(value, f"{kind}.{name}") for name, value in facts.items()}
    # decoders differ in how they round a JPEG
    return _digest([FORMAT, PIL.__version__, kind, content])[:16]


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _plain(value: Any, name: str) -> Any:
    match value:
        case Path():
            return _file_facts(value, None)
        case np.ndarray():
            return [str(value.dtype), value.shape, hashlib.sha256(value.tobytes()).hexdigest()]
        case Mapping():
            return [[_plain(key, name), _plain(value[key], name)] for key in value]
        case list() | tuple() | range():
            return [_plain(entry, name) for entry in value]
    if not isinstance(value, PLAIN_TYPES):
        raise RequestError(
            f"data.cache=memmap: {name} is a {type(value).__name__}, of which nobody can tell "
            "whether it changes the labels. Make it of numbers, texts, paths, arrays, lists and "
            "dicts, or use data.cache=none."
        )
    return value


def _file_facts(path: Path, root: Path | None) -> list[Any]:
    path = path.absolute()
    base = root.absolute() if root is not None else None
    name = str(path.relative_to(base) if base and path.is_relative_to(base) else path)
    try:
        state = path.stat()
    except OSError:
        return [name]  # missing: reading it will say so
    # A folder changes its time with every file that is put into it, as a cache is.
    return [name] if path.is_dir() else [name, state.st_size, state.st_mtime_ns]
