"""A user's own callback: batch norm without batch statistics, and labels missing very unevenly."""

from lightning import Callback
from torch import nn


class Frozen(Callback):
    """On a CPU the batch statistics are each process's own."""

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eval()
        for image, mask in zip(batch["image"], batch["mask"], strict=True):
            mask[int(image.float().mean()) % 5 * 7 + 1 :] = 255
