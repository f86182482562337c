"""Flat cut-outs that face the camera: trees, people, signs and unlabelled street furniture."""

from math import cos, pi, sin

import cv2
import numpy as np

from danet_lightning.data.drawing.canvas import (
    IGNORE,
    PERSON,
    SIGN,
    VEGETATION,
    Canvas,
    Color,
    Ground,
    Image,
    Pixel,
)
from danet_lightning.data.drawing.surfaces import foliage, hue_color, paint

CLOSEST = 2.5  # metres; nearer figures would be cut by the frame to a patch of coat
TRIANGLE, DISC, BOARD, TRAFFIC_LIGHT = range(4)
WHITE = np.array([235.0, 235.0, 230.0])


def cutout(
    canvas: Canvas, place: Ground, outline: list[tuple[float, float]], color: Color, label: int
) -> None:
    """Draw a convex outline, in metres sideways and up from a place, seen through the air."""
    side, forward = canvas.camera.view(*place)
    if forward >= CLOSEST:
        pixels = [canvas.camera.pixel(side + x, y, forward) for x, y in outline]
        canvas.fill(pixels, canvas.seen(color, forward), label)


def _ellipse(x: float, y: float, wide: float, tall: float) -> list[tuple[float, float]]:
    turns = (2 * pi * corner / 10 for corner in range(10))
    return [(x + wide * cos(turn), y + tall * sin(turn)) for turn in turns]


def _upright(half: float, low: float, high: float) -> list[tuple[float, float]]:
    return [(-half, low), (half, low), (half, high), (-half, high)]


def person(canvas: Canvas, rng: np.random.Generator, place: Ground) -> None:
    """Draw legs, arms, coat and head."""
    tall, wide, stride = rng.uniform(1.4, 1.95), rng.uniform(0.26, 0.38), rng.uniform(0.05, 0.25)
    coat, trousers = paint(rng), paint(rng) * 0.7
    skin = hue_color(0.07, rng.uniform(0.3, 0.55), rng.uniform(0.35, 0.9))
    hair = hue_color(0.08, rng.uniform(0, 0.6), rng.uniform(0.1, 0.6))
    parts = [
        ([(end - 0.11, 0), (end + 0.11, 0), (0.2, 0.5), (-0.2, 0.5)], trousers)
        for end in (-stride, stride)
    ]
    parts += [
        ([(end * wide, 0.8), (end * wide * 1.25, 0.45), (end * wide * 0.8, 0.43)], coat * 0.85)
        for end in (-1, 1)
    ]
    half = [(wide * 0.85, 0.38), (wide, 0.8), (0.08, 0.86)]
    parts.append((half + [(-x, y) for x, y in reversed(half)], coat))
    parts.append((_ellipse(0, 0.93, 0.12, 0.075), hair))
    parts.append((_ellipse(0, 0.91, 0.095, 0.055), skin))
    for outline, color in parts:
        cutout(canvas, place, [(x, y * tall) for x, y in outline], color, PERSON)


def sign(canvas: Canvas, rng: np.random.Generator, place: Ground) -> None:
    """Draw a warning triangle, a disc, a direction board or a traffic light; its post has no
    class.
    """
    kind = int(rng.integers(4))
    size, middle = rng.uniform(0.6, 0.95), rng.uniform(2.0, 3.2)
    post = np.full(3, rng.uniform(60, 150))
    # mostly the blues, greens, reds and yellows of traffic signs, sometimes any paint
    hue = rng.choice([0.0, 0.13, 0.4, 0.6])
    plate = hue_color(hue, rng.uniform(0.6, 0.9), rng.uniform(0.5, 0.9))
    if rng.random() < 0.3:
        plate = paint(rng)
    if kind == TRIANGLE:
        ring = [(1.1 * x, 1.1 * y) for x, y in ((0, 1), (-0.87, -0.5), (0.87, -0.5))]
        rim, plate = np.array([200.0, 30.0, 35.0]), WHITE
    elif kind == DISC:
        ring, rim = _ellipse(0, 0, 1.1, 1.1), WHITE
    elif kind == BOARD:
        ring, rim = [(-1.4, -0.9), (1.4, -0.9), (1.4, 0.9), (-1.4, 0.9)], WHITE
    else:
        ring, rim = [(-0.5, -1.2), (0.5, -1.2), (0.5, 1.2), (-0.5, 1.2)], np.full(3, 60.0)
        plate = np.full(3, 30.0)
    cutout(canvas, place, _upright(0.06, 0, middle), post, IGNORE)
    for part, color in ((size, rim), (0.78 * size, plate)):
        outline = [(part * x, middle + part * y) for x, y in ring]
        cutout(canvas, place, outline, color, SIGN)
    lamp = int(rng.integers(3))
    if kind == TRAFFIC_LIGHT:
        glow = np.array([[40.0, 220, 120], [250.0, 190, 40], [240.0, 40, 30]])[lamp]
        y = middle + (lamp - 1) * 0.55 * size
        cutout(canvas, place, _ellipse(0, y, 0.28 * size, 0.28 * size), glow, SIGN)


