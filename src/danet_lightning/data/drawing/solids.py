"""Boxes of the street, drawn in perspective: houses, cars, and buses and lorries."""

from dataclasses import dataclass
from math import cos, hypot, pi, sin
from typing import NamedTuple

import numpy as np

from danet_lightning.data.drawing.canvas import (
    BUILDING,
    CAR,
    LARGE_VEHICLE,
    Camera,
    Canvas,
    Color,
    Ground,
    Image,
    Point,
)
from danet_lightning.data.drawing.surfaces import facade, paint

RUBBER = np.full(3, 28.0)


class Face(NamedTuple):
    """An upright side of a box: its ends on the ground, whether it is a long side, its light."""

    start: Ground
    end: Ground
    long: bool
    light: float

    def at(self, part: float, y: float) -> Point:
        """Return the world point at a part of the length, ``y`` metres up."""
        (x, z), (end_x, end_z) = self.start, self.end
        return x + (end_x - x) * part, y, z + (end_z - z) * part

    def patch(self, parts: tuple[float, float], span: tuple[float, float]) -> list[Point]:
        """Return the corners of the rectangle between two parts of the length and two heights."""
        return [
            self.at(parts[0], span[0]),
            self.at(parts[1], span[0]),
            self.at(parts[1], span[1]),
            self.at(parts[0], span[1]),
        ]


@dataclass(frozen=True)
class Box:
    """An upright box: center x, z; length along the unit vector ``ahead``, width across; metres."""

    x: float
    z: float
    length: float
    width: float
    ahead: Ground = (0.0, 1.0)

    def at(self, along: float, across: float) -> Ground:
        """Return the ground point at parts of the half length and the half width, from -1 to 1."""
        forward, side = along * self.length / 2, across * self.width / 2
        x = self.x + forward * self.ahead[0] + side * self.ahead[1]
        return x, self.z + forward * self.ahead[1] - side * self.ahead[0]

    def faces(self, camera: Camera, sun: float) -> list[Face]:
        """Return the sides turned to the camera; those along the road are lit by the sun."""
        eye_x, eye_z = camera.offset - self.x, -self.z
        forward = eye_x * self.ahead[0] + eye_z * self.ahead[1]
        side = eye_x * self.ahead[1] - eye_z * self.ahead[0]
        along_road = abs(self.ahead[1]) > 0.5
        sides = []
        if abs(forward) > self.length / 2:
            end = 1 if forward > 0 else -1
            light = 1.0 if along_road else sun
            sides.append(Face(self.at(end, end), self.at(end, -end), False, light))
        if abs(side) > self.width / 2:
            end = 1 if side > 0 else -1
            light = sun if along_road else 1.0
            sides.append(Face(self.at(-end, end), self.at(end, end), True, light))
        return sides


def house(
    canvas: Canvas, rng: np.random.Generator, box: Box, height: float, lit: float, sun: float
) -> None:
    """Draw a building with windows on the sides turned to the camera."""
    storeys = max(1, round(height / rng.uniform(2.6, 3.6)))
    bays = max(1, round(box.length / rng.uniform(1.8, 3.5)))
    distance = hypot(box.x - canvas.camera.offset, box.z) - box.length / 2
    texture = facade(rng, storeys, bays, _cell(canvas, distance, height / storeys), lit)
    _cover(canvas, box, texture, bays, (0.0, height), sun, BUILDING)


def large_vehicle(
    canvas: Canvas, rng: np.random.Generator, box: Box, lit: float, sun: float
) -> None:
    """Draw a bus, a double-decker or a lorry: a house front on wheels."""
    decks = 1 if rng.random() < 0.6 else 2
    top = 3.1 if decks == 1 else rng.uniform(3.9, 4.4)
    bays = max(2, round(box.length / rng.uniform(1.1, 2.5)))
    distance = hypot(box.x - canvas.camera.offset, box.z) - box.length / 2
    texture = facade(rng, decks, bays, _cell(canvas, distance, (top - 0.5) / decks), lit)
    _shadow(canvas, box)
    for face in box.faces(canvas.camera, sun):
        canvas.polygon(face.patch((0, 1), (0.3, 0.6)), RUBBER * 1.5, LARGE_VEHICLE)
    _cover(canvas, box, texture, bays, (0.5, top), sun, LARGE_VEHICLE)
    _wheels(canvas, box, 0.5, (0.15, 0.77, 0.86), LARGE_VEHICLE)
    _lamps(canvas, box, 0.8, 0.25)


