"""The classes, a pinhole camera over flat ground, and a canvas that keeps image and labels in step.

World coordinates in metres: X to the right of the road's axis, Y up from the ground, Z along the
road. H, W: rows and columns of the canvas; R: its rows below the horizon.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, exp, sin

import cv2
import numpy as np
from numpy.typing import NDArray

Color = NDArray[np.float64]  # (3,) red, green, blue in 0..255
Image = NDArray[np.uint8]
Point = tuple[float, float, float]  # world X, Y, Z
Ground = tuple[float, float]  # world X, Z
Pixel = tuple[float, float]  # column, row

CLASSES = (
    "road",
    "sidewalk",
    "building",
    "sign",
    "vegetation",
    "grass",
    "field",
    "sky",
    "person",
    "car",
    "large vehicle",
)
ROAD, SIDEWALK, BUILDING, SIGN, VEGETATION, GRASS, FIELD, SKY, PERSON, CAR, LARGE_VEHICLE = range(
    len(CLASSES)
)
IGNORE = 255
PALETTE = (
    (128, 64, 128),
    (244, 35, 232),
    (70, 70, 70),
    (220, 220, 0),
    (107, 142, 35),
    (152, 251, 152),
    (190, 153, 80),
    (70, 130, 180),
    (220, 20, 60),
    (0, 0, 142),
    (0, 150, 160),
)

NEAR = 0.8  # metres; what lies closer to the camera is cut off
FAR = 400.0  # metres; the ground is plain from there on
SUBPIXEL = 4  # fractional bits of the coordinates handed to OpenCV


@dataclass(frozen=True)
class Camera:
    """Where the camera is and how it looks: metres, radians; the last three in pixels."""

    height: float
    offset: float
    yaw: float
    focal: float
    center: float
    horizon: float

    def view(self, x: float, z: float) -> tuple[float, float]:
        """Return the sideways and forward distance of a ground point, in metres."""
        x -= self.offset
        return x * cos(self.yaw) - z * sin(self.yaw), x * sin(self.yaw) + z * cos(self.yaw)

    def pixel(self, sideways: float, y: float, forward: float) -> Pixel:
        """Return column and row of a point in front of the camera."""
        scale = self.focal / forward
        return self.center + scale * sideways, self.horizon + scale * (self.height - y)

    def ground(self, height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return X and Z, (R, W) each, of the ground that each pixel below the horizon shows."""
        first = max(0, int(self.horizon) + 1)
        rows = np.arange(first, height, dtype=np.float32)[:, None] + 0.5
        columns = np.arange(width, dtype=np.float32)[None] + 0.5
        forward = np.minimum(self.focal * self.height / (rows - self.horizon), FAR)
        sideways = (columns - self.center) / self.focal * forward
        x = self.offset + sideways * cos(self.yaw) + forward * sin(self.yaw)
        z = forward * cos(self.yaw) - sideways * sin(self.yaw)
        return x.astype(np.float32), z.astype(np.float32)


