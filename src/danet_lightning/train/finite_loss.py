"""A training that stops at the first loss that is no number, and shows the images it came from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, distributed
from typing_extensions import override

from danet_lightning.checkpoints.saving import save_atomically
from danet_lightning.errors import RunError


class FiniteLoss(Callback):
    """Stop before a NaN or infinite loss reaches the weights.

    Args:
        run_dir: the batch is written there, as `nonfinite_step_<step>[_rank_<rank>].pt`.
    """

    def __init__(self, run_dir: str) -> None:
        self.run_dir = Path(run_dir)
        self._batch: Mapping[str, Any] = {}

    @override
    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._batch = batch

    @override
    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        is_bad = ~torch.isfinite(loss.detach())
        of_any = is_bad.float()  # every process has to stop, or the others would wait for it
        if trainer.world_size > 1:
            distributed.all_reduce(of_any, distributed.ReduceOp.MAX)
        if of_any.item():
            self._stop(trainer, float(loss.detach()), bool(is_bad))

    def _stop(self, trainer: Trainer, loss: float, is_mine: bool) -> None:
        step = trainer.global_step + 1
        text = f"The loss of step {step} is no number in another process, which names the images."
        if is_mine:
            rank = f"_rank_{trainer.global_rank}" if trainer.world_size > 1 else ""
            path = self.run_dir / f"nonfinite_step_{step}{rank}.pt"
            save_atomically({**self._batch, "loss": loss, "step": step}, path)
            text = (
                f"The loss of step {step} is {loss}. Its images: {', '.join(self._batch['id'])}. "
                f"The batch is kept in {path} (torch.load), the weights before it in last.ckpt "
                "or earlier. Look at the images (danet check), or lower optimizer.lr."
            )
        raise RunError(text)
