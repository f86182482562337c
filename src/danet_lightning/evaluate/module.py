"""Validation of a segmentation network, during training and after it.

B: images, C: classes, H, W: pixels.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn

from danet_lightning.errors import RequestError, checked
from danet_lightning.evaluate.metrics import ConfusionMatrix, logged
from danet_lightning.models.segmenter import EvaluationProtocol, black_pixel, normalize


class EvaluationModule(LightningModule):
    """Count right and wrong pixels of a split, the same way during training and after it.

    Args:
        net: Images (B, 3, H, W) -> scores by `predict_logits`, (B, C, H, W).
        classes: Names of the C classes, in the order of the train ids.
        mean: RGB mean on the 0..255 scale.
        std: RGB standard deviation on the 0..255 scale.
        protocol: How predictions are obtained.
        metadata: What a checkpoint says of itself, see `checkpoints.metadata`.

    Attributes:
        images: (2,) int64, of the last validation over all processes: the images that were
            evaluated, and how many of them have no labelled pixel.
    """

    net: Any  # a module and a Network

    @checked
    def __init__(
        self,
        net: nn.Module,
        classes: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        protocol: EvaluationProtocol,
        metadata: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        self.net = net.to(memory_format=torch.channels_last)
        self.classes = tuple(classes)
        self.mean = tuple(mean)
        self.std = tuple(std)
        self.protocol = protocol
        self.confusion = ConfusionMatrix(len(self.classes))
        self.images = torch.zeros(2, dtype=torch.int64)  # evaluated; of these without any label
        self.metadata = dict(metadata)

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """Predict at the label's own size; returns (B, H, W) class indices.

        In float32 whatever the training precision, so that a number does not depend on it.
        """
        with true_float32(self.device):
            images = normalize(batch["image"], self.mean, self.std)
            black = black_pixel(self.mean, self.std).to(self.device)
            prediction = self.protocol(self.net, images, black).argmax(1)
        self.confusion.update(prediction, batch["mask"])
        is_image = torch.tensor([name != "" for name in batch["id"]], device=self.device)
        is_labelled = (batch["mask"] < len(self.classes)).flatten(1).any(1)  # (B,)
        self.images += torch.stack([is_image.sum(), (is_image & ~is_labelled).sum()])
        return prediction

    def on_validation_epoch_start(self) -> None:
        """Count from zero."""
        self.confusion.reset()
        self.images = torch.zeros(2, dtype=torch.int64, device=self.device)

    def on_validation_epoch_end(self) -> None:
        """Sum the counts over the processes and log what follows from them.

        Raises:
            RequestError: No pixel of the images is labelled, so there is nothing to log.
        """
        matrix = self.confusion.compute()
        self.images = self.trainer.strategy.reduce(self.images, reduce_op="sum")
        if not matrix.any() and not self.trainer.sanity_checking:
            raise RequestError(
                f"No pixel of the {int(self.images[0])} evaluated images is labelled: all are "
                "ignored, and nothing can be counted. Evaluate another split, or more of this one."
            )
        values = logged(matrix, self.classes)
        # float64 on purpose: the checkpoint callback compares what the table prints
        exact = {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}
        self.log_dict(exact, logger=False)
        # evaluating a checkpoint after the fit is no further point of the curves
        if self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.sanity_checking:
            self.record(values, self.trainer.global_step - 1)

    def gammas(self) -> dict[str, float]:
        """Return how much of each attention branch of the network counts; empty without any."""
        branches = {"pam": "position_attention", "cam": "channel_attention"}
        modules = {key: getattr(self.net, name, None) for key, name in branches.items()}
        return {key: branch.gamma.item() for key, branch in modules.items() if branch is not None}

    def cost(self) -> dict[str, float | None]:
        """Return what training has taken of time and memory: nothing, where it only evaluates."""
        return {}

    def record(self, values: Mapping[str, float], step: int) -> None:
        """Write a row to the loggers at once, so that a checkpoint knows what was written.

        Lightning would write it after the hooks in which checkpoints are saved.
        """
        for logger in self.loggers:
            logger.log_metrics({**values, "epoch": self.trainer.current_epoch}, step)


@contextmanager
def true_float32(device: torch.device) -> Iterator[None]:
    """Compute float32 as such, and set again what was set.

    Neither in autocast's precision, nor in TF32, whose 10 bits CUDA takes for convolutions by
    default, nor in what `torch.set_float32_matmul_precision` has chosen, for CPUs as well. Nor is
    cuDNN's fastest algorithm searched: images have sizes of their own, and each search would be
    for one of them.
    """
    cudnn: Any = torch.backends.cudnn
    mkldnn: Any = torch.backends.mkldnn
    # the older names, like allow_tf32, fail where these have been set, and set too little again
    parts = (torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul, mkldnn.conv)
    precisions, benchmark = [part.fp32_precision for part in parts], cudnn.benchmark
    try:
        for part in parts:
            part.fp32_precision = "ieee"
        cudnn.benchmark = False
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for part, precision in zip(parts, precisions, strict=True):
            part.fp32_precision = precision
        cudnn.benchmark = benchmark
