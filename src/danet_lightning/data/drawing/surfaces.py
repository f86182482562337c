"""Colors and textures of the drawn scenes.

Two of them are shared on purpose: `meadow` covers fields as well as lawns, `facade` houses as well
as the sides of buses and lorries. What they belong to, the rest of the scene decides.
R, W: rows below the horizon and columns of the canvas.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from danet_lightning.data.drawing.canvas import Camera, Color, Image

Plane = NDArray[np.float32]
TILE = 128  # side of the noise tile in texels


def noise_tile(rng: np.random.Generator) -> Plane:
    """Draw smooth noise that repeats without a seam, (TILE, TILE), standard deviation 1."""
    white = rng.standard_normal((TILE, TILE)).astype(np.float32)
    smooth = cv2.GaussianBlur(np.pad(white, 4, mode="wrap"), (0, 0), 1.2)[4:-4, 4:-4]
    return np.asarray(smooth / smooth.std(), np.float32)


def grain(tile: Plane, x: Plane, z: Plane, pitch: float) -> Plane:
    """Spread noise over ground (R, W), a texel every ``pitch`` metres; fade where it is fine."""
    texels = np.float32(1 / pitch)
    sample = cv2.remap(tile, x * texels, z * texels, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return np.asarray(sample / (1 + np.abs(z) * np.float32(0.02 / pitch)), np.float32)


def phase(values: Plane, period: float) -> Plane:
    """Tell how far each value is into its period, 0..1."""
    turns = values * np.float32(1 / period)  # np.mod would take five times as long
    return np.asarray(turns - np.floor(turns), np.float32)


def hue_color(hue: float, saturation: float, value: float) -> Color:
    """Return red, green, blue in 0..255 from hue, saturation and value in 0..1."""
    steps = np.abs(np.mod(hue * 6 + np.array([0.0, 4.0, 2.0]), 6) - 3) - 1
    return np.asarray(255 * value * (1 - saturation + saturation * np.clip(steps, 0, 1)))


def paint(rng: np.random.Generator) -> Color:
    """Draw any color that cars, clothes and signs come in; four in ten are grey."""
    if rng.random() < 0.4:
        return rng.uniform(25, 240) + rng.uniform(-6, 6, 3)
    return hue_color(rng.random(), rng.uniform(0.3, 0.85), rng.uniform(0.3, 0.95))


def plaster(rng: np.random.Generator) -> Color:
    """Draw the color of a wall or a panel: mostly muted, sometimes as loud as paint."""
    if rng.random() < 0.3:
        return paint(rng)
    return hue_color(rng.uniform(-0.05, 0.65), rng.uniform(0.03, 0.45), rng.uniform(0.35, 0.9))


def asphalt(rng: np.random.Generator) -> Color:
    """Draw the color of the road: greys that overlap with those of the slabs beside it."""
    return rng.uniform(60, 130) + rng.uniform(-1, 0.5) * np.array([8.0, 1.0, -8.0])


def slabs(rng: np.random.Generator) -> Color:
    """Draw the color of paving or gravel, a little lighter and warmer than asphalt on average."""
    return rng.uniform(90, 180) + rng.uniform(-0.5, 1.5) * np.array([12.0, 2.0, -12.0])


def foliage(rng: np.random.Generator) -> Color:
    """Draw the color of trees and bushes: on average darker and bluer than grown ground."""
    return hue_color(rng.uniform(0.17, 0.36), rng.uniform(0.35, 0.65), rng.uniform(0.2, 0.48))


def blades(rng: np.random.Generator) -> Color:
    """Draw the color of grass and crops, from straw to green."""
    return hue_color(rng.uniform(0.12, 0.3), rng.uniform(0.3, 0.65), rng.uniform(0.38, 0.72))


def meadow(rng: np.random.Generator, tile: Plane, x: Plane, z: Plane) -> NDArray[np.float32]:
    """Color grown ground at world coordinates (R, W): (R, W, 3), half of the time in rows."""
    first, second = blades(rng), blades(rng)
    pattern = 0.6 * grain(tile, x, z, 0.6) + 0.5 * grain(tile, z, x, 0.09)
    if rng.random() < 0.5:  # furrows, or the tracks of a mower
        along = x if rng.random() < 0.7 else z
        pitch = rng.uniform(0.5, 1.6)
        rows = np.sin(along * np.float32(2 * np.pi / pitch))
        pattern += rows / (1 + np.abs(z) * np.float32(0.06 / pitch))
    # the colors along the pattern, computed at 64 steps of it and looked up
    steps = np.linspace(-3, 3, 64)[:, None]
    blend = np.clip(0.5 + 0.3 * steps, 0, 1)
    colors = (first + (second - first) * 0.5 * blend) * (1 + 0.12 * steps)
    level = np.clip((pattern + 3) * np.float32(63 / 6), 0, 63).astype(np.uint8)
    return colors.astype(np.float32)[level]  # (64, 3)[(R, W)] -> (R, W, 3)


def facade(rng: np.random.Generator, rows: int, columns: int, cell: int, lit: float) -> Image:
    """Draw panels with windows: (rows * cell, columns * cell, 3).

    Args:
        rng: Draws the colors and the shape of the windows.
        rows: Storeys, or rows of windows.
        columns: Windows in a row.
        cell: Pixels from one window to the next.
        lit: The part of the windows that is lit from inside.
    """
    grid = (rows, 1, columns, 1, 1)  # storey, pixel row, window, pixel column, channel
    glass = np.array([0.8, 0.95, 1.0]) * rng.uniform(25, 150) * rng.uniform(0.75, 1.25, grid)
    panes = np.where(rng.random(grid) < lit, np.array([250.0, 215.0, 140.0]), glass)
    walls = plaster(rng) * rng.uniform(0.97, 1.03, grid)
    tall, wide = rng.uniform(0.4, 0.75), rng.choice([0.45, 0.6, 0.75, 0.9])
    if rng.random() < 0.15:
        tall = 0.0  # a blind wall
    position = (np.arange(cell) + 0.5) / cell
    upright = np.abs(position - 0.45) < tall / 2
    across = np.abs(position - 0.5) < wide / 2
    pane = upright[:, None] & across[None]  # (cell, cell)
    ledge = 1 - 0.12 * (position > 1 - 1.5 / cell) * rng.integers(0, 2)
    walls = walls * ledge[None, :, None, None, None]
    texture = np.where(pane[None, :, None, :, None], panes, walls)
    pixels = texture.reshape(rows * cell, columns * cell, 3)
    return np.asarray(np.clip(pixels, 0, 255), np.uint8)


def sky(
    rng: np.random.Generator, camera: Camera, size: tuple[int, int], haze: Color, zenith: Color
) -> Image:
    """Draw a sky of ``size`` (height, width), from haze to the zenith, with or without clouds."""
    height, width = size
    small = (width // 4, height // 4)  # nothing in a sky is finer
    rows = np.arange(small[1])[:, None, None] * (height / small[1])
    climb = np.clip((camera.horizon - rows) / (0.9 * height), 0, 1) ** 0.7
    cover = rng.uniform(-1.2, 1.0)
    white = haze * 0.4 + 0.6 * rng.uniform(150, 250)
    waves = [rng.standard_normal((side, side)) * 5 / side for side in (5, 11)]
    shape = sum(cv2.resize(wave, small, interpolation=cv2.INTER_CUBIC) for wave in waves)
    cloud = np.clip(shape + cover, 0, 1)[..., None] * np.minimum(1, climb * 4)
    clear = haze + (zenith - haze) * climb
    colors = np.clip(clear + (white - clear) * 0.8 * cloud, 0, 255).astype(np.uint8)
    return np.asarray(cv2.resize(colors, (width, height)), np.uint8)
