"""Figures for a paper, in the manner of figures 4, 5 and 6 of arXiv 1809.02983, with vector text.

H, W: size of the image that the network sees, h, w: size of the features, N: positions.
"""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from danet_lightning.attention.observation import Observation, position_of
from danet_lightning.attention.page import COLORS, strongest_channels
from danet_lightning.data.base import IGNORE, Pixels
from danet_lightning.models.maps import ChannelMap, PositionMap
from danet_lightning.pictures.confusion import label_text, rendered
from danet_lightning.pictures.masks import Palette, colorize

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLE: Any = {  # of Matplotlib
    "pdf.fonttype": 42,  # letters stay letters, which one can search and edit
    "text.parse_math": False,  # class names with two $ are no formula
    "font.size": 8,
    "axes.titlesize": 8,
}
WIDTH = 7.2  # inches: two columns of a paper
COLUMNS = 5  # at most
SIDE = 640  # longer side of a panel in pixels, 350 dots an inch
BRIGHTEST = 0.99  # share of a map's values below the brightest color, as on the page
STRENGTH = 0.8  # of a map over the grey image, as on the page


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


def attention_figure(
    observation: Observation,
    classes: Sequence[str],
    palette: Palette,
    points: Sequence[tuple[int, int]],
    channels: Sequence[int] | None = None,
) -> "Figure":
    """Draw figure 6: the points on the image, the map of each, channels, prediction and label.

    Args:
        observation: What is drawn.
        classes: Names of the classes.
        palette: One RGB color for each.
        points: (y, x) in the image as it was given.
        channels: Whose features after channel attention are drawn; by default the two that it
            changes most.
    """
    rows, columns = observation.given
    places = {n: ((y + 0.5) / rows, (x + 0.5) / columns) for n, (y, x) in enumerate(points, 1)}
    panels = [Panel("image", _small(observation.image), places)]
    maps = []
    for branch in observation.branches:
        if isinstance(branch.map, PositionMap):
            maps += [(n, _times(branch.map, observation, points[n - 1])) for n in places]
    # where all attention goes to one position, the rest of next to nothing must not shine
    most = max([1.0, *(float(row.quantile(BRIGHTEST, interpolation="nearest")) for _, row in maps)])
    for n, row in maps:
        heat = _heat(observation.image, row, most)
        panels.append(Panel(f"map of point {n}", heat, {n: places[n]}))
    for branch in observation.branches:
        if isinstance(branch.map, ChannelMap):
            chosen = strongest_channels(branch, 2) if channels is None else channels
            panels += [Panel(f"channel {each}", _shades(branch.after[each])) for each in chosen]
    panels += _results(observation, palette)
    return _figure(panels, _legend(observation, classes, palette), most if maps else 0)


def branches_figure(observation: Observation, classes: Sequence[str], palette: Palette) -> "Figure":
    """Draw figures 4 and 5: the prediction without each attention, and with all of them."""
    panels = [Panel("image", _small(observation.image))]
    for branch in observation.branches:
        title = f"without {branch.title.lower()}"
        panels.append(Panel(title, _small(colorize(branch.without, palette), is_mask=True)))
    panels += _results(observation, palette)
    return _figure(panels, _legend(observation, classes, palette))


def file_of(figure: "Figure", kind: Literal["png", "pdf"]) -> bytes:
    """Return the content of a figure's file; the same figure makes the same bytes."""
    from matplotlib import rc_context

    logging.getLogger("fontTools").setLevel(logging.WARNING)  # it tells of every letter of a PDF
    undated = {"CreationDate": None} if kind == "pdf" else None
    with rc_context(STYLE):
        return rendered(figure, kind, dpi=300, metadata=undated)


