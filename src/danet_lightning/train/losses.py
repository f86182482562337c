"""Compute the training loss: one cross-entropy for each output of the network, summed.

B: images, C: classes, H, W: pixels.
"""

import torch.nn.functional as F
from pydantic import NonNegativeFloat
from torch import Tensor, distributed, nn

from danet_lightning.data.base import IGNORE
from danet_lightning.errors import checked


class SummedCrossEntropy(nn.Module):
    """Sum the outputs' cross-entropies (the authors' SegmentationMultiLosses, v0.5.0).

    Each term is a mean over the labelled pixels of the *global* batch: a process divides by the
    count over all processes, so that averaging the gradients over processes gives the gradient
    of one process with the whole batch, however unevenly the ignored pixels are spread.

    Args:
        aux_weight: Factor of the auxiliary output, when the network has one (MMSegmentation: 0.4).
    """

    @checked
    def __init__(self, aux_weight: NonNegativeFloat = 0.4) -> None:
        super().__init__()
        self.aux_weight = aux_weight

    def forward(self, outputs: dict[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
        """Compare every output with the labels.

        Args:
            outputs: Name -> (B, C, H, W) logits.
            mask: (B, H, W) train ids 0..C-1, or 255 for pixels that do not count.

        Returns:
            Name -> scalar; their sum is the training loss. 0 where no pixel is labelled.
        """
        mask = mask.long()
        labelled = labelled_pixels(mask).clamp(min=1e-6)  # 0 / 1e-6 without any
        terms = {
            name: F.cross_entropy(logits.float(), mask, ignore_index=IGNORE, reduction="sum")
            / labelled
            for name, logits in outputs.items()
        }
        if "aux" in terms:
            terms["aux"] = self.aux_weight * terms["aux"]
        return terms


def labelled_pixels(mask: Tensor) -> Tensor:
    """Count the labelled pixels of (B, H, W) train ids, on average over the processes.

    DDP averages gradients over the processes, so sums are divided by this float scalar.
    """
    labelled = (mask != IGNORE).sum().float()
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(labelled)
        labelled = labelled / distributed.get_world_size()
    return labelled