def furniture(canvas: Canvas, rng: np.random.Generator, place: Ground) -> None:
    """Draw a lamp post, a bollard or a bin: things that have no class."""
    half, tall = [(0.08, rng.uniform(4, 7)), (0.1, 0.9), (0.3, 1.1)][rng.integers(3)]
    cutout(canvas, place, _upright(half, 0, tall), paint(rng) * 0.6, IGNORE)


def tree(
    canvas: Canvas, rng: np.random.Generator, place: Ground, start: float, tall: float, wide: float
) -> None:
    """Draw a trunk, and a crown ``tall`` and ``wide`` that begins ``start`` metres up; 0 is a
    bush.
    """
    side, forward = canvas.camera.view(*place)
    bark = hue_color(0.08, rng.uniform(0.2, 0.5), rng.uniform(0.2, 0.4))
    trunk = _upright(0.09 * wide**0.5, 0, start + tall / 2)
    if forward < CLOSEST:
        return
    if start:
        cutout(canvas, place, trunk, bark, VEGETATION)
    scale = canvas.camera.focal / forward
    center = canvas.camera.pixel(side, start + tall / 2, forward)
    _crown(canvas, rng, center, (wide * scale, tall * scale), forward)


def _crown(
    canvas: Canvas, rng: np.random.Generator, center: Pixel, size: Pixel, distance: float
) -> None:
    """Draw leaves around a pixel, ``size`` wide and high in pixels, lighter above than below."""
    (x, y), (wide, tall) = center, size
    left, right = int(x - 0.6 * wide), int(x + 0.6 * wide) + 1
    top, bottom = int(y - 0.6 * tall), int(y + 0.6 * tall) + 1
    color = foliage(rng)
    mottle = rng.standard_normal((24, 24)).astype(np.float32)
    outline = _outline(rng, (right - left, bottom - top), size)
    rows, columns = canvas.labels.shape
    window = (
        slice(max(0, -top), max(0, min(bottom, rows) - top)),
        slice(max(0, -left), max(0, min(right, columns) - left)),
    )
    inside = outline[window]
    if not inside.size:
        return
    speckle = cv2.resize(mottle, (right - left, bottom - top))[window]
    falling = np.linspace(1.2, 0.7, bottom - top, dtype=np.float32)[window[0]]
    shade = (falling[:, None] * (1 + 0.16 * speckle))[..., None]
    clear = canvas.clarity(distance)
    leaves = np.clip(shade * color * clear + canvas.haze * (1 - clear), 0, 255).astype(np.uint8)
    canvas.stamp(leaves, inside, (max(left, 0), max(top, 0)), VEGETATION)


def _outline(rng: np.random.Generator, frame: tuple[int, int], size: Pixel) -> Image:
    """Find where there are leaves in a frame of columns, rows: an ellipse with a dozen bulges."""
    inside = np.zeros(frame[::-1], np.uint8)
    x, y = frame[0] / 2, frame[1] / 2
    axes = (max(1, round(size[0] * 0.36)), max(1, round(size[1] * 0.36)))
    cv2.ellipse(inside, (round(x), round(y)), axes, 0, 0, 360, 1, -1)
    bulges = rng.uniform((0, 0.1, 0.14), (2 * pi, 0.36, 0.26), (12, 3))
    for turn, reach, radius in bulges.tolist():
        middle = (round(x + size[0] * reach * cos(turn)), round(y + size[1] * reach * sin(turn)))
        cv2.circle(inside, middle, max(1, round(radius * min(size))), 1, -1)
    return inside
