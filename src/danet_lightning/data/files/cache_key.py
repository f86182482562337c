"""What the decoded pixels of files depend on, as one text."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from danet_lightning.data.files.source import FileSource
from danet_lightning.errors import RequestError

FORMAT = 2  # raise it when the same files are decoded to other bytes, or are laid out otherwise
PLAIN = (bool, int, float, str, type(None))


def cache_key(source: FileSource) -> str:
    """Digest everything that decides the pixels of a source.

    That is each attribute of it, so also one that a class of yours adds; a path among them
    counts with the file's size and its time of change.

    Raises:
        RequestError: An attribute is no plain value, so that a change of it would go unnoticed.
    """
    files = [path.absolute() for _, *pair in source.files for path in pair]
    base = Path(os.path.commonpath(files)) if files else Path()  # a moved data set keeps its cache
    kind = f"{type(source).__module__}.{type(source).__qualname__}"
    facts = {name: value for name, value in vars(source).items() if name != "_seen"}  # notes
    content = {name: _plain(value, base, f"{kind}.{name}") for name, value in facts.items()}
    whole = [FORMAT, PIL.__version__, kind, content]  # decoders differ in how they round a JPEG
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _plain(value: Any, base: Path, name: str) -> Any:
    match value:
        case Path():
            return _file(value.absolute(), base)
        case np.ndarray():
            return [str(value.dtype), value.shape, hashlib.sha256(value.tobytes()).hexdigest()]
        case Mapping():
            return [[_plain(key, base, name), _plain(value[key], base, name)] for key in value]
        case list() | tuple() | range():
            return [_plain(entry, base, name) for entry in value]
    if not isinstance(value, PLAIN):
        raise RequestError(
            f"data.cache=memmap: {name} is a {type(value).__name__}, of which nobody can tell "
            "whether it changes the labels. Make it of numbers, texts, paths, arrays, lists and "
            "dicts, or use data.cache=none."
        )
    return value


def _file(path: Path, base: Path) -> list[Any]:
    name = str(path.relative_to(base) if path.is_relative_to(base) else path)
    try:
        state = path.stat()
    except OSError:
        return [name]  # missing: reading it will say so
    # A folder changes its time with every file that is put into it, as a cache is.
    return [name] if path.is_dir() else [name, state.st_size, state.st_mtime_ns]
