"""Read a run folder, whatever state it is in: no file of it is asked for that cannot be missing."""

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from omegaconf import OmegaConf
from typing_extensions import TypedDict

from danet_lightning.disk.claim import IN_USE, is_held
from danet_lightning.errors import RequestError, first_line, problem

NOTE = "failed.json"  # a launcher may run a sweep's point in another process, elsewhere
RECORDS = ("results.json", "config.yaml", NOTE, ".hydra")  # a run folder has one of them
Status = Literal["finished", "running", "failed", "stopped", "damaged"]
Series = dict[str, dict[int, float]]  # {metric: {optimizer step: value}}


class Results(TypedDict, total=False):
    """What results.json holds of use here; other keys are those of another version."""

    miou: float | None
    pixel_accuracy: float | None
    class_iou: dict[str, float | None]
    confusion_matrix: list[list[int]]
    partial: bool
    protocol: dict[str, Any]
    data: dict[str, str]
    git_commit: str | None
    versions: dict[str, str]
    machine: dict[str, Any]
    parameters: int
    gammas: dict[str, float]
    cost: dict[str, float | None]


@dataclass(frozen=True)
class Run:
    """One run folder.

    Attributes:
        path: The folder.
        status: Finished (it has results), running (a process is at work there), failed (the end
            of the sweep or this module knows why), stopped (it was killed or interrupted), or
            damaged (a file of it cannot be read).
        reason: Why it failed or is damaged; else empty.
        config: The resolved configuration, {dotted key: value}; empty where none was written.
        typed: The keys of the command line.
        choices: What was chosen of each config group, `{"model": "fcn"}`; empty where not known.
        results: Of a finished run; else empty.
    """

    path: Path
    status: Status
    reason: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    typed: tuple[str, ...] = ()
    choices: dict[str, Any] = field(default_factory=dict)
    results: Results = field(default_factory=Results)

    @property
    def seed(self) -> Any:
        """Return the seed; None for a command without one."""
        return self.config.get("seed")

    @property
    def miou(self) -> float | None:
        """Return the mIoU; None where there is none."""
        return self.results.get("miou")

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the classes that were evaluated; none where there are no results."""
        return tuple(self.results.get("class_iou", {}))

    @cached_property
    def series(self) -> Series:
        """Read every column of metrics.csv; empty where there is none."""
        path = self.path / "metrics.csv"
        return series(path) if path.is_file() else {}


def find(places: Sequence[str | Path]) -> list[Path]:
    """List the run folders in and below some folders, in the order in which they were started.

    Raises:
        RequestError: One of the places is no folder, or holds no run.
    """
    folders: dict[Path, Path] = {}  # by what they are, however they are called
    for place in map(Path, places):
        if not place.is_dir():
            raise RequestError(f"runs: no folder at {place.absolute()}; give run or sweep folders.")
        runs = {path.resolve(): path for path in below(place, set())}
        if not runs:
            raise RequestError(
                f"runs: {place} holds no run: neither it nor a folder below has results.json, "
                "config.yaml or .hydra. A sweep's folder is named at its end, and lies in sweeps/."
            )
        folders |= {real: path for real, path in runs.items() if real not in folders}
    return list(folders.values())


def below(folder: Path, seen: set[Path]) -> Iterator[Path]:
    """Yield the run folders at and below a folder, none inside of another.

    Links are followed, but nowhere twice: `seen` holds the real places, and is added to.
    """
    real = folder.resolve()
    if real in seen:
        return
    seen.add(real)
    if any((folder / name).exists() for name in RECORDS):
        yield folder
        return
    try:
        paths = sorted(folder.iterdir(), key=_order)
    except OSError:
        return
    for path in paths:
        if not path.name.startswith(".") and path.is_dir():
            yield from below(path, seen)


def _order(path: Path) -> tuple[float, str]:
    """Order run folders by when they were started, as a sweep does, and others by name."""
    try:
        return (path / ".hydra" / "overrides.yaml").stat().st_mtime, path.name
    except OSError:
        return 0.0, path.name


def read(folder: Path) -> Run:
    """Read what a run folder says of itself; what cannot be read makes it a damaged run."""
    problems: list[str] = []
    config, results = _config(folder, problems), _results(folder, problems)
    status: Status = "finished" if results else "stopped"
    reason = "; ".join(problems)
    if problems:
        status = "damaged"
    elif is_held(folder / IN_USE):
        status = "running"
    elif not results and (folder / NOTE).is_file():
        status, reason = "failed", _failure(folder / NOTE)
    return Run(folder, status, reason, config, _typed(folder), _choices(folder), results)


def _config(folder: Path, problems: list[str]) -> dict[str, Any]:
    """Read the configuration that ran: training writes it, other commands leave Hydra's record."""
    for name in ("config.yaml", ".hydra/resolved.yaml"):
        if not (folder / name).is_file():
            continue
        try:
            node = OmegaConf.load(folder / name)
            return flat(OmegaConf.to_container(node, resolve=False))
        except Exception as error:  # of PyYAML or OmegaConf, each with many kinds
            problems.append(f"{name}: {first_line(error)}")
    return {}


