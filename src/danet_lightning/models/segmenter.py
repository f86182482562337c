"""From images to class decisions: the one path of validation, evaluate and predict.

B: images, C: classes, H, W: the image's own size.
"""

from collections.abc import Sequence
from typing import Any, Protocol, overload, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

MEAN = (123.675, 116.28, 103.53)  # ImageNet's R, G and B: 255 * (0.485, 0.456, 0.406)
STD = (58.395, 57.12, 57.375)  # 255 * (0.229, 0.224, 0.225)
Images = Tensor | NDArray[np.uint8] | Image.Image


@runtime_checkable
class Network(Protocol):
    """What can be trained and evaluated: a module whose forward returns {"fused": logits, ...}."""

    def predict_logits(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) normalized images to (B, C, H, W), the fused logits alone."""


@runtime_checkable
class EvaluationProtocol(Protocol):
    """How logits are obtained; a number without its protocol means nothing."""

    def __call__(self, net: Network, images: Tensor, black: Tensor) -> Tensor:
        """Score the classes at each pixel; the argmax is the prediction.

        Args:
            net: Whose logits are asked for.
            images: (B, 3, H, W), normalized.
            black: (3,), what black pixels are after normalization, as something to pad with.

        Returns:
            (B, C, H, W) scores.
        """

    def describe(self) -> dict[str, Any]:
        """Return the plain values that belong beside every number."""


def mirror(pixels: Tensor) -> Tensor:
    """Exchange left and right of (..., H, W)."""
    return pixels.flip(-1)


def normalize(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Turn (B, 3, H, W) uint8 into float32, less `mean`, over `std` (both on the 0..255 scale).

    On an accelerator this costs nothing; in the workers it would quadruple what they send.
    """
    # non-blocking, or the CPU would wait here for all that a GPU still has to do
    mean_, std_ = (
        torch.tensor(values).view(3, 1, 1).to(images.device, non_blocking=True)
        for values in (mean, std)
    )
    # channels_last: the layout in which convolutions are fastest on GPU and CPU alike
    return ((images.float() - mean_) / std_).contiguous(memory_format=torch.channels_last)


def black_pixel(mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return what `normalize` makes of black: (3,)."""
    return -torch.tensor(mean) / torch.tensor(std)


def normalization(net: nn.Module) -> dict[str, list[float]]:
    """Return mean and std (0..255) of a network's images: its backbone's own, else ImageNet's."""
    backbone = getattr(net, "backbone", None)
    mean, std = getattr(backbone, "mean", MEAN), getattr(backbone, "std", STD)
    return {"mean": [float(value) for value in mean], "std": [float(value) for value in std]}


class Segmenter(nn.Module):
    """A trained network with all that it takes to segment an image; what `load` returns.

    Args:
        net: A `Network` for normalized images.
        classes: Names of the C classes, in the order of their ids.
        palette: One RGB color (0..255) for each class.
        mean: RGB mean on the 0..255 scale, by which images are normalized.
        std: RGB standard deviation on the 0..255 scale.
        protocol: How predictions are obtained.
    """

    net: Any  # a module and a Network

    def __init__(
        self,
        net: nn.Module,
        classes: Sequence[str],
        palette: Sequence[Sequence[int]],
        mean: Sequence[float],
        std: Sequence[float],
        protocol: EvaluationProtocol,
    ) -> None:
        super().__init__()
        self.net = net
        self.classes = tuple(classes)
        self.palette = tuple(tuple(color) for color in palette)
        self.mean = tuple(mean)
        self.std = tuple(std)
        self.protocol = protocol

    def forward(self, images: Images) -> Any:
        """Compute the network's outputs, {"fused": (B, C, H, W) logits, ...}.

        Args:
            images: As for `segment`, but no list; one image is a batch of one.

        Raises:
            ValueError: They are something else; `net` alone takes what is normalized already.
        """
        return self.net(normalize(self._batch(images), self.mean, self.std))

    @overload
    def segment(self, images: Images) -> Tensor: ...

    @overload
    def segment(self, images: list[Images] | tuple[Images, ...]) -> list[Tensor]: ...

    @torch.inference_mode()
    def segment(self, images: Any) -> Any:
        """Find the class of each pixel of one image or of many, by the protocol.

        Args:
            images: One image, an array, a tensor (H, W, 3) or Pillow's; a batch (B, 3, H, W); or a
                list of images of any sizes. RGB in uint8, on any device.

        Returns:
            (H, W) or (B, H, W) int64 class ids on the network's device; of a list, a list.

        Raises:
            ValueError: An image has another shape, type or mode.
        """
        if isinstance(images, list | tuple):
            return [self.segment(each) for each in images]
        batch = self._batch(images)
        black = black_pixel(self.mean, self.std).to(batch.device)
        scores = self.protocol(self.net, normalize(batch, self.mean, self.std), black)
        return scores.argmax(1) if getattr(images, "ndim", 3) == 4 else scores.argmax(1)[0]

    def _batch(self, images: Any) -> Tensor:
        """Bring a batch, or one image as a batch of one, to the network's device.

        Raises:
            ValueError: It is something else.
        """
        pixels, kind = images, getattr(images, "dtype", type(images).__name__)
        if isinstance(images, Image.Image):
            pixels, kind = np.asarray(images), f"mode {images.mode}"
        if isinstance(pixels, np.ndarray) and str(kind) in ("uint8", "mode RGB"):
            # copied: PyTorch takes no array that runs backwards, or must not be written
            pixels = torch.from_numpy(np.array(pixels, order="C"))
        if isinstance(pixels, Tensor) and pixels.dtype == torch.uint8 and pixels.numel():
            if pixels.ndim == 3 and pixels.shape[2] == 3:
                pixels = pixels.permute(2, 0, 1)[None]
            if pixels.ndim == 4 and pixels.shape[1] == 3:
                return pixels.to(next(self.net.parameters(), pixels).device)
        raise ValueError(
            f"images of shape {tuple(getattr(pixels, 'shape', ()))} and type {kind}: give one "
            "image as (H, W, 3) or a batch as (B, 3, H, W), RGB in uint8 with at least one pixel; "
            'one of Pillow by .convert("RGB"); to `segment`, also a list of images of any sizes. '
            "Images that are normalized already go to .net."
        )
