"""What simple predictors reach on the built-in scenes: `python scripts/scene_baselines.py`.

The scenes are worth training on only if a color, a place in the image or a few pixels around do
not give a class away. N: pixels, C: classes.
"""

import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from danet_lightning.data.drawing.source import SceneSource
from danet_lightning.data.scenes import Scenes
from danet_lightning.evaluate.metrics import ConfusionMatrix, constant_predictor, scores
from danet_lightning.models.segmenter import MEAN, STD, normalize
from danet_lightning.train.losses import SummedCrossEntropy

TRAIN, VAL, SIZE = 2000, 100, (64, 128)  # as in conf/dataset/scenes.yaml
CLASSES = len(Scenes.classes)


def stack(split: str, count: int) -> tuple[Tensor, Tensor]:
    """Images (count, 3, H, W) and masks (count, H, W), uint8."""
    source = SceneSource(0, split, count, *SIZE)
    images, masks = zip(*(source.read(i) for i in tqdm(range(count), desc=split)), strict=True)
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), torch.from_numpy(np.stack(masks))


def color_cell(images: Tensor) -> Tensor:
    """The cell of a 16 x 16 x 16 color cube: (B, H, W)."""
    red, green, blue = (images >> 4).long().unbind(1)
    return red * 256 + green * 16 + blue


def color_and_place_cell(images: Tensor) -> Tensor:
    """A cell of an 8 x 8 x 8 cube in one of 8 x 8 regions of the image: (B, H, W)."""
    red, green, blue = (images >> 5).long().unbind(1)
    height, width = images.shape[2:]
    rows = torch.arange(height)[:, None] * 8 // height
    columns = torch.arange(width) * 8 // width
    return ((rows * 8 + columns) * 512) + red * 64 + green * 8 + blue


def lookup(
    cell: Callable[[Tensor], Tensor], train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor]
) -> Tensor:
    """Confusion matrix of answering each cell with its most frequent class in training."""
    cells, labels = cell(train[0]).flatten(), train[1].flatten().long()
    labelled = labels != 255
    pairs = cells[labelled] * CLASSES + labels[labelled]
    counts = torch.bincount(pairs, minlength=int(cells.max() + 1) * CLASSES).view(-1, CLASSES)
    answers = counts.argmax(1)
    metric = ConfusionMatrix(CLASSES)
    metric.update(answers[cell(val[0]).clamp(max=len(answers) - 1)], val[1])
    return metric.compute()


def small_net() -> nn.Sequential:
    """Five 3 x 3 convolutions at full resolution: sees 11 x 11 pixels."""
    widths = [3, 64, 64, 64, 64, 64]
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.Conv2d(64, CLASSES, 1))


def trained_small_net(
    train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor], steps: int = 200
) -> Tensor:
    """Confusion matrix of the small network after a few epochs."""
    torch.manual_seed(0)
    net, loss = small_net(), SummedCrossEntropy()
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: (1 - i / steps) ** 0.9)
    for _ in tqdm(range(steps), desc="small network", unit="step"):
        batch = torch.randint(0, TRAIN, (8,))
        logits = net(normalize(train[0][batch], MEAN, STD))
        loss({"fused": logits}, train[1][batch])["fused"].backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    metric = ConfusionMatrix(CLASSES)
    net.eval()
    with torch.inference_mode():
        for image, mask in zip(*val, strict=True):
            logits = net(normalize(image[None], MEAN, STD))
            metric.update(logits.argmax(1), mask[None])
    return metric.compute()


def main() -> None:
    """Print one line a predictor."""
    begin = time.monotonic()
    train, val = stack("train", TRAIN), stack("val", VAL)
    color = lookup(color_cell, train, val)
    results = {
        "color lookup, 16 x 16 x 16": color,
        "color and place lookup": lookup(color_and_place_cell, train, val),
        "network that sees 11 x 11 pixels": trained_small_net(train, val),
    }
    largest, constant = constant_predictor(color)
    print(f"{f'constant ({Scenes.classes[largest]})':34} mIoU {constant:.4f}")
    for name, matrix in results.items():
        found = scores(matrix)
        print(f"{name:34} mIoU {found['miou']:.4f}  pixel accuracy {found['pixel_accuracy']:.4f}")
    print(f"{time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main()
