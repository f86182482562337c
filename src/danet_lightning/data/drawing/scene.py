"""A street scene from sky to sensor, as a function of (seed, split, index) alone.

Color and texture say little about a class here: road and sidewalk share their greys, cars, clothes
and signs their paints, lawns are fields in town, and the side of a bus is a house front on wheels.
R, W: rows below the horizon and columns of the canvas.
"""

import zlib

import cv2
import numpy as np
from numpy.typing import NDArray

from danet_lightning.data.drawing.canvas import (
    BUILDING,
    FIELD,
    GRASS,
    IGNORE,
    ROAD,
    SIDEWALK,
    SKY,
    VEGETATION,
    Camera,
    Canvas,
    Color,
    Image,
)
from danet_lightning.data.drawing.street import (
    JUNCTION,
    Street,
    paint_houses,
    paint_things,
    plan_street,
)
from danet_lightning.data.drawing.surfaces import (
    Plane,
    asphalt,
    foliage,
    grain,
    hue_color,
    meadow,
    noise_tile,
    phase,
    plaster,
    sky,
    slabs,
)

SPLITS = ("train", "val", "test")
SMALLEST = 32  # pixels; below it cars and people vanish
SUPERSAMPLING = 2  # drawn twice as large, then averaged: soft edges, and pixels known to be mixed


def draw_scene(seed: int, split: str, index: int, height: int, width: int) -> tuple[Image, Image]:
    """Draw one scene; its content does not depend on the size it is drawn at.

    Args:
        seed: Which world, 0 or more.
        split: "train", "val" or "test"; each is a stream of its own.
        index: Which scene of the split, 0 or more.
        height: Rows in pixels.
        width: Columns in pixels.

    Returns:
        Image (height, width, 3) in RGB and labels (height, width): train ids, and 255 where a pixel
        holds more than one thing or one without a class.

    Raises:
        ValueError: If a size is below 32, seed or index is negative, or the split is unknown.
    """
    _check(seed, split, index, height, width)
    rng = np.random.default_rng([seed, zlib.crc32(split.encode()), index])
    street = plan_street(rng)
    canvas = _open_canvas(rng, street, SUPERSAMPLING * height, SUPERSAMPLING * width)
    _paint_ground(canvas, rng, street)
    _paint_horizon(canvas, rng, street)
    paint_houses(canvas, rng, street)
    paint_things(canvas, rng, street)
    _paint_hood(canvas, rng)
    return _develop(canvas.image, rng, height, width), _pure(canvas.labels, height, width)


def _check(seed: int, split: str, index: int, height: int, width: int) -> None:
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}: choose one of {', '.join(SPLITS)}")
    least = {"seed": 0, "index": 0, "height": SMALLEST, "width": SMALLEST}
    arguments = {"seed": seed, "index": index, "height": height, "width": width}
    for name, value in arguments.items():
        if value < least[name]:
            raise ValueError(
                f"{name} is {value}, scenes need at least {least[name]}: choose a larger {name}"
            )


def _open_canvas(rng: np.random.Generator, street: Street, height: int, width: int) -> Canvas:
    """Choose the camera and the air, and paint the sky."""
    lane = 1 if rng.random() < 0.75 else -1
    camera = Camera(
        height=rng.uniform(1.4, 2.8),
        offset=lane * street.road * rng.uniform(0.1, 0.9),
        yaw=rng.normal(0, 0.16),
        focal=width * rng.uniform(0.65, 1.05),
        center=width / 2,
        horizon=height * rng.uniform(0.34, 0.54),
    )
    haze, zenith = _air(rng, dusk=street.lit > 0.05)
    canvas = Canvas(height, width, camera, haze, visibility=10 ** rng.uniform(1.8, 2.7))
    canvas.image[:] = sky(rng, camera, (height, width), haze, zenith)
    canvas.labels[:] = SKY
    return canvas