def _cell(canvas: Canvas, distance: float, storey: float) -> int:
    """Return the pixels of a texture's window: about as many as a storey covers on the canvas."""
    return int(np.clip(canvas.camera.focal * storey / max(2.0, distance), 4, 20))


def _cover(
    canvas: Canvas,
    box: Box,
    texture: Image,
    bays: int,
    span: tuple[float, float],
    sun: float,
    label: int,
) -> None:
    """Put a texture made for the long side on all sides, with fewer windows on the short ones."""
    short = texture.shape[1] // bays * max(1, round(bays * box.width / box.length))
    for face in box.faces(canvas.camera, sun):
        part = texture if face.long else texture[:, :short]
        lighted = np.clip(part * face.light, 0, 255).astype(np.uint8)
        canvas.wall(face.start, face.end, span, lighted, label)


def car(canvas: Canvas, rng: np.random.Generator, box: Box, sun: float) -> None:
    """Draw a body with a cabin, wheels and lamps."""
    body, glass = paint(rng), np.array([0.85, 0.95, 1.0]) * rng.uniform(25, 110)
    waist, top = rng.uniform(0.8, 1.0), rng.uniform(1.4, 1.8)
    front, back = rng.uniform(0.2, 0.45), rng.uniform(-1.0, -0.7)
    _shadow(canvas, box)
    bonnet = [box.at(*corner) for corner in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    canvas.polygon([(x, waist, z) for x, z in bonnet], body * 1.1, CAR)
    for face in box.faces(canvas.camera, sun):
        canvas.polygon(face.patch((0, 1), (0.25, waist)), body * face.light, CAR)
        canvas.polygon(face.patch((0, 1), (0.25, 0.38)), body * 0.35)
    _wheels(canvas, box, 0.32, (0.19, 0.81), CAR)
    _lamps(canvas, box, waist - 0.22, 0.2)
    corners = ((front, -1), (front, 1), (back, 1), (back, -1))
    below = [box.at(s + (0.25 if s == front else 0), 0.92 * a) for s, a in corners]
    above = [box.at(0.8 * s, 0.75 * a) for s, a in corners]
    _cabin(
        canvas,
        [(x, waist, z) for x, z in below],
        [(x, top, z) for x, z in above],
        body * 0.95,
        glass,
    )


def _cabin(
    canvas: Canvas, below: list[Point], above: list[Point], body: Color, glass: Color
) -> None:
    """Paint four leaning panes in their frames, far ones first, and the roof."""
    panes = []
    for i in range(4):
        quad = np.array([below[i], below[(i + 1) % 4], above[(i + 1) % 4], above[i]])
        middle = quad.mean(0)
        panes.append((hypot(middle[0] - canvas.camera.offset, middle[2]), quad, middle))
    for _, quad, middle in sorted(panes, key=lambda pane: -pane[0]):
        canvas.polygon(quad.tolist(), body, CAR)
        canvas.polygon((middle + 0.84 * (quad - middle)).tolist(), glass)
    if canvas.camera.height > above[0][1]:
        canvas.polygon(above, body * 1.15, CAR)


def _shadow(canvas: Canvas, box: Box) -> None:
    """Darken the ground below a box; the label is still the ground's."""
    corners = [box.at(*corner) for corner in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    canvas.polygon([(x, 0.0, z) for x, z in corners], np.full(3, 30.0))


def _wheels(canvas: Canvas, box: Box, radius: float, places: tuple[float, ...], label: int) -> None:
    """Paint dark discs on the long side, at parts of its length."""
    turns = np.linspace(0, 2 * pi, 10, endpoint=False)
    for face in box.faces(canvas.camera, 1.0):
        for place in places if face.long else ():
            across = radius / box.length
            rim = [face.at(place + across * cos(a), radius * (1 + sin(a))) for a in turns]
            canvas.polygon(rim, RUBBER, label)


def _lamps(canvas: Canvas, box: Box, y: float, size: float) -> None:
    """Paint two lamps on the end turned to the camera: white on what comes, red on what goes."""
    coming = box.ahead[1] < -0.5
    color = np.array([240.0, 235, 215]) if coming else np.array([190.0, 25, 25])
    for face in box.faces(canvas.camera, 1.0):
        for part in () if face.long else (0.05, 0.77):
            canvas.polygon(face.patch((part, part + 0.18), (y - size / 2, y + size / 2)), color)
