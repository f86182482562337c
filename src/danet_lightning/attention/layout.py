"""Panels of a figure for a paper in rows, above one legend, with vector text."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from danet_lightning.attention.page import COLORS
from danet_lightning.data.base import Pixels
from danet_lightning.pictures.confusion import rendered

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

STYLE: Any = {  # of Matplotlib
    "pdf.fonttype": 42,  # letters stay letters, which one can search and edit
    "text.parse_math": False,  # class names with two $ are no formula
    "font.size": 8,
    "axes.titlesize": 8,
}
WIDTH = 7.2  # inches: two columns of a paper
COLUMNS = 5  # at most


class Panel(NamedTuple):
    """One picture of a figure.

    Attributes:
        title: Above it.
        picture: (height, width, 3) RGB.
        points: Shares of height and width at which numbered points are drawn, by number.
    """

    title: str
    picture: Pixels
    points: dict[int, tuple[float, float]] = {}  # noqa: RUF012  # nobody changes it


def arranged(
    panels: Sequence[Panel],
    legend: Sequence["Patch"],
    most: float | None = None,
    has_channels: bool = False,
) -> "Figure":
    """Lay the panels out in rows, above what their colors mean.

    Args:
        panels: What is laid out.
        legend: A patch for each class.
        most: What the brightest color of a map means, in multiples of 1/N; None: there is no map.
        has_channels: Whether features of channels are among the panels.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure  # not pyplot: no global state, no display

    lines = -(-len(panels) // COLUMNS)
    columns = -(-len(panels) // lines)
    height, width = panels[0].picture.shape[:2]
    ratio = min(max(height / width, 0.1), 4)  # of a panel; an extreme one leaves room for its title
    title = 0.15 + 0.15 * max(1 + panel.title.count("\n") for panel in panels)
    with rc_context(STYLE):
        tall = lines * (WIDTH / columns * ratio + title) + 0.25 * (1 + len(legend) // 6)
        tall += 0.45 if most or has_channels else 0
        figure = Figure(figsize=(WIDTH, tall), layout="constrained")
        grid = figure.subplots(lines, columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for axes, panel in zip(grid.flat, panels, strict=False):
            axes.imshow(panel.picture, extent=(0, 1, 1, 0), interpolation="auto", aspect=ratio)
            axes.set_title(panel.title)
            axes.set_anchor("N")  # in the middle of more room than it takes, its title would be cut
            for number, (down, right) in panel.points.items():
                _mark(axes, number, down, right)
        if most or has_channels:
            _draw_scale(figure, most, has_channels)
        figure.legend(handles=list(legend), loc="outside lower center", ncols=6, frameon=False)
    return figure


def _draw_scale(figure: "Figure", most: float | None, has_channels: bool) -> None:
    """Draw the colors of maps and channels from dark to bright, below all panels."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import PowerNorm

    colors = ScalarMappable(PowerNorm(0.5 if most else 1, 0, most or 1), COLORS)
    bar = figure.colorbar(
        colors, ax=figure.axes, location="bottom", shrink=0.5, aspect=40, pad=0.02
    )
    meanings = [f"maps: attention, in 1/N, {most:.3g} and more in the last color"] if most else []
    if has_channels:
        meanings.append("channels: each from its least value to its largest")
    if not most:
        bar.set_ticks([0, 1], labels=["least", "largest"])
    bar.set_label("; ".join(meanings))


def file_of(figure: "Figure", kind: Literal["png", "pdf"]) -> bytes:
    """Return the content of a figure's file; the same figure makes the same bytes."""
    from matplotlib import rc_context

    logging.getLogger("fontTools").setLevel(logging.WARNING)  # it tells of every letter of a PDF
    undated = {"CreationDate": None} if kind == "pdf" else None
    with rc_context(STYLE):
        return rendered(figure, kind, dpi=300, metadata=undated)


def _mark(axes: "Axes", number: int, down: float, right: float) -> None:
    """Draw a numbered ring that is seen on any ground."""
    from matplotlib.patheffects import withStroke

    around = [withStroke(linewidth=2.5, foreground="black")]
    axes.plot(right, down, "o", mfc="none", mec="white", ms=6, mew=1.2, path_effects=around)
    axes.annotate(
        str(number),
        (right, down),
        (5, 4),
        textcoords="offset points",
        color="white",
        weight="bold",
        path_effects=around,
    )
