"""A user's own loss: with an operation that has no deterministic form."""

import torch

from danet_lightning.train.losses import SummedCrossEntropy


class Loose(SummedCrossEntropy):
    def forward(self, outputs, mask):
        torch.zeros(3).put_(torch.tensor([1, 1]), torch.ones(2))
        return super().forward(outputs, mask)
