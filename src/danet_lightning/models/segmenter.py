"""From images to class decisions: the one path of validation, evaluate and predict.

B: images, C: classes, H, W: the image's own size.
"""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

MEAN = (123.675, 116.28, 103.53)  # ImageNet's R, G and B: 255 * (0.485, 0.456, 0.406)
STD = (58.395, 57.12, 57.375)  # 255 * (0.229, 0.224, 0.225)


@runtime_checkable
class Network(Protocol):
    """What can be trained and evaluated: a module whose forward returns {"fused": logits, ...}."""

    def predict_logits(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised images -> (B, C, H, W), the fused logits alone."""


@runtime_checkable
class EvaluationProtocol(Protocol):
    """How logits are obtained; a number without its protocol means nothing."""

    def __call__(self, net: nn.Module, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised images -> (B, C, H, W) scores whose argmax is the prediction."""

    def describe(self) -> dict[str, Any]:
        """Return the plain values that belong beside every number."""


def fused_logits(net: nn.Module, images: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, C, H, W): the prediction of the summed branches alone."""
    logits: Tensor = net.predict_logits(images)  # type: ignore[operator]
    return logits


def mirror(pixels: Tensor) -> Tensor:
    """(..., H, W) -> (..., H, W), left and right exchanged."""
    return pixels.flip(-1)


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
