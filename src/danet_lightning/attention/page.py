"""One HTML file of an observation, on which one clicks; it asks no server for anything.

The rows of the N x N map are computed in the browser from queries, keys and the logarithm of each
query's sum. N: positions, C: channels, D: channels of queries and keys, h, w: size of the features.
"""

import base64
from collections.abc import Collection, Sequence
from itertools import count
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from danet_lightning.attention.observation import TITLES, Branch, Observation, at_positions
from danet_lightning.data.base import IGNORE, Pixels
from danet_lightning.disk.names import printable
from danet_lightning.models.maps import ChannelMap, PositionMap, pool
from danet_lightning.pictures.color_vision import look_alike
from danet_lightning.pictures.embedding import embedded
from danet_lightning.pictures.legend import class_name
from danet_lightning.pictures.masks import Palette, mask_panel

COLORS = "inferno"  # from dark to bright for everybody, color-blind or not, and in grey print
SHOWN_SIDE = 1280  # longer side of the pictures on the page, in pixels
FEATURE_BYTES = 2**22  # for the feature maps of all channels, before and after


def page(
    observation: Observation,
    name: str,
    classes: Sequence[str],
    palette: Palette,
    point: tuple[int, int],
    channel: int | None = None,
    megabytes: float = 24,
) -> str:
    """Write the page.

    Args:
        observation: What is shown.
        name: Of the image.
        classes: Names of the classes, in the order of their ids.
        palette: One RGB color for each.
        point: (y, x) of the pixel of the given image that is chosen at first.
        channel: That is chosen at first; by default the one that its attention changes most.
        megabytes: For queries and keys of a position map; larger ones are pooled.
    """
    parts = [_part(branch, observation, channel, megabytes) for branch in observation.branches]
    environment = Environment(
        loader=PackageLoader("danet_lightning.attention"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    present = observation.present()
    numbered = look_alike(palette, present)
    names = [class_name(index, classes, numbered) for index in range(len(classes))]
    height, width = observation.prediction.shape
    return environment.get_template("page.html").render(
        name=printable(name),
        original_size=observation.original_size,
        seen=(height, width),
        pictures=_pictures(observation, palette, numbered),
        parts=parts,
        branches=observation.branches,
        without={
            branch.name: _without(branch, observation, palette, numbered)
            for branch in observation.branches
        },
        missing=set(TITLES.values()) - {branch.title for branch in observation.branches},
        legend=[(names[index], palette[index]) for index in present if index != IGNORE],
        is_ignoring=IGNORE in present,
        payload={
            "classes": names,
            "palette": [list(color) for color in palette],
            "colors": _packed(color_ramp()),
            "original_size": observation.original_size,
            "point": point,
            "parts": parts,
        },
    )


def color_ramp() -> NDArray[np.uint8]:
    """Return the colors of a map, from nothing to the most: (256, 3)."""
    from matplotlib import colormaps

    ramp: NDArray[np.uint8] = colormaps[COLORS](np.arange(256), bytes=True)[:, :3]
    return ramp


def pooling(size: tuple[int, int], position_bytes: int, limit: float) -> int:
    """Return the least factor by which features of (h, w) have to be pooled, so that they fit a
    limit.
    """
    height, width = size
    return next(
        factor
        for factor in count(1)
        if -(-height // factor) * -(-width // factor) * position_bytes <= limit
        or factor >= max(size)
    )


def _part(
    branch: Branch, observation: Observation, channel: int | None, megabytes: float
) -> dict[str, Any]:
    """Return the data with which the page's script shows one attention module."""
    if isinstance(branch.map, PositionMap):
        return _position_part(branch.map, observation, megabytes)
    return _channel_part(branch.map, branch, channel)


def _position_part(
    whole: PositionMap, observation: Observation, megabytes: float
) -> dict[str, Any]:
    factor = pooling(whole.size, 8 * whole.query.shape[0], megabytes * 1e6)  # both in float32
    pooled = whole.pooled(factor)
    return {
        "kind": "position",
        "pooled": factor,
        "whole": whole.size,
        "size": pooled.size,
        "crissCross": pooled.criss_cross,
        "depth": pooled.query.shape[0],
        "query": _packed(_by_position(pooled.query)),
        "key": _packed(_by_position(pooled.key)),
        "logSum": _packed(pooled.log_sum.numpy()),
        "entropy": _packed(pooled.entropy.float().numpy()),
        "predicted": _packed(at_positions(observation.prediction, pooled.size)),
        "labelled": (
            None
            if observation.label is None
            else _packed(at_positions(observation.label, pooled.size))
        ),
    }


def _channel_part(map_: ChannelMap, branch: Branch, channel: int | None) -> dict[str, Any]:
    channels, height, width = branch.before.shape
    factor = pooling((height, width), 2 * channels, FEATURE_BYTES)  # both in 8 bits
    before, after = pool(branch.before, factor), pool(branch.after, factor)  # (C, h, w)
    both = np.stack([before.numpy(), after.numpy()])
    low, high = both.min((0, 2, 3)), both.max((0, 2, 3))  # (C,), one scale for the two of a channel
    span = np.where(high > low, high - low, 1)[:, None, None]
    shades = np.rint((both - low[:, None, None]) / span * 255).astype(np.uint8)  # (2, C, h, w)
    weights = map_.weights.float().cpu().numpy()  # (C, C)
    return {
        "kind": "channel",
        "pooled": factor,
        "size": before.shape[1:],
        "channels": channels,
        "weights": _packed(weights),
        "order": np.argsort(-weights.sum(0), kind="stable").tolist(),
        "before": _packed(shades[0]),
        "after": _packed(shades[1]),
        "low": [float(value) for value in low],
        "high": [float(value) for value in high],
        "chosen": strongest_channels(branch, 1)[0] if channel is None else channel,
    }


def strongest_channels(branch: Branch, number: int) -> list[int]:
    """Return the channels that the module changes most, the first one most."""
    change = (branch.after - branch.before).flatten(1).norm(dim=1)  # (C,)
    order: list[int] = change.argsort(descending=True, stable=True)[:number].tolist()
    return order


def _pictures(
    observation: Observation, palette: Palette, numbered: Collection[int]
) -> dict[str, str]:
    pictures = {
        "photo": _photo(observation.image),
        "prediction": embedded(_mask(observation.prediction, palette, numbered), "PNG"),
    }
    if observation.label is not None:
        pictures["label"] = embedded(_mask(observation.label, palette, numbered), "PNG")
    return pictures


def _without(
    branch: Branch, observation: Observation, palette: Palette, numbered: Collection[int]
) -> dict[str, Any]:
    """Return the prediction without a branch, and the pixels in which it differs from the one with
    it.
    """
    changed = branch.without != observation.prediction
    without = _mask(branch.without, palette, numbered)
    grey = Image.fromarray(observation.image).convert("L").resize(without.size)
    differing = Image.blend(grey, Image.new("L", without.size, "white"), 0.75).convert("RGB")
    where = Image.fromarray(changed).resize(without.size, Image.Resampling.NEAREST)
    # without outlines, which would cover what is as thin as they are
    differing.paste(_mask(branch.without, palette, ()), mask=where)
    return {
        "share": changed.mean(),
        "count": int(changed.sum()),
        "without": embedded(without, "PNG"),
        "changed": embedded(differing, "PNG"),
    }


def _mask(mask: Pixels, palette: Palette, numbered: Collection[int]) -> Image.Image:
    # three pictures in a row are read at a third of this size
    return mask_panel(mask, palette, numbered, SHOWN_SIDE, SHOWN_SIDE // 28)


def _photo(image: Pixels) -> str:
    photo = Image.fromarray(image)
    photo.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    if max(photo.size) <= 256:
        return embedded(photo, "PNG")
    return embedded(photo, "JPEG", quality=90)


def _by_position(features: Tensor) -> NDArray[np.float32]:
    return features.detach().float().cpu().flatten(1).T.contiguous().numpy()  # (N, D)


def _packed(array: NDArray[Any]) -> str:
    """Return the bytes of an array in the order in which browsers read them, as text."""
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    return base64.b64encode(little.tobytes()).decode()
