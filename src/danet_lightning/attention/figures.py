"""Figures for a paper, in the manner of figures 4, 5 and 6 of arXiv 1809.02983, with vector text.

H, W: size of the image that the network sees, h, w: size of the features, N: positions.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from danet_lightning.attention.layout import Panel, arranged
from danet_lightning.attention.observation import Observation, position_of
from danet_lightning.attention.page import COLORS, strongest_channels
from danet_lightning.data.base import IGNORE, Pixels
from danet_lightning.models.maps import ChannelMap, PositionMap
from danet_lightning.pictures.color_vision import look_alike
from danet_lightning.pictures.confusion import label_text
from danet_lightning.pictures.legend import class_name
from danet_lightning.pictures.masks import Palette, mask_panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

SIDE = 640  # longer side of a panel in pixels, 350 dots an inch
NUMBER = 36  # of a class in pixels, as large as the smallest text
BRIGHTEST = 0.99  # share of a map's values below the brightest color, as on the page
STRENGTH = 0.8  # of a map over the grey image, as on the page


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
    rows, columns = observation.original_size
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
    shades: list[Panel] = []
    for branch in observation.branches:
        if isinstance(branch.map, ChannelMap):
            chosen = strongest_channels(branch, 2) if channels is None else channels
            shades += [Panel(f"channel {each}", _shades(branch.after[each])) for each in chosen]
    panels += [*shades, *_results(observation, palette)]
    legend = _legend(observation, classes, palette)
    return arranged(panels, legend, most if maps else None, bool(shades))


def branches_figure(observation: Observation, classes: Sequence[str], palette: Palette) -> "Figure":
    """Draw figures 4 and 5: the prediction without each attention, and with all of them."""
    masks = {f"without\n{branch.title.lower()}": branch.without for branch in observation.branches}
    panels = [Panel("image", _small(observation.image)), *_masks(observation, palette, masks)]
    panels += _results(observation, palette)
    return arranged(panels, _legend(observation, classes, palette))


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
        sizes = zip(deepest, observation.original_size, prediction.shape, strict=True)
        y, x = ((2 * int(at) + 1) * size // (2 * seen) for at, size, seen in sizes)
        points.append((y, x))
    return points


def _times(map_: PositionMap, observation: Observation, point: tuple[int, int]) -> Tensor:
    """Return what a pixel looks at, in multiples of 1/N: (h, w)."""
    index = position_of(point, observation.original_size, map_.size)
    (row,) = map_.rows(torch.tensor([index]))
    times: Tensor = (row * len(row)).reshape(map_.size)
    return times


def _heat(image: Pixels, values: Tensor, most: float) -> Pixels:
    """Draw values (h, w) as colors over the grey image (H, W, 3), at a size (height, width, 3)."""
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
    """Return features (h, w) as greys (h, w, 3): from the least value, dark, to the largest."""
    from matplotlib import colormaps

    low, high = features.aminmax()
    share = (features - low) / (high - low).clamp(min=1e-12)
    colors: Pixels = colormaps[COLORS](share.numpy(), bytes=True)[..., :3]
    return colors


def _small(picture: Pixels) -> Pixels:
    small = Image.fromarray(picture)
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return np.asarray(small)


def _results(observation: Observation, palette: Palette) -> list[Panel]:
    masks = {"prediction": observation.prediction, "label": observation.label}
    return _masks(observation, palette, masks)


def _masks(
    observation: Observation, palette: Palette, masks: Mapping[str, Pixels | None]
) -> list[Panel]:
    numbered = look_alike(palette, observation.present())
    return [
        Panel(title, np.asarray(mask_panel(mask, palette, numbered, SIDE, NUMBER)))
        for title, mask in masks.items()
        if mask is not None
    ]


def _legend(observation: Observation, classes: Sequence[str], palette: Palette) -> list["Patch"]:
    """Return a swatch for each class that is there, and a hatched one for ignored pixels."""
    from matplotlib.patches import Patch

    present = observation.present()
    numbered = look_alike(palette, present)
    patches = []
    for index in present:
        name = label_text(class_name(index, classes, numbered))
        if index == IGNORE:
            patches.append(Patch(fc="0.8", ec="0.35", lw=0.5, hatch=6 * "/", label=name))
        else:
            patches.append(Patch(fc=np.array(palette[index]) / 255, ec="0.4", lw=0.5, label=name))
    return patches
