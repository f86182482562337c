"""Put runs that differ in nothing but their seed together, and compare such groups."""

import json
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from danet_lightning.errors import RequestError, nearest
from danet_lightning.runs.reading import Run

# what says where things lie, how they are shown, and which of several alike runs it is
ASIDE = ("seed", "run_dir", "sweep_dir", "dirpath")
ASIDE_BELOW = ("logger", "callbacks.progress", "callbacks.pictures", "callbacks.last", "hydra")
ABSENT = "—"
QUOTED = re.compile(r'-?(\d|Infinity$)|[\["{]|(null|true|false|NaN)$')  # texts like other values


class Spread(NamedTuple):
    """Mean, standard deviation (of a sample; None below two values) and number of some values."""

    mean: float
    std: float | None
    size: int


class Difference(NamedTuple):
    """How much higher a score of a group is than that of the baseline.

    Attributes:
        spread: Of the differences, one for each seed that both have; where there is no such seed,
            that of the means alone.
        is_paired: Whether there was one.
    """

    spread: Spread
    is_paired: bool


@dataclass(frozen=True)
class Group:
    """Runs of one configuration.

    Attributes:
        name: What tells it from the other groups, as `key=value ...`.
        values: All keys in which groups differ, with this one's values as text.
        runs: In the order they were found.
    """

    name: str
    values: dict[str, str]
    runs: tuple[Run, ...]

    @property
    def scored(self) -> list[Run]:
        """Return the runs that have an mIoU."""
        return [run for run in self.runs if run.miou is not None]

    @property
    def best(self) -> Run | None:
        """Return the run with the highest mIoU; None without any."""
        return max(self.scored, key=lambda run: run.miou or 0.0, default=None)

    def spread(self, key: str = "miou") -> Spread | None:
        """Summarize a number of results.json over the runs; None where none has it."""
        return spread([run.results.get(key) for run in self.runs])

    def cost(self, key: str) -> Spread | None:
        """Summarize a number below `cost` in results.json."""
        return spread([run.results.get("cost", {}).get(key) for run in self.runs])

    def gamma(self, branch: str) -> Spread | None:
        """Summarize the gamma of an attention branch, `pam` or `cam`."""
        return spread([run.results.get("gammas", {}).get(branch) for run in self.runs])

    def class_iou(self, name: str) -> Spread | None:
        """Summarize the IoU of a class."""
        return spread([run.results.get("class_iou", {}).get(name) for run in self.runs])


def spread(values: Sequence[Any]) -> Spread | None:
    """Summarize those of the values that are numbers; None where none is."""
    numbers = [float(value) for value in values if isinstance(value, int | float)]
    if not numbers:
        return None
    std = statistics.stdev(numbers) if len(numbers) > 1 else None
    return Spread(statistics.fmean(numbers), std, len(numbers))


def difference(group: Group, baseline: Group, name: str | None = None) -> Difference | None:
    """Subtract a score of the baseline from that of a group, seed by seed where both have it.

    Args:
        group: Of which the difference is told.
        baseline: What it is compared with.
        name: Of the class whose IoU is the score; None: the mIoU.
    """
    mine, theirs = _by_seed(group, name), _by_seed(baseline, name)
    paired = [mine[seed] - theirs[seed] for seed in mine if seed in theirs]
    if interval := spread(paired):
        return Difference(interval, True)
    both = [each.class_iou(name) if name else each.spread() for each in (group, baseline)]
    if both[0] is None or both[1] is None:
        return None
    return Difference(Spread(both[0].mean - both[1].mean, None, 0), False)


def _by_seed(group: Group, name: str | None) -> dict[str, float]:
    """Return the score of each seed, of several runs with the same one their mean."""
    scores: dict[str, list[float]] = {}
    for run in group.runs:
        score = run.results.get("class_iou", {}).get(name) if name else run.miou
        if run.seed is not None and score is not None:
            scores.setdefault(str(run.seed), []).append(score)
    return {seed: statistics.fmean(values) for seed, values in scores.items()}