def _typed(folder: Path) -> tuple[str, ...]:
    """Read which keys the command line had; none where that is not known."""
    try:
        overrides = OmegaConf.to_container(OmegaConf.load(folder / ".hydra" / "overrides.yaml"))
    except Exception:  # they only help to name things
        return ()
    texts = overrides if isinstance(overrides, list) else []
    return tuple(str(text).lstrip("+~").partition("=")[0] for text in texts)


def _choices(folder: Path) -> dict[str, Any]:
    """Read what was chosen of each config group of ours; nothing where that is not known."""
    try:
        record = OmegaConf.load(folder / ".hydra" / "hydra.yaml")
        choices: Any = OmegaConf.to_container(OmegaConf.select(record, "hydra.runtime.choices"))
        return {key: each for key, each in choices.items() if not key.startswith("hydra/")}
    except Exception:  # it only helps to name things
        return {}


def _results(folder: Path, problems: list[str]) -> Results:
    path = folder / "results.json"
    if not path.is_file():
        return Results()
    try:
        content = json.loads(path.read_bytes(), parse_constant=_refuse_constant)
    except (OSError, ValueError, RecursionError) as error:
        problems.append(f"results.json: {first_line(error)}")
        return Results()
    if wrong := problem(Results, content):
        problems.append(f"results.json: {wrong}")
        return Results()
    names, matrix = content.get("class_iou", {}), content.get("confusion_matrix", [])
    if any(len(row) != len(names) for row in [matrix, *matrix] if matrix):
        problems.append("results.json: its confusion matrix is not one of its classes")
        return Results()
    known: Results = content
    return known


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number that a run writes")


def _failure(path: Path) -> str:
    try:
        return str(json.loads(path.read_bytes())["reason"]).strip().partition("\n")[0]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return "the note of its end cannot be read"


def series(path: Path) -> Series:
    """Read metrics.csv, {metric: {steps done: value}}; what is no number is as if not logged."""
    values: Series = {}
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        for row in csv.DictReader(file):
            step = _number(row.get("step"))
            for name, text in row.items():
                value = _number(text) if step is not None else None
                if value is not None and name != "step":
                    # Lightning counts from 0; this is how many are done
                    values.setdefault(name, {})[int(step or 0) + 1] = value
    return values


def _number(text: Any) -> float | None:
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def flat(node: Any, key: str = "") -> dict[str, Any]:
    """Return the leaves of nested dicts by dotted keys; a list is a leaf."""
    if not isinstance(node, Mapping):
        return {key: node}
    parts = [flat(value, f"{key}.{name}" if key else str(name)) for name, value in node.items()]
    return {name: value for part in parts for name, value in part.items()}
