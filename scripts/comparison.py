"""What two run folders do not have in common, to the last bit."""

import csv
import io
import json
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch

EXEMPT = {
    "danet_lightning/config_hash": "of a configuration that names the run folder",
    "danet_lightning/config/sweep_dir": "a time: when the command was started",
    "callbacks/Timer*/time_elapsed/*": "a time",
    "cost/*": "times, and the memory of a process",
}
MEASURED = ("time/", "memory/")  # columns of metrics.csv that are left out for the same reason
FILES = ("best.ckpt", "last.ckpt", "metrics.csv", "results.json")


def differences(one: Path, other: Path, but: tuple[str, ...] = ()) -> list[str]:
    """Name all that is not the same, bit for bit, in two run folders.

    Args:
        one: A run folder.
        other: Another one.
        but: Patterns of further paths that may differ, as in EXEMPT.
    """
    names = {path.name for run in (one, other) for path in run.glob("*.ckpt")}
    found = []
    for name in sorted({*names, *FILES}):
        missing = [str(run / name) for run in (one, other) if not (run / name).exists()]
        if missing:
            found += [f"{path} is missing" for path in missing]
            continue
        first, second = (dict(_content(run / name)) for run in (one, other))
        found += [
            f"{name}: {key}: {_short(first.get(key))} / {_short(second.get(key))}"
            for key in sorted({*first, *second})
            if first.get(key) != second.get(key)
            and not any(fnmatch(key, pattern) for pattern in (*EXEMPT, *but))
        ]
    return found


def _content(path: Path) -> Iterator[tuple[str, Any]]:
    folder = str(path.parent.resolve())
    if path.suffix == ".csv":
        yield from _lines(lasting(path.read_text()))
        return
    if path.suffix == ".json":
        yield from _leaves(json.loads(path.read_text().replace(folder, "RUN")), "")
        return
    content = torch.load(path, weights_only=True)
    if "MetricsFile" in content.get("rows", ()):
        content["rows"]["MetricsFile"] = lasting(content["rows"]["MetricsFile"])
    written = content["danet_lightning"]["config"]["run_dir"]  # before the folder was moved
    for key, value in _leaves(content, ""):
        yield (
            key.replace(folder, "RUN").replace(written, "RUN"),
            value.replace(folder, "RUN").replace(written, "RUN"),
        )


def lasting(rows: str) -> str:
    """Return the rows of metrics.csv without what was measured by a clock."""
    read = list(csv.reader(io.StringIO(rows)))
    header = read[0] if read else []
    kept = [place for place, name in enumerate(header) if not name.startswith(MEASURED)]
    return "".join(",".join(row[place] for place in kept) + "\n" for row in read)


def _lines(text: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        yield f"line {number:05}", line


def _leaves(node: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every value in a checkpoint as text: of a tensor its type, shape and bytes."""
    match node:
        case dict():
            if not node:
                yield path, "an empty dict"
            for key, value in node.items():
                yield from _leaves(value, f"{path}/{key}".removeprefix("/"))
        case list() | tuple():
            if not node:
                yield path, f"an empty {type(node).__name__}"
            for index, value in enumerate(node):
                yield from _leaves(value, f"{path}/{index}")
        case torch.Tensor():
            flat = node.detach().cpu().contiguous().reshape(-1)
            shown = f" {node.tolist()}" if node.numel() < 9 else ""
            content = flat.view(torch.uint8).numpy().tobytes().hex()
            yield path, f"{node.dtype} {tuple(node.shape)}{shown} {content}"
        case _:
            yield path, f"{type(node).__name__} {node!r}"


def _short(value: str | None) -> str:
    return "not there" if value is None else value if len(value) < 60 else f"{value[:57]}..."
