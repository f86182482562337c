"""A small network whose attentions matter, and what it sees."""

import numpy as np
import torch
from small_net import SmallNet
from torch import nn

from danet_lightning.evaluate.protocols import MultiView
from danet_lightning.models import DANet
from danet_lightning.models.segmenter import MEAN, STD, Segmenter

CLASSES = ("road", "sky", "tree")
PALETTE = ((128, 64, 128), (70, 130, 180), (107, 142, 35))


def segmenter(
    classes: tuple[str, ...] = CLASSES, backbone: nn.Module | None = None, **options: bool
) -> Segmenter:
    """Its gammas are large, and its energies spread, so that maps are neither even nor one-hot."""
    torch.manual_seed(7)
    net = DANet(
        backbone or SmallNet(), len(classes), channels=16, reduction=2, gamma_init=3.0, **options
    )
    pam = net.position_attention
    if pam:
        with torch.no_grad():
            pam.query.weight.mul_(3)
    return Segmenter(net, classes, PALETTE, MEAN, STD, MultiView()).eval()


def image(height: int = 64, width: int = 96) -> np.ndarray:
    """(height, width, 3): patches of random colors."""
    generator = np.random.default_rng(7)
    patches = generator.integers(0, 256, (-(-height // 16), -(-width // 16), 3), np.uint8)
    return patches.repeat(16, 0).repeat(16, 1)[:height, :width]


def naive(seg: Segmenter, pixels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """The maps by the paper's formulas: (N, N) and (C, C), in float64."""
    net = seg.net
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (seg.mean, seg.std))
    normalized = (torch.from_numpy(pixels).permute(2, 0, 1)[None] - mean) / std
    with torch.inference_mode():
        _, stage4 = net.backbone(normalized)
        x = net.branches["position"].reduce(stage4)
        pam = net.position_attention
        query, key = pam.query(x).flatten(2)[0].double(), pam.key(x).flatten(2)[0].double()
        a = net.branches["channel"].reduce(stage4).flatten(2)[0].double()  # (C, N)
        energy = a @ a.T
        rowmax = energy.max(1, keepdim=True).values
        return (query.T @ key).softmax(1), (rowmax - energy).softmax(1)
