"""What stands where: the plan of a street and everything that is placed along it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import hypot

import numpy as np

from danet_lightning.data.drawing.canvas import Camera, Canvas, Ground
from danet_lightning.data.drawing.figures import furniture, person, sign, tree
from danet_lightning.data.drawing.solids import Box, car, house, large_vehicle

Painter = Callable[[Canvas, np.random.Generator], None]
Thing = tuple[Ground, Painter]  # where it stands, for the order of painting, and how it is painted

OPEN = 1e4  # metres of green beside a street without houses: up to the horizon
JUNCTION = 4.0  # metres from the axis of a crossing road to its edge


@dataclass(frozen=True)
class Verge:
    """One side of the street: the sign of its X, whether houses line it, metres of green."""

    side: int
    built: bool
    green: float


@dataclass(frozen=True)
class Street:
    """Town or country, metres of half the road and of the sidewalk, and the light.

    ``junction`` is the Z of a crossing road, or None; ``sun`` multiplies the colors of all that
    faces the road; ``lit`` is the part of the windows with light in them.
    """

    rural: bool
    road: float
    walk: float
    verges: tuple[Verge, Verge]
    junction: float | None
    sun: float
    lit: float

    def is_clear(self, start: float, end: float) -> bool:
        """Tell whether the stretch of Z keeps out of the junction."""
        if self.junction is None:
            return True
        return end < self.junction - JUNCTION or start > self.junction + JUNCTION


def plan_street(rng: np.random.Generator) -> Street:
    """Draw the plan: a third of the streets is rural; in town, at least one side is built."""
    rural = bool(rng.random() < 0.35)
    park = int(rng.choice([-1, 0, 1]))  # the side without houses in town; 0: both have them
    verges = []
    for side in (-1, 1):
        built = not rural and side != park
        garden = rng.uniform(4, 10) if rng.random() < 0.8 else 0.0
        verges.append(Verge(side, built, garden if built else OPEN))
    return Street(
        rural=rural,
        road=rng.uniform(3.0, 6.5),
        walk=rng.uniform(2.2, 4.5) if not rural or rng.random() < 0.4 else 0.0,
        verges=(verges[0], verges[1]),
        junction=rng.uniform(10, 30) if rng.random() < 0.4 else None,
        sun=rng.uniform(0.7, 1.25),
        lit=rng.uniform(0.1, 0.5) if rng.random() < 0.2 else rng.choice([0.0, 0.05]),
    )


def paint_houses(canvas: Canvas, rng: np.random.Generator, street: Street) -> None:
    """Line the built sides with houses, from far to near."""
    houses = []
    for verge in street.verges:
        z, tall = rng.uniform(-12, 0), rng.uniform(4, 14)
        front = street.road + street.walk + (verge.green or rng.uniform(0, 2))
        while verge.built and z < 90:
            length, depth = rng.uniform(7, 20), rng.uniform(8, 14)
            if street.is_clear(z, z + length):
                box = Box(verge.side * (front + depth / 2), z + length / 2, length, depth)
                houses.append((box, max(3.0, tall * rng.uniform(0.6, 1.4)), verge.side))
            z += length + (rng.uniform(1, 8) if rng.random() < 0.35 else 0.0)
    for box, height, side in sorted(houses, key=lambda entry: -entry[0].z):
        sun = street.sun if side > 0 else 2 - street.sun
        house(canvas, rng, box, height, street.lit, sun)


def paint_things(canvas: Canvas, rng: np.random.Generator, street: Street) -> None:
    """Paint trees, signs, people and vehicles; the far ones first."""
    things = _traffic(rng, street, canvas.camera) + _crossing(rng, street)
    for verge in street.verges:
        things += _plants(rng, street, verge) + _passers_by(rng, street, verge)
    camera = canvas.camera
    for _, painter in sorted(things, key=lambda t: -hypot(t[0][0] - camera.offset, t[0][1])):
        painter(canvas, rng)


def _plants(rng: np.random.Generator, street: Street, verge: Verge) -> list[Thing]:
    things: list[Thing] = []
    for _ in range(rng.poisson(1.6 if verge.built else 3)):
        inward = min(verge.green, 14) * rng.random() ** 1.5 if verge.green else -0.6
        place = (verge.side * (street.road + street.walk + inward), 6 + 34 * rng.random() ** 1.5)
        start, tall, wide = rng.uniform(1.2, 2.2), rng.uniform(3, 6), rng.uniform(2.5, 5)
        if rng.random() < 0.35:  # a bush
            start, tall = 0.0, rng.uniform(1.2, 2.5)
        things.append((place, partial(tree, place=place, start=start, tall=tall, wide=wide)))
    return things


def _passers_by(rng: np.random.Generator, street: Street, verge: Verge) -> list[Thing]:
    """Place signs and furniture at the kerb, people on the sidewalk and some on the road."""
    kerb = street.road
    signs = [(kerb + 0.5, 6 + 9 * rng.random() ** 1.5) for _ in range(rng.poisson(0.9))]
    things = [(kerb + 0.4, rng.uniform(4, 30)) for _ in range(rng.poisson(0.35))]
    people = [
        (kerb + rng.uniform(0.2, max(0.8, street.walk)), 4 + 10 * rng.random() ** 2)
        for _ in range(rng.poisson(1.0 if street.rural else 1.8))
    ]
    people += [(x + 0.6, z + 0.1) for x, z in people if rng.random() < 0.5]  # in pairs
    people += [(rng.uniform(0, kerb), 4 + 10 * rng.random() ** 2) for _ in range(rng.poisson(0.2))]
    groups: list[tuple[Callable[..., None], list[Ground]]] = [
        (sign, signs),
        (furniture, things),
        (person, people),
    ]
    return [
        ((verge.side * x, z), partial(figure, place=(verge.side * x, z)))
        for figure, places in groups
        for x, z in places
    ]


def _traffic(rng: np.random.Generator, street: Street, camera: Camera) -> list[Thing]:
    """Place vehicles in both lanes, parked or under way; right-hand traffic."""
    things = []
    for side in (-1, 1):
        # nothing starts closer than 9 m ahead in the camera's own lane
        z = (9 if side * camera.offset > 0 else 5) + rng.exponential(7)
        while z < 36:
            large = rng.random() < 0.28
            length, width = _size(rng, large)
            kerb = street.road - width / 2 - 0.3
            x = side * (kerb if rng.random() < 0.6 else street.road / 2)
            if street.is_clear(z, z + length):
                box = Box(x, z + length / 2, length, width, (0.0, float(side)))
                things.append(_vehicle(street, box, large))
            z += length + 3 + rng.exponential(14)
    return things


def _crossing(rng: np.random.Generator, street: Street) -> list[Thing]:
    """Place perhaps one vehicle on the crossing road, seen from its side."""
    if street.junction is None or rng.random() < 0.3:
        return []
    large = rng.random() < 0.65
    z = street.junction + rng.uniform(-2, 2)
    box = Box(rng.uniform(-6, 6), z, *_size(rng, large), (float(rng.choice([-1, 1])), 0.0))
    return [_vehicle(street, box, large)]


def _size(rng: np.random.Generator, large: bool) -> tuple[float, float]:
    """Draw length and width in metres."""
    return (rng.uniform(7, 12), 2.5) if large else (rng.uniform(3.6, 4.8), rng.uniform(1.7, 1.95))


def _vehicle(street: Street, box: Box, large: bool) -> Thing:
    # a third of the length before the center: what stands beside the rear half is behind it
    place = (box.x, box.z - box.length / 3 * abs(box.ahead[1]))
    if large:
        return place, partial(large_vehicle, box=box, lit=street.lit, sun=street.sun)
    return place, partial(car, box=box, sun=street.sun)
