"""Sliding windows: where they lie, and the mean of what a network says in them.

B: images, K: classes, H, W: the image's size, h, w: of a window.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from danet_lightning.errors import RequestError

MOST_PIXELS = 2**28  # that a network sees at once; 3 GB as float32


def check_size(height: int, width: int) -> None:
    """Check that an image is not made larger than any memory.

    Raises:
        RequestError: It would be.
    """
    if height * width > MOST_PIXELS:
        raise RequestError(
            f"protocol: an image of {width} x {height} pixels at the largest scale is more than "
            "any memory holds; choose a smaller scale or base_size."
        )


def starts_inside(length: int, crop: int, stride: int) -> list[int]:
    """Return the starts of MMSegmentation's windows: the last one ends where the image does."""
    count = max(0, math.ceil((length - crop) / stride)) + 1
    return [max(0, min(i * stride, length - crop)) for i in range(count)]


def starts_across(length: int, crop: int, stride: int) -> list[int]:
    """Return the starts of the authors' windows: the last one may reach beyond the image."""
    count = max(0, math.ceil((length - crop) / stride)) + 1
    return [i * stride for i in range(count)]


def average_windows(
    predict: Callable[[Tensor], Tensor],
    images: Tensor,
    corners: Sequence[tuple[int, int]],
    size: tuple[int, int],
    batch: int,
) -> Tensor:
    """Average what a network predicts for a pixel over the windows that cover it.

    Args:
        predict: (b, 3, h, w) -> (b, K, h, w).
        images: (B, 3, H, W).
        corners: Row and column of each window's upper left pixel.
        size: (h, w) of the windows.
        batch: Windows in one call of `predict`.

    Returns:
        (B, K, H, W); what grows with the image is this result, never the network's features.
    """
    height, width = size
    batch = max(1, min(batch, MOST_PIXELS // (height * width)))
    total = torch.empty(0)
    count = images.new_zeros(images.shape[-2:])  # (H, W)
    for begin in range(0, len(corners), batch):
        group = corners[begin : begin + batch]
        windows = torch.cat([images[..., y : y + height, x : x + width] for y, x in group])
        parts = predict(windows).chunk(len(group))  # (B, K, h, w) each
        if begin == 0:
            total = parts[0].new_zeros(*parts[0].shape[:2], *images.shape[-2:])
        for (y, x), part in zip(group, parts, strict=True):
            total[..., y : y + height, x : x + width] += part
            count[y : y + height, x : x + width] += 1
    return total.div_(count)
