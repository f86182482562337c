"""How far an exported network is from PyTorch's, and how fast both are.

B: images, H, W: their size, K: classes.
"""

import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from danet_lightning.checkpoints.onnx_file import LOGITS, OnnxNetwork
from danet_lightning.data.drawing import draw_scene
from danet_lightning.errors import RequestError, first_line
from danet_lightning.models.segmenter import Segmenter, normalize

SMALLEST = 32  # side of a drawn scene
LARGER = 256  # at least, for the larger size: far from what was traced
REPEATS = 5  # of what is timed


class _SizeError(RequestError):
    """A network does not take images of a size."""


def parity(
    segmenter: Segmenter, network: OnnxNetwork, size: tuple[int, int]
) -> list[dict[str, Any]]:
    """Compare logits and classes on drawn scenes of several sizes.

    Args:
        segmenter: PyTorch's.
        network: The exported one.
        size: Height and width of the example; the others are larger, odd, an eighth of it (where
            PyTorch's network takes that), and a batch of two.

    Returns:
        For each size `images` (B, H, W), the largest and the mean difference of the logits and the
        largest logit, None where the file has class ids alone, and the share of pixels with the
        same class.
    """
    height, width = size
    larger = (max(height * 3 // 2, LARGER), max(width * 3 // 2, LARGER))
    odd = (height * 2 // 3 | 1, width * 2 // 3 | 1)
    small = (height // 8 | 1, width // 8 | 1)
    sizes = [(1, *size), (1, *larger), (1, *odd), (2, *size)]
    rows = [_compared(segmenter, network, scenes(*each)) for each in sizes]
    with suppress(_SizeError):
        rows.append(_compared(segmenter, network, scenes(1, *small)))
    return rows


@torch.inference_mode()
def _compared(segmenter: Segmenter, network: OnnxNetwork, pixels: Tensor) -> dict[str, Any]:
    expected = logits(segmenter, pixels)
    output = network.run(pixels)
    errors: dict[str, Any] = {"largest_error": None, "mean_error": None, "largest_logit": None}
    if network.output == LOGITS:
        differences = (output - expected).abs()
        values = (differences.max(), differences.mean(), expected.abs().max())
        errors = {name: float(it) for name, it in zip(errors, values, strict=True)}
    same = (output.argmax(1) == expected.argmax(1)).double().mean()
    return {"images": [len(pixels), *pixels.shape[2:]], **errors, "same_class": float(same)}


def logits(segmenter: Segmenter, pixels: Tensor) -> Tensor:
    """Map (B, 3, H, W) uint8 to (B, K, H, W) logits, as PyTorch computes them.

    Raises:
        RequestError: It cannot, because the size is none for this network.
    """
    try:
        output: Tensor = segmenter.net.predict_logits(
            normalize(pixels, segmenter.mean, segmenter.std)
        )
    except RuntimeError as error:
        size = " x ".join(map(str, (len(pixels), *pixels.shape[2:])))
        raise _SizeError(
            f"size: PyTorch's network cannot take {size} pixels: {first_line(error)}. "
            "Choose a larger size."
        ) from error
    return output


def scenes(count: int, height: int, width: int) -> Tensor:
    """Draw pictures, (B, 3, H, W) uint8: of every size, and the same ones each time."""
    sides = (max(height, SMALLEST), max(width, SMALLEST))
    drawn = [draw_scene(0, "test", number, *sides)[0] for number in range(count)]
    return torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2)[..., :height, :width]


@torch.inference_mode()
def milliseconds(compute: Callable[[Tensor], Tensor], size: tuple[int, int]) -> float:
    """Return the median time that a network takes for a picture, after one that does not count."""
    pixels = scenes(1, *size)
    compute(pixels)
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        compute(pixels)
        taken.append(time.perf_counter() - start)
    return 1000 * statistics.median(taken)
