"""The numbers of a report as cells: for the page, for report.csv and for report.md."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from danet_lightning.disk.names import printable
from danet_lightning.runs.grouping import Group, difference
from danet_lightning.runs.overview import count, number, plus_minus, signed
from danet_lightning.runs.reading import Run


class Cell(NamedTuple):
    """What is shown, and the number by which a column is sorted; None: by the text."""

    text: str
    value: float | None = None


class Table(NamedTuple):
    """Rows of cells under the names of their columns."""

    header: list[str]
    rows: list[list[Cell]]


COSTS = {
    "s / step": ("seconds_per_step", 3),
    "images / s": ("images_per_second", 1),
    "share waiting for data": ("data_share", 2),
    "peak memory, GiB": ("peak_memory_gib", 2),
}
FORMULA = ("=", "+", "-", "@")  # by what a spreadsheet knows one


def group_table(groups: Sequence[Group], baseline: Group) -> Table:
    """Lay out one row a group: scores over seeds, and the difference to the baseline."""
    header = ["group", "runs", "mIoU", "best", "against the baseline", "pixel accuracy"]
    header += ["gamma PAM", "gamma CAM"]
    rows = []
    for group in groups:
        best = group.best.miou if group.best else None
        against = None if group is baseline else difference(group, baseline)
        rows.append([
            Cell(printable(group.name) + (" (baseline)" if group is baseline else "")),
            Cell(count(group), len(group.scored)),
            _cell(group.spread(), 4),
            Cell(number(best), best),
            Cell("" if group is baseline else signed(against), against and against.spread.mean),
            _cell(group.spread("pixel_accuracy"), 4),
            *(_cell(group.gamma(branch), 3) for branch in ("pam", "cam")),
        ])  # fmt: skip
    return Table(header, rows)


def cost_table(groups: Sequence[Group]) -> Table:
    """Lay out one row a group: parameters, time and memory of its trainings."""
    rows = []
    for group in groups:
        size = group.spread("parameters")
        rows.append([
            Cell(printable(group.name)),
            Cell(number(size and size.mean / 1e6, 2), size and size.mean),
            *(_cell(group.cost(key), digits) for key, digits in COSTS.values()),
        ])  # fmt: skip
    return Table(["group", "parameters, M", *COSTS], rows)


def class_table(groups: Sequence[Group], classes: Sequence[str]) -> Table:
    """Lay out the mean IoU of each class, a row a class and a column a group."""
    rows = [
        [Cell(printable(name)), *(_cell(group.class_iou(name), 4) for group in groups)]
        for name in classes
    ]
    return Table(["class", *(printable(group.name) for group in groups)], rows)


def key_table(groups: Sequence[Group]) -> Table:
    """Lay out every key in which the groups differ, a row a key and a column a group."""
    keys = list(groups[0].values)
    rows = [[Cell(printable(text)) for text in (k, *(g.values[k] for g in groups))] for k in keys]
    return Table(["key", *(printable(group.name) for group in groups)], rows)


def run_table(groups: Sequence[Group], others: Sequence[Run]) -> Table:
    """Lay out one row a run, those without a configuration at the end."""
    header = ["run", "group", "seed", "state", "mIoU", "commit", "machine"]
    pairs = [(run, group.name) for group in groups for run in group.runs]
    pairs += [(run, "—") for run in others]
    rows = []
    for run, name in pairs:
        state = f"{run.status}: {run.reason}" if run.reason else run.status
        machine = run.results.get("machine", {})
        where = f"{machine.get('device')} × {machine.get('processes')}, {machine.get('host')}"
        commit = str(run.results.get("git_commit") or "—")
        rows.append([
            Cell(printable(str(run.path))), Cell(printable(name)),
            Cell("—" if run.seed is None else printable(str(run.seed)), _float(run.seed)),
            Cell(printable(state)), Cell(number(run.miou), run.miou),
            Cell(printable(commit[:10] + ("+" if "+" in commit else ""))),
            Cell(printable(where) if machine else "—"),
        ])  # fmt: skip
    return Table(header, rows)


def as_csv(groups: Sequence[Group], others: Sequence[Run], classes: Sequence[str]) -> str:
    """Write one line a run with all of its numbers, for a program to read."""
    rows: list[dict[str, Any]] = []
    entries = [(group.name, group.values, run) for group in groups for run in group.runs]
    entries += [("", {}, run) for run in others]
    for name, differing, run in entries:
        results = run.results
        values: dict[str, Any] = {"run": run.path, "group": name}
        values |= {"status": run.status, "reason": run.reason, "seed": run.seed}
        values |= {key: results.get(key) for key in ("miou", "pixel_accuracy", "parameters")}
        values |= {f"gamma/{key}": value for key, value in results.get("gammas", {}).items()}
        values |= dict(results.get("cost", {}))
        values |= {"git_commit": results.get("git_commit")}
        values |= {f"iou/{key}": results.get("class_iou", {}).get(key) for key in classes}
        values |= {f"config/{key}": value for key, value in differing.items()}
        rows.append({_plain(key): _plain(value) for key, value in values.items()})
    text = io.StringIO()
    columns = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_markdown(title: str, tables: Mapping[str, Table], warnings: Sequence[str]) -> str:
    """Write tables for a text that people edit."""
    parts = [f"# {_escaped(title)}", *(f"- **{_escaped(each)}**" for each in warnings)]
    for name, table in tables.items():
        lines = [f"| {' | '.join(map(_escaped, table.header))} |"]
        lines.append(f"|{' --- |' * len(table.header)}")
        lines += [f"| {' | '.join(_escaped(cell.text) for cell in row)} |" for row in table.rows]
        parts += [f"## {name}", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def _plain(value: Any) -> Any:
    """Write a text so that neither a terminal nor a spreadsheet takes it for a command."""
    if not isinstance(value, str | Path):
        return value
    text = printable(str(value))
    # beginnings of a formula, but for those of a number
    return f"'{text}" if text[:1] in FORMULA and _parsed(text) is None else text


def _parsed(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _cell(value: Any, digits: int) -> Cell:
    return Cell(plus_minus(value, digits), value and value.mean)


def _float(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _escaped(text: str) -> str:
    """Escape what Markdown, or HTML within it, would take for a mark of its own."""
    for sign in "\\`*_[]<>|":
        text = text.replace(sign, f"\\{sign}" if sign not in "<>" else f"&{'lg'[sign == '>']}t;")
    return printable(text)
