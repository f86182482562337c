"""The named evaluation protocols: what stands between a network and a published number.

B: images, K: classes, H, W: the image's own size, h, w: size of a window or of a scaled image.
"""

import logging
import math
from collections.abc import Sequence
from itertools import product
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor

from danet_lightning.errors import PASSING, checked
from danet_lightning.evaluate.windows import (
    average_windows,
    check_size,
    starts_across,
    starts_inside,
)
from danet_lightning.models.segmenter import Network, mirror

log = logging.getLogger(__name__)

Scale = Annotated[float, Field(gt=0, le=100)]  # beyond it, a slip of the keyboard
Scales = Annotated[Sequence[Scale], Field(min_length=1, max_length=100)]
Pixels = Annotated[int, Field(ge=1, le=1_000_000)]
TEST_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)  # the authors' and MMSegmentation's
# Float32 holds exp(88). 85 leaves room for summing windows and scales, where the authors' code
# would add up infinities.
LARGEST_EXPONENT = 85.0


class MultiView:
    """MMSegmentation's protocols: the whole image or sliding windows, at any scales, mirrored too.

    One view gives its logits; several are averaged after a softmax each. Logits are resized to
    the image's own size, never the labels.

    Args:
        scales: Factors on the image's size, one view for each.
        flip: Whether each scale is seen mirrored, too.
        crop: (h, w) of the sliding windows; None: the whole image at once. Where the image is
            smaller than the window, it is its own window.
        stride: Rows and columns from one window to the next; the last one is moved back inside.
        window_batch: Windows in one forward pass: a matter of memory and speed alone.
        antialias: Whether shrunk images are smoothed, as in our training; MMSegmentation's are not.

    Raises:
        ValueError: No scale, windows without a stride, or a stride that leaves pixels out.
    """

    @checked
    def __init__(
        self,
        scales: Scales = (1.0,),
        flip: bool = False,
        crop: tuple[Pixels, Pixels] | None = None,
        stride: tuple[Pixels, Pixels] | None = None,
        window_batch: Annotated[PositiveInt, PASSING] = 1,
        antialias: bool = False,
    ) -> None:
        if (crop is None) != (stride is None):
            raise ValueError(f"crop {crop} and stride {stride}: give both or neither.")
        if crop and stride and (stride[0] > crop[0] or stride[1] > crop[1]):
            raise ValueError(
                f"stride {stride} is larger than crop {crop}, so pixels between the "
                "windows would be left out; two thirds of the crop are common."
            )
        self.scales = tuple(scales)
        self.flip = flip
        self.crop = crop
        self.stride = stride
        self.window_batch = window_batch
        self.antialias = antialias

    def __call__(self, net: Network, images: Tensor, black: Tensor) -> Tensor:
        """Map normalized images (B, 3, H, W) to logits (B, K, H, W), or the views' mean softmax."""
        views = list(product(self.scales, (False, True) if self.flip else (False,)))
        if len(views) == 1:
            return self._view(net, images, *views[0])
        first, *others = views
        total = self._view(net, images, *first).softmax(1)
        for view in others:
            total += self._view(net, images, *view).softmax(1)
        return total.div_(len(views))

    def describe(self) -> dict[str, Any]:
        """Return name, crop, stride, scales, flip and smoothing."""
        name = "whole" if self.crop is None else "slide"
        return {
            "name": name if len(self.scales) == 1 and not self.flip else "ms_flip",
            "crop": list(self.crop) if self.crop else None,
            "stride": list(self.stride) if self.stride else None,
            "scales": list(self.scales),
            "flip": self.flip,
            "antialias": self.antialias,
        }

    def _view(self, net: Network, images: Tensor, scale: float, mirrored: bool) -> Tensor:
        height, width = images.shape[-2:]
        size = (max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5)))
        if size != (height, width):
            check_size(*size)
            images = F.interpolate(
                images, size, mode="bilinear", antialias=self.antialias and scale < 1
            )
        logits = self._logits(net, mirror(images) if mirrored else images)  # (B, K, h, w)
        logits = mirror(logits) if mirrored else logits
        if size == (height, width):
            return logits
        align = bool(net.align_corners)  # type: ignore[attr-defined]
        return F.interpolate(logits, (height, width), mode="bilinear", align_corners=align)

    def _logits(self, net: Network, images: Tensor) -> Tensor:
        if self.crop is None or self.stride is None:
            return net.predict_logits(images)
        sides = list(zip(images.shape[-2:], self.crop, self.stride, strict=True))
        rows, columns = (starts_inside(length, crop, stride) for length, crop, stride in sides)
        size = (min(sides[0][:2]), min(sides[1][:2]))
        return average_windows(
            net.predict_logits,
            images,
            list(product(rows, columns)),
            size,
            self.window_batch,
        )


