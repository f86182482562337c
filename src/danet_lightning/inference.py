"""From images to class decisions: the one path of validation, evaluate and predict.

B: images, C: classes, H, W: the image's own size, h, w: the size asked for.
"""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat
from torch import Tensor, nn


@runtime_checkable
class EvaluationProtocol(Protocol):
    """How logits are obtained; a number without its protocol means nothing."""

    def __call__(self, net: nn.Module, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised images -> (B, C, H, W) scores whose argmax is the prediction."""

    def describe(self) -> dict[str, Any]:
        """Return the plain values that belong beside every number."""


class Whole:
    """The whole image at once, without windows or flip.

    Args:
        scale: the network sees the image resized by this factor; the logits are resized back to
            the image's own size, never the labels.
    """

    def __init__(self, scale: PositiveFloat = 1.0) -> None:
        self.scale = scale

    def __call__(self, net: nn.Module, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised images -> (B, C, H, W) logits."""
        height, width = images.shape[-2:]
        if self.scale == 1:
            return fused_logits(net, images)
        size = (max(1, round(height * self.scale)), max(1, round(width * self.scale)))
        images = F.interpolate(
            images, size, mode="bilinear", align_corners=False, antialias=self.scale < 1
        )
        logits = fused_logits(net, images)  # (B, C, h, w)
        return F.interpolate(
            logits, (height, width), mode="bilinear", align_corners=bool(net.align_corners)
        )

    def describe(self) -> dict[str, Any]:
        """Return name, scales and flip."""
        return {"name": "whole", "scales": [self.scale], "flip": False}


def fused_logits(net: nn.Module, images: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, C, H, W): the prediction of the summed branches alone."""
    logits: Tensor = net.predict_logits(images)  # type: ignore[operator]
    return logits


def normalize(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(B, 3, H, W) uint8 -> float32, less `mean`, over `std` (both on the 0..255 scale).

    On an accelerator this costs nothing; in the workers it would quadruple what they send.
    """
    mean_ = torch.tensor(mean, device=images.device).view(3, 1, 1)
    std_ = torch.tensor(std, device=images.device).view(3, 1, 1)
    # channels_last: the layout in which convolutions are fastest on GPU and CPU alike
    return ((images.float() - mean_) / std_).contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def segment(net: nn.Module, images: Tensor) -> Tensor:
    """Class indices of raw images, by the protocol the network was evaluated with.

    Args:
        net: as returned by `danet_lightning.load`.
        images: (B, 3, H, W) uint8 RGB, on the network's device.

    Returns:
        (B, H, W) int64 class indices.
    """
    scores: Tensor = net.protocol(net, normalize(images, net.mean, net.std))  # type: ignore
    return scores.argmax(1)