def typical_points(observation: Observation, number: int = 2) -> list[tuple[int, int]]:
    """Return the pixel farthest from other classes, in each of the classes that take most of the
    image.

    Returns:
        (y, x) in the image as it was given.
    """
    prediction, points = observation.prediction, []
    ids, counts = np.unique(prediction, return_counts=True)
    for index in ids[np.argsort(-counts, kind="stable")][:number]:
        depth = distance_transform_edt(np.pad(prediction == index, 1))[1:-1, 1:-1]
        deepest = np.unravel_index(depth.argmax(), depth.shape)
        sizes = zip(deepest, observation.given, prediction.shape, strict=True)
        y, x = ((2 * int(at) + 1) * size // (2 * seen) for at, size, seen in sizes)
        points.append((y, x))
    return points


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


def _times(map_: PositionMap, observation: Observation, point: tuple[int, int]) -> Tensor:
    """(h, w): what a pixel looks at, in multiples of 1/N."""
    index = position_of(point, observation.given, map_.size)
    (row,) = map_.rows(torch.tensor([index]))
    times: Tensor = (row * len(row)).reshape(map_.size)
    return times


def _heat(image: Pixels, values: Tensor, most: float) -> Pixels:
    """(H, W, 3), (h, w) -> a small (height, width, 3): the map over the grey image."""
    from matplotlib import colormaps

    small = _small(image)
    share = (values / most).clamp(0, 1).sqrt().float().numpy()  # (h, w)
    size = small.shape[1], small.shape[0]
    large = np.asarray(Image.fromarray(share).resize(size, Image.Resampling.NEAREST))
    colors = colormaps[COLORS](large)[..., :3] * 255  # (height, width, 3)
    grey = np.asarray(Image.fromarray(small).convert("L"))[..., None]
    blend: Pixels = np.rint(STRENGTH * colors + (1 - STRENGTH) * grey).astype(np.uint8)
    return blend


def _shades(features: Tensor) -> Pixels:
    """(h, w) -> (h, w, 3): from the least value, dark, to the largest."""
    from matplotlib import colormaps

    low, high = features.aminmax()
    share = (features - low) / (high - low).clamp(min=1e-12)
    colors: Pixels = colormaps[COLORS](share.numpy(), bytes=True)[..., :3]
    return colors


def _small(picture: Pixels, is_mask: bool = False) -> Pixels:
    small = Image.fromarray(picture)
    small.thumbnail((SIDE, SIDE), Image.Resampling.NEAREST if is_mask else Image.Resampling.LANCZOS)
    return np.asarray(small)


def _results(observation: Observation, palette: Palette) -> list[Panel]:
    masks = {"prediction": observation.prediction, "label": observation.label}
    return [
        Panel(title, _small(colorize(mask, palette), is_mask=True))
        for title, mask in masks.items()
        if mask is not None
    ]


def _legend(
    observation: Observation, classes: Sequence[str], palette: Palette
) -> list[tuple[str, Sequence[int]]]:
    return [
        ("ignored", (0, 0, 0)) if index == IGNORE else (label_text(classes[index]), palette[index])
        for index in observation.present()
    ]


def _figure(
    panels: Sequence[Panel],
    legend: Sequence[tuple[str, Sequence[int]]],
    most: float = 0,
) -> "Figure":
    """Lay the panels out in rows, with one legend of the classes and one of the maps' colors.

    Args:
        panels: What is laid out.
        legend: Name and color of each class.
        most: What the brightest color of a map means, in multiples of 1/N; 0: there is no map.
    """
    from matplotlib import rc_context
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure  # not pyplot: no global state, no display
    from matplotlib.patches import Patch

    lines = -(-len(panels) // COLUMNS)
    columns = -(-len(panels) // lines)
    height, width = panels[0].picture.shape[:2]
    ratio = min(max(height / width, 0.1), 4)  # of a panel; an extreme one leaves room for its title
    with rc_context(STYLE):
        tall = lines * (WIDTH / columns * ratio + 0.25) + 0.25 * (1 + len(legend) // 6)
        figure = Figure(figsize=(WIDTH, tall), layout="constrained")
        grid = figure.subplots(lines, columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for axes, panel in zip(grid.flat, panels, strict=False):
            axes.imshow(panel.picture, extent=(0, 1, 1, 0), interpolation="nearest", aspect=ratio)
            axes.set_title(panel.title)
            for number, (down, right) in panel.points.items():
                _mark(axes, number, down, right)
        if most:
            colors = ScalarMappable(PowerNorm(0.5, 0, most), COLORS)
            bar = figure.colorbar(colors, ax=grid, fraction=0.03, pad=0.01, aspect=30)
            bar.set_label("attention, in 1/N")
        patches = [
            Patch(fc=np.array(color) / 255, ec="0.4", lw=0.5, label=name) for name, color in legend
        ]
        figure.legend(handles=patches, loc="outside lower center", ncols=6, frameon=False)
    return figure
