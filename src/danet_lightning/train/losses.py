"""Compute the training loss: one cross-entropy for each output of the network, summed.

B: images, C: classes, H, W: pixels.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, cast

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeFloat, PositiveInt, with_config
from torch import Tensor, distributed, nn
from typing_extensions import TypedDict

from danet_lightning.data.base import IGNORE
from danet_lightning.errors import RequestError, checked

LEAST = torch.finfo(torch.float32).tiny  # divides the 0 of no labelled pixel, and nothing else
Weights = Annotated[Sequence[NonNegativeFloat], Field(min_length=1)]


@with_config({"extra": "forbid"})
class HardPixels(TypedDict):
    """Which pixels are learned from, see `hard_pixels`."""

    threshold: Annotated[float, Field(gt=0, le=1)]
    min_kept: PositiveInt


class SummedCrossEntropy(nn.Module):
    """Sum the outputs' cross-entropies (the authors' SegmentationMultiLosses, v0.5.0).

    Each term is a mean over the labelled pixels of the *global* batch: a process divides by the
    count over all processes, so that averaging the gradients over processes gives the gradient
    of one process with the whole batch, however unevenly the ignored pixels are spread. With
    class weights, a pixel counts as much as its class weighs, there as here. What else can be
    asked for keeps to that: it is decided for each image by itself.

    Args:
        aux_weight: Factor of the auxiliary output, when the network has one (MMSegmentation: 0.4).
        class_weights: One for each class, of which only the ratios matter. On the command line
            `auto` stands for those of `class_weights.from_shares` on the training split.
        ohem: Learn from hard pixels alone, see `hard_pixels`; the mean is still one over all
            labelled pixels, as in MMSegmentation, where the others count with 0.
        dice: Factor of a Dice loss that is added to each cross-entropy; an image counts in it as
            much as its labelled pixels. See `dice_losses`.

    Raises:
        RequestError: class_weights are all 0, or still to be counted.
    """

    class_weights: Tensor | None

    @checked
    def __init__(
        self,
        aux_weight: NonNegativeFloat = 0.4,
        class_weights: Literal["auto"] | Weights | None = None,
        ohem: HardPixels | None = None,
        dice: NonNegativeFloat = 0.0,
    ) -> None:
        super().__init__()
        if class_weights == "auto":
            raise RequestError("class_weights=auto is for danet train, which counts; give a list.")
        if class_weights is not None and not any(class_weights):
            raise RequestError("class_weights: all are 0, so nothing would be learned.")
        self.aux_weight = aux_weight
        weights = None if class_weights is None else torch.tensor(class_weights)
        self.register_buffer("class_weights", weights, persistent=False)
        self.ohem = ohem
        self.dice = dice

    def forward(self, outputs: dict[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
        """Compare every output with the labels.

        Args:
            outputs: Name -> (B, C, H, W) logits.
            mask: (B, H, W) train ids 0..C-1, or 255 for pixels that do not count.

        Returns:
            Name -> scalar; their sum is the training loss. 0 where no pixel is labelled.
        """
        mask = mask.long()
        counted = self.counted(mask).clamp(min=LEAST)
        terms = {
            name: self._sum(logits.float(), mask) / counted for name, logits in outputs.items()
        }
        if "aux" in terms:
            terms["aux"] = self.aux_weight * terms["aux"]
        return terms

    def counted(self, mask: Tensor) -> Tensor:
        """Sum the weights of (B, H, W) labels, which the mean is over; averaged over processes."""
        return over_processes(self._amounts(mask).sum())

    def _amounts(self, mask: Tensor) -> Tensor:
        """Return how much the labelled pixels of each image weigh: (B,)."""
        if self.class_weights is None:
            return (mask != IGNORE).sum((1, 2)).float()
        table = F.pad(self.class_weights, (0, IGNORE + 1 - len(self.class_weights)))
        return table[mask.long()].sum((1, 2))

    def _sum(self, logits: Tensor, mask: Tensor) -> Tensor:
        losses = F.cross_entropy(
            logits,
            mask,
            weight=self.class_weights,
            ignore_index=IGNORE,
            # on CUDA torch can add up in a fixed order only what it has not added up by itself
            reduction="none" if self.ohem or logits.is_cuda else "sum",
        )
        if self.ohem:
            losses = losses * hard_pixels(logits, mask, **self.ohem)  # (B, H, W)
        total = losses.sum()
        if self.dice:
            total = total + self.dice * (dice_losses(logits, mask) * self._amounts(mask)).sum()
        return total


@torch.no_grad()
def hard_pixels(logits: Tensor, mask: Tensor, threshold: float, min_kept: int) -> Tensor:
    """Find the pixels whose own class has a small probability, as MMSegmentation's OHEM does.

    Its OHEMPixelSampler(thresh, min_kept) on each image by itself: in a batch of several it would
    choose otherwise on another number of processes.

    Args:
        logits: (B, C, H, W).
        mask: (B, H, W) train ids, 255 is ignored.
        threshold: Pixels of a smaller probability are hard.
        min_kept: As many of each image are hard in any case, if so many are labelled.

    Returns:
        (B, H, W) booleans; False where the pixel is ignored.
    """
    is_labelled = mask != IGNORE
    classes = mask.where(is_labelled, 0)[:, None]
    probability = logits.softmax(1).gather(1, classes)[:, 0]  # (B, H, W)
    probability = probability.where(is_labelled, torch.inf)
    ascending = probability.flatten(1).sort(1).values  # (B, H * W)
    last = (is_labelled.sum((1, 2)) - 1).clamp(0, min_kept)[:, None]  # (B, 1)
    limit = ascending.gather(1, last).clamp(min=threshold)  # (B, 1)
    return probability < limit[:, :, None]


def dice_losses(logits: Tensor, mask: Tensor) -> Tensor:
    """Return one minus the Dice coefficient (V-Net, arXiv 1606.04797, section 3) of each image.

    It is the mean over the classes that the image's labels hold, of probabilities at the labelled
    pixels.

    Args:
        logits: (B, C, H, W).
        mask: (B, H, W) train ids, 255 is ignored.

    Returns:
        (B,) losses from 0 to 1; 0 where no pixel is labelled.
    """
    classes = torch.arange(logits.shape[1], device=mask.device)
    belongs = mask[:, None] == classes[:, None, None]  # (B, C, H, W)
    probabilities = logits.softmax(1) * (mask != IGNORE)[:, None]
    common = (probabilities * belongs).sum((2, 3))  # (B, C)
    both = probabilities.square().sum((2, 3)) + belongs.sum((2, 3))
    is_there = belongs.any(3).any(2)
    losses = (1 - 2 * common / both.clamp(min=1e-6)) * is_there
    return losses.sum(1) / is_there.sum(1).clamp(min=1)


def require_terms(terms: Any) -> Mapping[str, Tensor]:
    """Return what a loss has computed, if it is scalars by name.

    Raises:
        RequestError: It is something else.
    """
    is_right = isinstance(terms, Mapping) and len(terms) > 0
    if not is_right or any(getattr(term, "shape", None) != () for term in terms.values()):
        kinds = {name: _shown(term) for name, term in terms.items()} if is_right else _shown(terms)
        raise RequestError(
            f"loss: returns {kinds}; {{name: scalar tensor}} is wanted, as of SummedCrossEntropy: "
            "at least one, each a mean over the labelled pixels."
        )
    return cast(Mapping[str, Tensor], terms)


def _shown(value: Any) -> str:
    return f"{type(value).__name__} {tuple(getattr(value, 'shape', ()))}".removesuffix(" ()")


def labelled_pixels(mask: Tensor) -> Tensor:
    """Count the labelled pixels of (B, H, W) train ids, on average over the processes.

    DDP averages gradients over the processes, so sums are divided by this float scalar.
    """
    return over_processes((mask != IGNORE).sum().float())


def over_processes(value: Tensor) -> Tensor:
    """Average a scalar over the processes; changed in place."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(value)
        value = value / distributed.get_world_size()
    return value
