"""DANet as one writes it down from the paper: whole maps, NCHW, float32.

What our own is measured against. B: images, C: channels, N = H * W positions.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn


class TextbookDANet(nn.Module):
    """The same function of the same weights as `models.DANet` on a ResNet-50 or deeper.

    Its parameters have our names, so that either takes the weights of the other.
    """

    def __init__(self, backbone: str, num_classes: int) -> None:
        super().__init__()
        resnet = getattr(torchvision.models, backbone)(
            weights=None, replace_stride_with_dilation=[False, True, True]
        )
        width = resnet.fc.in_features
        self.backbone = resnet
        del self.backbone.fc
        inner = width // 4
        self.branches = nn.ModuleDict(
            {
                name: nn.ModuleDict(
                    {
                        "reduce": _convolution(width, inner),
                        "attention": attention,
                        "refine": _convolution(inner, inner),
                    }
                )
                for name, attention in {"position": Position(inner), "channel": Channel()}.items()
            }
        )
        self.classifiers = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Identity(), nn.Conv2d(inner, num_classes, 1))
                for name in ("fused", "position", "channel")
            }
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) -> the three logits, (B, K, H, W) each."""
        net, branches = self.backbone, cast(dict[str, Any], self.branches)
        x = net.maxpool(net.relu(net.bn1(net.conv1(images))))
        x = net.layer4(net.layer3(net.layer2(net.layer1(x))))
        features = {
            name: branch["refine"](branch["attention"](branch["reduce"](x)))
            for name, branch in branches.items()
        }
        features["fused"] = features["position"] + features["channel"]
        return {
            name: F.interpolate(
                classify(features[name]), images.shape[2:], mode="bilinear", align_corners=True
            )
            for name, classify in self.classifiers.items()
        }


class Position(nn.Module):
    """Section 3.2, with the N x N map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, channels // 8, 1)
        self.key = nn.Conv2d(channels, channels // 8, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        query = self.query(x).flatten(2).transpose(1, 2)  # (B, N, C / 8)
        weights = (query @ self.key(x).flatten(2)).softmax(-1)  # (B, N, N)
        context = self.value(x).flatten(2) @ weights.transpose(1, 2)  # (B, C, N)
        return self.gamma * context.view_as(x) + x


class Channel(nn.Module):
    """Section 3.3, as the authors' code has it."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        rows = x.flatten(2)  # (B, C, N)
        energy = rows @ rows.transpose(1, 2)  # (B, C, C)
        weights = (energy.max(-1, keepdim=True).values - energy).softmax(-1)
        return self.gamma * (weights @ rows).view_as(x) + x


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )
