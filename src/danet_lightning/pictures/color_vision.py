"""Which colors of a palette look alike to a person who does not see red and green apart."""

from collections.abc import Collection, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from danet_lightning.data.base import IGNORE

# Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB
DEUTERANOPIA = (
    (0.367322, 0.860646, -0.227968),
    (0.280085, 0.672501, 0.047413),
    (-0.011820, 0.042940, 0.968881),
)
PROTANOPIA = (
    (0.152286, 1.052583, -0.204868),
    (0.114503, 0.786281, 0.099216),
    (-0.003882, -0.048116, 1.051998),
)
NEAR = 15.0  # distance in CIELAB (1976) below which two areas apart are easily taken for one color


def color_distances(palette: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """Measure how far apart colors look to deuteranopes and protanopes, whichever is less.

    Args:
        palette: C colors, RGB from 0 to 255.

    Returns:
        (C, C) Delta E of 1976 in CIELAB: 2 is just seen side by side, 100 is black to white.
    """
    stored = np.asarray(palette, np.float64).reshape(-1, 3) / 255  # (C, 3)
    linear = np.where(stored <= 0.04045, stored / 12.92, ((stored + 0.055) / 1.055) ** 2.4)
    seen = [_lab(linear @ np.array(matrix).T) for matrix in (DEUTERANOPIA, PROTANOPIA)]
    each = [np.linalg.norm(lab[:, None] - lab, axis=-1) for lab in seen]
    nearest: NDArray[np.float64] = np.minimum(*each)
    return nearest


def look_alike(palette: Sequence[Sequence[int]], present: Collection[int]) -> set[int]:
    """Return the classes whose colors look like that of another one that is present.

    Args:
        palette: One RGB color for each class.
        present: What a picture shows: class ids; 255, ignored pixels, is like nothing.
    """
    ids = [index for index in present if index != IGNORE]
    near = color_distances([palette[index] for index in ids]) < NEAR  # each to itself, too
    return {index for index, row in zip(ids, near, strict=True) if row.sum() > 1}


def _lab(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert linear RGB (C, 3) to CIELAB."""
    pixels = linear.clip(0, 1).astype(np.float32)[None]  # (1, C, 3)
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_LRGB2LAB)[0], np.float64)
