"""The table of means that a sweep ends with, and that a report begins with."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from danet_lightning.disk.names import printable
from danet_lightning.runs.grouping import Difference, Group, Spread, difference

HEADER = ("group", "mIoU", "std", "best", "pixel accuracy", "against the baseline", "runs")


def table(groups: Sequence[Group]) -> str:
    """Lay out one line a group for a terminal: means over seeds, and the difference to the first.

    Args:
        groups: The first of them is the one that the others are compared with.
    """
    rows = [HEADER, *(_row(group, groups[0]) for group in groups)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        first, *rest = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join([first, *rest]).rstrip())
    return "\n".join(lines)


def _row(group: Group, baseline: Group) -> tuple[str, ...]:
    miou, best = group.spread(), group.best
    against = None if group is baseline else difference(group, baseline)
    return (
        printable(group.name),
        number(miou and miou.mean),
        number(miou and miou.std),
        number(best.miou if best else None),
        plus_minus(group.spread("pixel_accuracy"), with_std=False),
        signed(against),
        count(group),
    )


def number(value: float | None, digits: int = 4) -> str:
    """Write a number, and a dash where there is none."""
    return "—" if value is None else f"{value:.{digits}f}"


def plus_minus(value: Spread | None, digits: int = 4, with_std: bool = True) -> str:
    """Write a mean and, from two values on, its standard deviation."""
    if value is None:
        return "—"
    shown = f"{value.mean:.{digits}f}"
    return f"{shown} ± {value.std:.{digits}f}" if with_std and value.std is not None else shown


def signed(value: Difference | None) -> str:
    """Write a difference with its sign, its deviation and how many seeds it is paired over."""
    if value is None:
        return "—"
    mean, std, pairs = value.spread
    shown = f"{mean:+z.4f}"
    shown += "" if std is None else f" ± {std:.4f}"
    if not value.is_paired:
        return f"{shown} (not paired)"
    return f"{shown} ({pairs} seed{'s' if pairs > 1 else ''})"


def count(group: Group) -> str:
    """Write how many runs of a group have a score, and of how many where some have none."""
    scored, of = len(group.scored), len(group.runs)
    return str(of) if scored == of else f"{scored} of {of}"


def listed(facts: Mapping[str, Any]) -> str:
    """Write facts in one line, `name value, name value`."""
    parts = ((key, json.dumps(value, separators=(",", ":"))) for key, value in facts.items())
    return ", ".join(f"{key} {value}" for key, value in parts)
