"""The page of a report: what is on it, in which order, from groups of runs."""

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from danet_lightning.disk.names import printable
from danet_lightning.pictures.confusion import confusion_figure, worst_confusions
from danet_lightning.report import charts, tables
from danet_lightning.report.predictions import Gallery
from danet_lightning.runs.grouping import Group, difference
from danet_lightning.runs.overview import listed
from danet_lightning.runs.reading import Run

SHOWN = 12  # groups in the pictures: more lines or columns could not be told apart
CURVES = {
    "train/loss": "training loss",
    "train/loss/fused": "of the prediction alone",
    "val/miou": "validation mIoU",
    "gamma/pam": "gamma of PAM",
    "gamma/cam": "gamma of CAM",
}


def render(
    title: str,
    groups: Sequence[Group],
    baseline: Group,
    others: Sequence[Run],
    pictures: Gallery,
    warnings: Sequence[str],
) -> str:
    """Write the page as HTML; every text that is not ours is escaped.

    Args:
        title: Its heading.
        groups: All of them.
        baseline: The one that the others are compared with.
        others: Runs that belong to no group.
        pictures: Validation images as the groups see them.
        warnings: What a reader has to know before any number.
    """
    shown = shown_groups(groups, baseline)
    classes = all_classes(groups)
    environment = Environment(
        loader=PackageLoader("danet_lightning.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    runs = [*others, *(run for group in groups for run in group.runs)]
    return environment.get_template("page.html.jinja").render(
        title=title,
        summary=_summary(groups, runs),
        warnings=warnings,
        groups=tables.group_table(groups, baseline),
        costs=tables.cost_table(groups),
        classes=tables.class_table(shown, classes),
        keys=tables.key_table(shown),
        runs=tables.run_table(groups, others),
        figures=_figures(shown, baseline, classes),
        confusions=_confusions(shown),
        gallery=pictures,
        facts=_facts(groups),
        left_out=len(groups) > len(shown),
        shown=len(shown),
    )


def shown_groups(groups: Sequence[Group], baseline: Group) -> list[Group]:
    """Choose the groups that the pictures show: the baseline first, then the best of the others."""
    others = [group for group in groups if group is not baseline]
    if len(others) < SHOWN:
        return [baseline, *others]
    others.sort(key=lambda group: -(spread.mean if (spread := group.spread()) else -1.0))
    return [baseline, *others[: SHOWN - 1]]


def all_classes(groups: Sequence[Group]) -> list[str]:
    """List the classes of all runs, in the order of the first that has them."""
    runs = [run for group in groups for run in group.scored]
    return list(dict.fromkeys(name for run in runs for name in run.classes))


def _summary(groups: Sequence[Group], runs: Sequence[Run]) -> str:
    states = Counter(run.status for run in runs)
    sentence = ", ".join(f"{number} {state}" for state, number in states.items())
    return f"{len(runs)} runs ({sentence}) in {len(groups)} groups."


def _figures(
    shown: Sequence[Group], baseline: Group, classes: Sequence[str]
) -> dict[str, str | None]:
    figures: dict[str, Any] = {"scores": None, "classes": None}
    if any(group.scored for group in shown):
        figures["scores"] = charts.scores(shown)
    figures["curves"] = charts.curves(shown, CURVES)
    compared = [group for group in shown if group is not baseline and group.scored]
    if compared and classes and baseline.scored:
        differences = [
            [difference(group, baseline, name) for group in compared] for name in classes
        ]
        rows = [[each and each.spread.mean for each in row] for row in differences]
        names = [group.name for group in compared]
        figures["classes"] = charts.class_differences(rows, classes, names)
    return {name: figure and charts.picture(figure) for name, figure in figures.items()}


def _confusions(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Draw the confusion matrix of each group, summed over its runs of the same classes."""
    rows = []
    for group in groups:
        matrices: dict[tuple[str, ...], list[Any]] = {}
        for run in group.scored:
            if run.results.get("confusion_matrix"):
                matrices.setdefault(run.classes, []).append(run.results["confusion_matrix"])
        for classes, several in itertools.islice(matrices.items(), 1):
            matrix = np.sum(np.array(several, np.float64), axis=0)
            figure = confusion_figure(matrix, classes)
            worst = worst_confusions(matrix, classes)
            rows.append({"name": group.name, "worst": worst, "picture": charts.picture(figure)})
    return rows


def _facts(groups: Sequence[Group]) -> dict[str, list[tuple[str, int]]]:
    """List what the numbers were counted by, each with how many runs share it."""
    runs = [run for group in groups for run in group.scored]
    facts: dict[str, list[str]] = {
        "Protocol": [listed(run.results.get("protocol", {})) for run in runs],
        "Data (a digest of each split's images and labels)": [
            listed(run.results.get("data", {})) for run in runs
        ],
        "Commit": [str(run.results.get("git_commit") or "") for run in runs],
        "Versions": [listed(run.results.get("versions", {})) for run in runs],
        "Machine": [listed(run.results.get("machine", {})) for run in runs],
    }
    return {
        name: Counter(value or "not known" for value in values).most_common()
        for name, values in facts.items()
    }
