"""Evaluation from one confusion matrix: C classes, rows are labels, columns predictions."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from danet_lightning.data.base import IGNORE
from danet_lightning.errors import RequestError


class ConfusionMatrix(Metric):
    """Counts of (label, prediction) pairs over a whole data set, exact in int64.

    Summed over processes when computed; every image must be seen by exactly one of them.

    Args:
        num_classes: C. Labels of 255 are not counted.
    """

    full_state_update = False
    matrix: Tensor
    strangers: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        zeros = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        self.add_state("matrix", default=zeros, dist_reduce_fx="sum")
        none = torch.zeros((), dtype=torch.int64)  # labels of no class; kept apart, as asking waits
        self.add_state("strangers", default=none, dist_reduce_fx="sum")

    def update(self, prediction: Tensor, label: Tensor) -> None:
        """Count every pixel of integer tensors of the same shape."""
        # Ignored pixels go to row C, which is dropped: four times faster than masking them out.
        row = label.long().clamp(max=self.num_classes)
        pairs = (row * self.num_classes + prediction).flatten()
        counts = torch.bincount(pairs, minlength=(self.num_classes + 1) * self.num_classes)
        counts = counts.view(self.num_classes + 1, self.num_classes)
        self.matrix += counts[:-1]
        self.strangers += counts[-1].sum() - (label == IGNORE).sum()

    def compute(self) -> Tensor:
        """Return the (C, C) int64 counts.

        Raises:
            RequestError: A label was neither one of the C classes nor 255.
        """
        if self.strangers:
            raise RequestError(
                f"dataset: {int(self.strangers)} pixels have labels that are neither one of the "
                f"{self.num_classes} classes, 0 to {self.num_classes - 1}, nor {IGNORE}, which is "
                "ignored. Map them to one of these where the labels are read."
            )
        return self.matrix


def class_iou(matrix: Tensor) -> Tensor:
    """Return (C,) float64 intersection over union; NaN if neither labelled nor predicted."""
    matrix = matrix.double()
    intersection = matrix.diagonal()
    return intersection / (matrix.sum(0) + matrix.sum(1) - intersection)


def class_accuracy(matrix: Tensor) -> Tensor:
    """Return the (C,) float64 share of a class's labelled pixels predicted right; NaN: no label."""
    matrix = matrix.double()
    return matrix.diagonal() / matrix.sum(1)


def scores(matrix: Tensor) -> dict[str, float]:
    """Summarize a (C, C) confusion matrix; NaN classes are left out of the means."""
    share = matrix.sum(1).double() / matrix.sum()  # NaN, as every score, where nothing was counted
    iou = class_iou(matrix)
    return {
        "miou": iou.nanmean().item(),
        "pixel_accuracy": (matrix.diagonal().sum().double() / matrix.sum()).item(),
        "mean_accuracy": class_accuracy(matrix).nanmean().item(),
        "frequency_weighted_iou": (share * iou.nan_to_num(0)).sum().item(),
    }


def logged(matrix: Tensor, classes: Sequence[str]) -> dict[str, float]:
    """Return what a validation logs of its (C, C) confusion matrix, by the names of metrics."""
    values = {f"val/{name}": value for name, value in scores(matrix).items()}
    ious = zip(classes, class_iou(matrix).tolist(), strict=True)
    return values | {f"val/iou/{name}": iou for name, iou in ious}


def constant_predictor(matrix: Tensor) -> tuple[int, float]:
    """Return the class with most labelled pixels, and the mIoU of predicting it everywhere.

    Every other labelled class then has IoU 0, so the mean runs over all labelled classes; it is
    NaN where no pixel is labelled.
    """
    labels = matrix.sum(1).double()
    miou = labels.max() / labels.sum() / (labels > 0).sum()
    return int(labels.argmax()), miou.item()


def absent(matrix: Tensor, classes: Sequence[str]) -> list[str]:
    """Return the classes without a labelled pixel; their IoU is 0 if predicted, NaN otherwise."""
    return [name for name, pixels in zip(classes, matrix.sum(1), strict=True) if not pixels]


def table(matrix: Tensor, classes: Sequence[str]) -> str:
    """Return one line a class: IoU, accuracy and share of the labelled pixels, then the summary."""
    width = max(map(len, [*classes, "class"]))
    share = matrix.sum(1).double() / matrix.sum()
    lines = [f"{'class':<{width}}     IoU  accuracy  share of pixels"]
    for name, iou, accuracy, part in zip(
        classes, class_iou(matrix), class_accuracy(matrix), share, strict=True
    ):
        lines.append(f"{name:<{width}}  {iou:6.4f}    {accuracy:6.4f}           {part:6.4f}")
    if missing := absent(matrix, classes):
        meaning = "nan: in no mean; IoU 0: predicted all the same, and in mIoU"
        lines.append(f"\nno labelled pixel: {', '.join(missing)} ({meaning})")
    summary = scores(matrix)
    lines.append("")
    lines.append(
        f"mIoU {summary['miou']:.4f}   pixel accuracy {summary['pixel_accuracy']:.4f}   "
        f"mean accuracy {summary['mean_accuracy']:.4f}   "
        f"frequency-weighted IoU {summary['frequency_weighted_iou']:.4f}"
    )
    return "\n".join(lines)