def _air(rng: np.random.Generator, dusk: bool) -> tuple[Color, Color]:
    """Draw the colors of horizon and zenith: dusk, or a day between blue and overcast."""
    if dusk:
        haze = hue_color(rng.uniform(-0.08, 0.1), rng.uniform(0.1, 0.5), rng.uniform(0.55, 0.9))
        return haze, hue_color(rng.uniform(0.58, 0.7), rng.uniform(0.2, 0.5), rng.uniform(0.3, 0.6))
    haze = hue_color(0.57, rng.uniform(0, 0.15), rng.uniform(0.7, 0.95))
    blue = hue_color(0.58, rng.uniform(0.3, 0.65), rng.uniform(0.65, 0.95))
    overcast = min(1.0, 1.5 * rng.random())
    return haze, blue + (haze * rng.uniform(0.75, 1.0) - blue) * overcast


def _paint_ground(canvas: Canvas, rng: np.random.Generator, street: Street) -> None:
    """Paint road, sidewalk and green, for each pixel below the horizon."""
    height, width = canvas.labels.shape
    x, z = canvas.camera.ground(height, width)  # (R, W)
    beside = np.abs(x) - street.road
    crossing = np.abs(z - (-FAR_AWAY if street.junction is None else street.junction)) < JUNCTION
    road = (beside < 0) | crossing
    left, right = (verge.green for verge in street.verges)
    reach = street.walk + np.where(x < 0, np.float32(left), np.float32(right))
    green = ~road & (beside >= street.walk) & (beside < reach)

    labels = np.full(x.shape, SIDEWALK, np.uint8)
    labels[green] = FIELD if street.rural else GRASS
    labels[road] = ROAD
    tile = noise_tile(rng)
    colors = _pavement(rng, tile, x, z, road)
    colors = np.where(green[..., None], meadow(rng, tile, x, z), colors)  # (R, W, 3)
    kerb = (np.abs(beside) < 0.12) & ~crossing
    colors[kerb] *= 1.12
    colors[_lines(rng, street, x, z) & road & ~crossing] = rng.uniform(170, 230)
    haze = canvas.haze.astype(np.float32)
    clear = np.exp(np.abs(z) / np.float32(-canvas.visibility))[..., None]
    colors = haze + (colors - haze) * clear
    canvas.image[-len(x) :] = np.clip(colors, 0, 255).astype(np.uint8)
    canvas.labels[-len(x) :] = labels


FAR_AWAY = 1e4  # metres


