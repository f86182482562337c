"""The figures of a report, each as an SVG that is a page's own: text stays text, nothing is loaded.

G: groups, C: classes.
"""

import base64
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from danet_lightning.pictures.confusion import LONGEST, label_text, rendered
from danet_lightning.runs.grouping import Group
from danet_lightning.runs.reading import Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's, which color-blind people tell apart; black first, for what all is compared with
COLORS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#8C564B")
LINES = ("-", "--", ":")  # for more groups than colors
POINTS = 100  # of a curve; more are averaged
SVG: Any = {"svg.fonttype": "none", "svg.hashsalt": "danet", "text.parse_math": False}
Curve = list[tuple[float, float, float, float]]  # step, mean, lowest, highest


def picture(figure: Figure) -> str:
    """Return a figure as the address of an image that holds it."""
    with rc_context(SVG):
        content = rendered(figure, "svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(content).decode()}"


def scores(groups: Sequence[Group]) -> Figure:
    """Draw each run's mIoU as a dot and the mean of its group as a bar across them."""
    names = [_short(group.name) for group in reversed(groups)]
    lines = 1 + max(name.count("\n") for name in names)
    with rc_context(SVG):
        figure, axes = _figure(9, 0.9 + (0.16 + 0.18 * lines) * len(groups))  # inches
        for place, group in enumerate(reversed(groups)):
            color = style(len(groups) - 1 - place)["color"]
            values = [run.miou or 0.0 for run in group.scored]
            axes.plot(values, [place] * len(values), "o", color=color, alpha=0.6, markersize=5)
            if interval := group.spread():
                axes.plot(
                    [interval.mean] * 2, [place - 0.3, place + 0.3], color=color, linewidth=2.5
                )
        axes.set_yticks(range(len(groups)), names)
        axes.set_ylim(-0.6, len(groups) - 0.4)
        axes.set_xlabel("mIoU")
        axes.grid(axis="x", alpha=0.3)
    return figure


def curves(groups: Sequence[Group], metrics: Mapping[str, str]) -> Figure | None:
    """Draw metrics over the optimizer steps, a line a group with a band from lowest to highest run.

    Args:
        groups: Those to draw.
        metrics: The columns of metrics.csv with the titles of their axes.

    Returns:
        None where no run has any of them.
    """
    group_curves = {
        key: [curve([run.series for run in g.runs], key) for g in groups] for key in metrics
    }
    kept = [key for key in metrics if any(group_curves[key])]
    if not kept:
        return None
    with rc_context(SVG):
        figure = Figure(figsize=(9, 2.7 * len(kept) + 0.16 * len(groups)), layout="constrained")
        rows = figure.subplots(len(kept), sharex=True, squeeze=False)[:, 0]
        for axes, key in zip(rows, kept, strict=True):
            for number, (group, points) in enumerate(zip(groups, group_curves[key], strict=True)):
                _draw(axes, points, label=_short(group.name), **style(number))
            once = all(len(points) < 2 for points in group_curves[key])
            axes.set_ylabel(metrics[key] + ("\n(one value a run)" if once else ""))
            axes.grid(alpha=0.3)
        rows[-1].set_xlabel("optimizer step")
        lines, names = rows[0].get_legend_handles_labels()
        figure.legend(lines, names, loc="outside upper left", ncols=3, fontsize=9, frameon=False)
    return figure


def curve(runs: Sequence[Series], key: str) -> Curve:
    """Join one metric of several runs: at each step the mean, lowest and highest of those there."""
    last = max((step for run in runs for step in run.get(key, ())), default=0)
    width = max(1.0, last / POINTS)
    bins: dict[int, list[list[float]]] = {}
    steps: dict[int, list[int]] = {}
    for run in runs:
        run_bins: dict[int, list[float]] = {}
        for step, value in run.get(key, {}).items():
            place = int((step - 1) // width)
            run_bins.setdefault(place, []).append(value)
            steps.setdefault(place, []).append(step)
        for place, values in run_bins.items():
            bins.setdefault(place, []).append(values)
    joined = []
    for place in sorted(bins):
        means = [statistics.fmean(values) for values in bins[place]]
        middle = statistics.fmean(steps[place])
        joined.append((middle, statistics.fmean(means), min(means), max(means)))
    return joined


def class_differences(
    differences: Sequence[Sequence[float | None]], classes: Sequence[str], names: Sequence[str]
) -> Figure:
    """Draw how much more IoU each group has than the baseline, class by class, in points of 100.

    Args:
        differences: (C, G), None where one of the two has no IoU.
        classes: C names.
        names: G names.
    """
    values = 100 * np.array(
        [[np.nan if each is None else each for each in row] for row in differences], float
    )
    known = np.abs(values[~np.isnan(values)])
    limit = max(float(np.max(known)) if known.size else 1.0, 0.1)
    with rc_context(SVG):
        figure, axes = _figure(4.5 + 0.75 * len(names), 2.2 + 0.24 * len(classes))
        drawn = axes.imshow(values, cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto")
        axes.set_yticks(range(len(classes)), [label_text(name) for name in classes])
        axes.set_xticks(range(len(names)), [_short(name) for name in names], rotation=30, ha="left")
        axes.xaxis.tick_top()
        for row, column in np.argwhere(~np.isnan(values)):
            value = float(values[row, column])
            color = "white" if abs(value) > 0.7 * limit else "black"
            axes.text(column, row, f"{value:+z.1f}", ha="center", va="center", color=color)
        figure.colorbar(drawn, ax=axes, label="IoU above the baseline's, × 100")
    return figure


def style(number: int) -> dict[str, Any]:
    """Return the color and line in which the group with a number is drawn."""
    return {
        "color": COLORS[number % len(COLORS)],
        "linestyle": LINES[number // len(COLORS) % len(LINES)],
    }


def _figure(width: float, height: float) -> tuple[Figure, "Axes"]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _draw(axes: "Axes", points: Curve, label: str, **how: Any) -> None:
    steps, means, lowest, highest = zip(*points, strict=True) if points else ((),) * 4
    marker = "o" if len(points) < 30 else None
    axes.plot(steps, means, label=label, marker=marker, markersize=3, linewidth=1.5, **how)
    axes.fill_between(steps, lowest, highest, color=how["color"], alpha=0.15, linewidth=0)


def _short(name: str) -> str:
    """Break a group's name into as many lines as a legend has room for."""
    parts = [name] if len(name) <= LONGEST else name.split(" ")[:4]
    return "\n".join(map(label_text, parts))
