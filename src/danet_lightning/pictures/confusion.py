"""Which classes are taken for which: a confusion matrix, and the IoU of each class, as figures.

C: classes. Rows of a matrix are labels, columns predictions.
"""

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from danet_lightning.disk.names import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LONGEST = 24  # signs of a class name at an axis
ANNOTATED = 25  # classes, with more of which numbers in the cells could not be read


def confusion_figure(matrix: NDArray[Any], classes: Sequence[str]) -> "Figure":
    """Draw a (C, C) confusion matrix, each row as shares of the pixels with that label."""
    from matplotlib.figure import Figure  # not pyplot: no global state, no display

    shares = row_shares(matrix)
    side = 2.2 + 0.36 * min(len(classes), 60)
    figure = Figure(figsize=(side + 0.6, side), dpi=100, layout="constrained")
    axes = figure.subplots()
    drawn = axes.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100)
    small = 9 if len(classes) <= 60 else 4
    names = [label_text(name) for name in classes]
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=small, parse_math=False)
    axes.set_yticks(range(len(names)), names, fontsize=small, parse_math=False)
    axes.set_xlabel("prediction")
    axes.set_ylabel("label")
    figure.colorbar(drawn, ax=axes, fraction=0.04, label="% of the label's pixels")
    if len(classes) <= ANNOTATED:
        for row, column in np.argwhere(shares >= 0.005):
            share = shares[row, column]
            color = "white" if share > 0.6 else "black"
            text = f"{100 * share:.0f}"
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color=color)
    return figure


def class_bars(iou: Sequence[float | None], classes: Sequence[str]) -> "Figure":
    """Draw the IoU of each class as a bar, the best first; a class without one is named as absent.

    Args:
        iou: One for each class; None, or NaN, where there is none.
        classes: Their names.
    """
    from matplotlib.figure import Figure

    values = np.array([np.nan if each is None else each for each in iou], float)
    order = np.argsort(np.where(np.isnan(values), -1, values), kind="stable")  # drawn upwards
    figure = Figure(figsize=(7, 1.2 + 0.24 * len(classes)), dpi=100, layout="constrained")
    axes = figure.subplots()
    places = list(range(len(classes)))
    axes.barh(places, np.nan_to_num(values[order]), color="tab:blue")
    names = [label_text(classes[index]) for index in order]
    axes.set_yticks(places, names, fontsize=9, parse_math=False)
    for place, value in zip(places, values[order], strict=True):
        text = "absent" if np.isnan(value) else f"{value:.3f}"
        over = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # the dashed line
        axes.text(np.nan_to_num(value) + 0.01, place, text, va="center", fontsize=8, bbox=over)
    if not np.isnan(values).all():
        mean = np.nanmean(values)
        axes.axvline(mean, color="black", linestyle="--", linewidth=0.8)
        axes.set_title(f"mIoU {mean:.4f} (dashed)", loc="right", fontsize="small")
    axes.set_xlim(0, 1.1)
    axes.set_ylim(-0.6, len(classes) - 0.4)
    axes.set_xlabel("IoU")
    return figure


def row_shares(matrix: NDArray[Any]) -> NDArray[np.float64]:
    """Divide each row by its sum; rows of labels that do not occur are 0."""
    counts = np.asarray(matrix, np.float64)
    sums = counts.sum(1, keepdims=True)
    shares: NDArray[np.float64] = counts / np.maximum(sums, 1)
    return shares


def worst_confusions(
    matrix: NDArray[Any], classes: Sequence[str], count: int = 5
) -> list[tuple[str, str, float]]:
    """List (label, prediction, share of the label's pixels) of the largest wrong shares."""
    wrong = row_shares(matrix)
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    pairs = [divmod(int(index), len(classes)) for index in order]
    return [
        (classes[row], classes[column], float(wrong[row, column]))
        for row, column in pairs
        if wrong[row, column] > 0
    ]


def rendered(figure: "Figure", kind: str, **options: Any) -> bytes:
    """Return a figure as the content of a file: png, svg or pdf.

    Silently where the font lacks a sign: of a name in Chinese a PNG shows boxes, an SVG the name.
    """
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(content, format=kind, **options)
    return content.getvalue()


def label_text(name: str) -> str:
    """Shorten a name to what fits at an axis, without signs that no picture can hold."""
    shown = printable(name)
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 1]}…"