class OfficialEvaluation:
    """The authors' MultiEvalModule (their code, encoding/models/base.py).

    At each scale the image's long side becomes base_size x scale; it is padded to the right and
    below with black, windows of crop_size are taken every 2/3 of it, and a window's score is
    exp(logits + mirrored logits of the mirrored window). Scores are averaged over windows, resized
    to the image, and summed over scales. Every resizing aligns corners.

    Args:
        base_size: Long side of the image at scale 1, in pixels.
        crop_size: Side of a window.
        scales: Factors on base_size.
        flip: Whether windows are seen mirrored, too.
        window_batch: Windows in one forward pass: a matter of memory and speed alone.

    Raises:
        ValueError: No scale, or a window that is too small.
    """

    @checked
    def __init__(
        self,
        base_size: Pixels,
        crop_size: Pixels,
        scales: Scales = TEST_SCALES,
        flip: bool = True,
        window_batch: Annotated[PositiveInt, PASSING] = 1,
    ) -> None:
        if crop_size < 2:
            raise ValueError(f"crop_size {crop_size} is too small for a stride of 2/3 of it.")
        self.base_size = base_size
        self.crop_size = crop_size
        self.stride = crop_size * 2 // 3
        self.scales = tuple(scales)
        self.flip = flip
        self.window_batch = window_batch
        self._is_warned = False

    def __call__(self, net: Network, images: Tensor, black: Tensor) -> Tensor:
        """Map (B, 3, H, W) normalized images to (B, K, H, W) positive scores; `black` pads them."""
        self._warn_of_size(*images.shape[-2:])
        first, *others = self.scales
        total = self._scores(net, images, black, first)
        for scale in others:
            total += self._scores(net, images, black, scale)
        return total

    def describe(self) -> dict[str, Any]:
        """Return name, base size, crop, stride, scales and flip."""
        return {
            "name": "official_ss" if self.scales == (1.0,) else "official_ms",
            "base_size": self.base_size,
            "crop": [self.crop_size, self.crop_size],
            "stride": [self.stride, self.stride],
            "scales": list(self.scales),
            "flip": self.flip,
        }

    def _warn_of_size(self, height: int, width: int) -> None:
        """Tell once that images are far from the size that the protocol is meant for."""
        factor = self.base_size / max(height, width)
        if not self._is_warned and not 0.5 <= factor <= 2:
            log.warning(
                "protocol: base_size=%d resizes this image of %d x %d pixels %.2g times, far from "
                "what the network was trained on; protocol=whole takes images as they are.",
                *(self.base_size, height, width, factor),
            )
            self._is_warned = True

    def _scores(self, net: Network, images: Tensor, black: Tensor, scale: float) -> Tensor:
        size = (images.shape[-2], images.shape[-1])
        height, width = self._scaled_size(*size, scale)
        check_size(max(height, self.crop_size), max(width, self.crop_size))
        scaled = _aligned(images, (height, width))
        rows, columns = (
            starts_across(length, self.crop_size, self.stride) for length in (height, width)
        )
        scores = average_windows(
            lambda windows: self._window_scores(net, windows),
            _padded(scaled, black, rows[-1] + self.crop_size, columns[-1] + self.crop_size),
            list(product(rows, columns)),
            (self.crop_size, self.crop_size),
            self.window_batch,
        )
        return _aligned(scores[..., :height, :width], size)

    def _scaled_size(self, height: int, width: int, scale: float) -> tuple[int, int]:
        long_side = math.ceil(self.base_size * scale)
        if height > width:
            return long_side, max(1, int(width * long_side / height + 0.5))
        return max(1, int(height * long_side / width + 0.5)), long_side

    def _window_scores(self, net: Network, windows: Tensor) -> Tensor:
        logits = net.predict_logits(windows)
        if self.flip:
            logits = logits + mirror(net.predict_logits(mirror(windows)))
        return logits.clamp(max=LARGEST_EXPONENT).exp()


def _padded(images: Tensor, black: Tensor, height: int, width: int) -> Tensor:
    """Pad to the right and below: windows cut there are as if each was cut first, then padded."""
    canvas = black.to(images).view(1, 3, 1, 1).repeat(len(images), 1, height, width)
    canvas[..., : images.shape[-2], : images.shape[-1]] = images
    return canvas.contiguous(memory_format=torch.channels_last)


def _aligned(images: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(images, size, mode="bilinear", align_corners=True)