def _pavement(
    rng: np.random.Generator, tile: Plane, x: Plane, z: Plane, road: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return the colors of asphalt on the road and slabs beside it, (R, W, 3)."""
    dark, light = (color(rng).astype(np.float32) for color in (asphalt, slabs))
    shade = 1 + grain(tile, x, z, 0.12) * np.float32(rng.uniform(0.02, 0.06))
    shade += grain(tile, z, x, 0.8) * np.float32(0.05)
    side = rng.uniform(0.5, 2.0)
    joint = (phase(x, side) < 0.06 / side) | (phase(z, side) < 0.06 / side)
    shade -= np.float32(0.15) * (joint & ~road & (z < 25))
    return np.asarray(np.where(road[..., None], dark, light) * shade[..., None])


def _lines(rng: np.random.Generator, street: Street, x: Plane, z: Plane) -> NDArray[np.bool_]:
    """Draw a line along the axis, perhaps lines at the edges, perhaps a zebra crossing: (R, W)."""
    start, dash = np.float32(rng.uniform(0, 8)), rng.choice([0.4, 1.0])
    lines = (np.abs(x) < 0.09) & (phase(z + start, 8) < dash)
    if rng.random() < 0.5:
        lines |= np.abs(np.abs(x) - street.road + 0.35) < 0.07
    if rng.random() < 0.3 and not street.rural:
        lines |= (np.abs(z - rng.uniform(5, 20)) < 1.5) & (phase(x, 1) < 0.5)
    return np.asarray(lines)


def _paint_horizon(canvas: Canvas, rng: np.random.Generator, street: Street) -> None:
    """Draw a far line of trees, and in town a skyline behind it."""
    if not street.rural:
        towers = rng.uniform(2, 16, rng.integers(6, 20))
        _silhouette(canvas, rng, np.repeat(towers, 8) / 120, plaster(rng), BUILDING)
    hills = np.abs(cv2.GaussianBlur(rng.standard_normal((1, 64)), (0, 0), 2)[0]) * 18
    crowns = cv2.GaussianBlur(rng.standard_normal((1, 64)), (0, 0), 0.8)[0] + 1.5
    heights = (hills + crowns) * rng.uniform(0.5, 1.2) / 100
    _silhouette(canvas, rng, heights, foliage(rng), VEGETATION)


def _silhouette(
    canvas: Canvas,
    rng: np.random.Generator,
    heights: NDArray[np.float64],
    color: Color,
    label: int,
) -> None:
    """Fill from the horizon to a line; ``heights`` are tangents, spread over the width."""
    rows, columns = canvas.labels.shape
    spread = np.linspace(0, len(heights) - 1, columns)
    line = (
        canvas.camera.horizon
        - np.interp(spread, np.arange(len(heights)), heights) * canvas.camera.focal
    )
    row = np.arange(rows)[:, None]
    inside = (row >= line) & (row <= canvas.camera.horizon + 1)
    canvas.image[inside] = canvas.seen(color, rng.uniform(30, 120)).astype(np.uint8)
    canvas.labels[inside] = label


def _paint_hood(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint, in three of ten scenes, the front of the camera's own car, which has no class."""
    if rng.random() > 0.3:
        return
    height, width = canvas.labels.shape
    middle = (int(width * rng.uniform(0.4, 0.6)), int(height * 1.02))
    axes = (int(width * rng.uniform(0.4, 0.6)), int(height * rng.uniform(0.05, 0.13)))
    color = hue_color(rng.random(), rng.uniform(0, 0.4), rng.uniform(0.1, 0.6))
    cv2.ellipse(canvas.image, middle, axes, 0, 0, 360, color.tolist(), -1)
    cv2.ellipse(canvas.labels, middle, axes, 0, 0, 360, IGNORE, -1)


def _develop(drawn: Image, rng: np.random.Generator, height: int, width: int) -> Image:
    """Average to the final size; then exposure, color temperature, gamma and sensor noise."""
    image = cv2.resize(drawn, (width, height), interpolation=cv2.INTER_AREA)
    warmth, exposure = rng.normal(0, 0.06), 2 ** rng.uniform(-0.6, 0.3)
    gamma, grains = rng.uniform(0.85, 1.2), np.float32(rng.uniform(1, 5))
    levels = np.arange(256)[:, None] * exposure * np.array([1 + warmth, 1, 1 - warmth]) / 255
    curve = (255 * np.clip(levels, 0, 1) ** gamma).astype(np.float32)  # (256, 3)
    exposed = np.stack([curve[image[..., channel], channel] for channel in range(3)], axis=-1)
    noise = rng.standard_normal((height, width, 3), np.float32) * grains
    return np.asarray(np.clip(exposed + noise, 0, 255), np.uint8)


def _pure(labels: Image, height: int, width: int) -> Image:
    """Return labels at the final size, 255 within half a pixel of the border between two things."""
    across = np.ones((3, 3), np.uint8)  # the finer pixel and its neighbors
    border = cv2.dilate(labels, across) != cv2.erode(labels, across)
    finer = np.where(border, np.uint8(IGNORE), labels)
    blocks = finer.reshape(height, SUPERSAMPLING, width, SUPERSAMPLING)
    return np.asarray(blocks.max(axis=(1, 3)))  # IGNORE is the largest; the rest are equal