def grouped(runs: Sequence[Run], ignored: Sequence[str] = ()) -> list[Group]:
    """Group the runs that have a configuration, in the order in which each group appears first.

    Runs of other classes are never one group, also where their configurations are the same.

    Args:
        runs: Of any state.
        ignored: Keys in which runs of one group may differ, each with those below it.

    Raises:
        RequestError: No run has a key that is ignored.
    """
    known = [run for run in runs if run.config]
    _require_known(ignored, known)
    keys = [key for key in differing(known) if not _is_below(key, ignored)]
    alike: dict[tuple[str, ...], list[Run]] = {}
    for run in known:
        alike.setdefault(tuple(shown(run.config, key) for key in keys), []).append(run)
    groups = alike
    if any(len({run.classes for run in members if run.classes}) > 1 for members in alike.values()):
        keys, groups = [*keys, "classes"], {}
        for values, members in alike.items():
            first = next((run.classes for run in members if run.classes), ())  # of unfinished runs
            for run in members:
                names = f"[{','.join(run.classes or first)}]"
                groups.setdefault((*values, names), []).append(run)
    typed = list(dict.fromkeys(key for run in known for key in run.typed))
    columns = dict(zip(keys, zip(*groups, strict=True), strict=False))
    columns |= _choices(list(groups.values()))
    naming = _naming(columns, typed)
    phrases = [
        [f"{key.removesuffix('._target_')}={columns[key][place]}" for key in naming]
        for place in range(len(groups))
    ]
    made = []
    for words, (values, members) in zip(phrases, groups.items(), strict=True):
        sizes = (
            n for n in range(len(words)) if sum(each[:n] == words[:n] for each in phrases) == 1
        )
        name = " ".join(words[: next(sizes, len(words))]) or "all runs"  # no more than it takes
        made.append(Group(name, dict(zip(keys, values, strict=True)), tuple(members)))
    return made


def _choices(groups: Sequence[Sequence[Run]]) -> dict[str, tuple[str, ...]]:
    """Return what each group chose of each config group that all of its runs chose alike."""
    columns = {}
    for name in dict.fromkeys(name for group in groups for run in group for name in run.choices):
        chosen = [{shown(run.choices, name) for run in group} for group in groups]
        if all(len(values) == 1 and ABSENT not in values for values in chosen):
            columns[name] = tuple(value for values in chosen for value in values)
    return columns


def differing(runs: Sequence[Run]) -> list[str]:
    """List the keys in which runs differ, but for seeds and places; of copies only the shortest."""
    columns: dict[str, tuple[str, ...]] = {}
    for key in dict.fromkeys(key for run in runs for key in run.config):
        if _is_aside(key, runs):
            continue
        column = tuple(shown(run.config, key) for run in runs)
        if len(set(column)) > 1:
            columns[key] = column
    return [
        key
        for key, column in columns.items()
        if not any(key.endswith(f".{other}") and columns[other] == column for other in columns)
    ]


def _is_aside(key: str, runs: Sequence[Run]) -> bool:
    if key.rpartition(".")[2] in ASIDE or _is_below(key, ASIDE_BELOW):
        return True
    return key == "ckpt_path" and all("seed" in run.config for run in runs)  # where it goes on


def _is_below(key: str, nodes: Sequence[str]) -> bool:
    return any(f"{key}.".startswith(f"{node}.") for node in nodes)


def _require_known(ignored: Sequence[str], runs: Sequence[Run]) -> None:
    keys = list(dict.fromkeys(key for run in runs for key in run.config))
    for node in ignored:
        if not any(_is_below(key, [node]) for key in keys):
            raise RequestError(
                f"ignore={node}: no configuration here has that key{nearest(node, keys)}"
            )


def shown(config: Mapping[str, Any], key: str) -> str:
    """Write a value of a configuration as one types it; of two values never the same."""
    value = config.get(key, ABSENT)
    if isinstance(value, str) and not QUOTED.match(value):
        return value
    return json.dumps(value, ensure_ascii=False, default=str, separators=(",", ":"))


def _naming(columns: Mapping[str, Sequence[str]], typed: Sequence[str]) -> list[str]:
    """Choose keys that tell the groups apart: those that were typed first, then the least deep.

    Args:
        columns: By key, the value of each group.
        typed: Keys of the command lines.
    """

    def order(key: str) -> tuple[int, int]:
        places = [n for n, each in enumerate(typed) if _is_below(key, [each])]
        return (places or [len(typed)])[0], key.count(".")

    def distinct(keys: Sequence[str]) -> int:
        return len(set(zip(*(columns[key] for key in keys), strict=True)))

    chosen: list[str] = []
    for key in sorted(columns, key=order):
        if distinct([*chosen, key]) > max(distinct(chosen), 1):
            chosen.append(key)
    return chosen