class Canvas:
    """Image (H, W, 3) and labels (H, W), painted from far to near, with haze over what is far."""

    def __init__(
        self, height: int, width: int, camera: Camera, haze: Color, visibility: float
    ) -> None:
        self.image: Image = np.zeros((height, width, 3), np.uint8)
        self.labels: Image = np.full((height, width), IGNORE, np.uint8)
        self.camera = camera
        self.haze = haze
        self.visibility = visibility  # metres after which 1 - 1/e of a color is haze

    def clarity(self, distance: float) -> float:
        """Return the part of a color that is left after ``distance`` metres of air; the rest is
        haze.
        """
        return exp(-distance / self.visibility)

    def seen(self, color: Color, distance: float) -> Color:
        """Return the color after ``distance`` metres of air."""
        return self.haze + (color - self.haze) * self.clarity(distance)

    def fill(self, pixels: Sequence[Pixel], color: Color, label: int | None) -> None:
        """Fill a convex polygon given in pixels; without a label the labels stay as they are."""
        corners = _fixed_point(np.array(pixels))
        cv2.fillConvexPoly(self.image, corners, color.tolist(), cv2.LINE_8, SUBPIXEL)
        if label is not None:
            cv2.fillConvexPoly(self.labels, corners, label, cv2.LINE_8, SUBPIXEL)

    def polygon(self, points: Sequence[Point], color: Color, label: int | None = None) -> None:
        """Fill a convex polygon given in world coordinates, seen through the air."""
        corners = _in_front([(*self.camera.view(x, z), y) for x, y, z in points])
        if len(corners) < 3:
            return
        distance = sum(forward for _, forward, _ in corners) / len(corners)
        pixels = [self.camera.pixel(side, y, forward) for side, forward, y in corners]
        self.fill(pixels, self.seen(color, distance), label)

    def wall(
        self, start: Ground, end: Ground, span: tuple[float, float], texture: Image, label: int
    ) -> None:
        """Paint a texture on the upright wall over ``start`` - ``end`` between two heights."""
        (left, near), (right, far) = self.camera.view(*start), self.camera.view(*end)
        if max(near, far) <= NEAR:
            return
        # the part of the wall in front of the camera, as parts t of its length
        cut = (NEAR - near) / (far - near) if min(near, far) < NEAR else 0.0
        parts = (cut if near < NEAR else 0.0, cut if far < NEAR else 1.0)
        ends = [(left + t * (right - left), near + t * (far - near)) for t in parts]
        pixels = [self.camera.pixel(side, y, forward) for side, forward in ends for y in span]
        height, width = texture.shape[:2]
        source = [(t * width, y) for t in parts for y in (height, 0)]
        clear = self.clarity((ends[0][1] + ends[1][1]) / 2)
        hazy = (texture * clear + self.haze * (1 - clear)).astype(np.uint8)
        self._warp(hazy, source, np.array(pixels, np.float32), label)

    def _warp(
        self, texture: Image, source: list[Pixel], corners: NDArray[np.float32], label: int
    ) -> None:
        size = self.labels.shape[::-1]
        low = np.clip(np.floor(corners.min(0)), 0, size).astype(np.float32)
        high = np.clip(np.ceil(corners.max(0)) + 1, 0, size).astype(np.float32)
        columns, rows = (int(extent) for extent in high - low)
        if min(columns, rows) <= 0:
            return
        corners = corners - low
        matrix = cv2.getPerspectiveTransform(np.array(source, np.float32), corners)
        patch = cv2.warpPerspective(
            texture, matrix, (columns, rows), borderMode=cv2.BORDER_REPLICATE
        )
        inside = np.zeros((rows, columns), np.uint8)
        outline = _fixed_point(corners[[0, 1, 3, 2]])
        cv2.fillConvexPoly(inside, outline, 1, cv2.LINE_8, SUBPIXEL)
        self.stamp(np.asarray(patch, np.uint8), inside, (int(low[0]), int(low[1])), label)

    def stamp(self, patch: Image, inside: Image, corner: tuple[int, int], label: int) -> None:
        """Copy a patch where ``inside`` is set, its top left at the column and row ``corner``."""
        rows = slice(corner[1], corner[1] + inside.shape[0])
        columns = slice(corner[0], corner[0] + inside.shape[1])
        chosen = inside > 0
        np.copyto(self.image[rows, columns], patch, where=chosen[..., None])
        self.labels[rows, columns][chosen] = label


def _fixed_point(corners: NDArray[np.floating]) -> NDArray[np.int32]:
    return np.asarray(np.rint(corners * 2**SUBPIXEL), np.int32)


def _in_front(corners: list[tuple[float, float, float]]) -> list[tuple[float, float, float]]:
    """Cut a polygon of (sideways, forward, y) at the near plane: Sutherland-Hodgman, one plane."""
    if all(corner[1] >= NEAR for corner in corners):
        return corners
    kept = []
    for here, there in zip(corners, corners[1:] + corners[:1], strict=True):
        if here[1] >= NEAR:
            kept.append(here)
        if (here[1] >= NEAR) != (there[1] >= NEAR):
            t = (NEAR - here[1]) / (there[1] - here[1])
            kept.append(
                (here[0] + t * (there[0] - here[0]), NEAR, here[2] + t * (there[2] - here[2]))
            )
    return kept
