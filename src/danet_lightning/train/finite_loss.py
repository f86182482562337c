"""Stop a training at the first loss that is no number, and keep the images it came from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, distributed
from typing_extensions import override

from danet_lightning.checkpoints.saving import save_atomically
from danet_lightning.errors import RunError, checked


class FiniteLoss(Callback):
    """Stop a training before a NaN or infinite loss reaches the weights.

    Args:
        run_dir: The batch is written there, as `nonfinite_step_<step>[_rank_<rank>].pt`.
    """

    @checked
    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
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
        is_bad_anywhere = is_bad.float()  # every process has to stop, or the others would wait
        if trainer.world_size > 1:
            distributed.all_reduce(is_bad_anywhere, distributed.ReduceOp.MAX)
        if not is_bad_anywhere.item():
            return
        step = trainer.global_step + 1
        if not is_bad:
            raise RunError(
                f"The loss of step {step} is no number in another process, which names the images."
            )
        rank = f"_rank_{trainer.global_rank}" if trainer.world_size > 1 else ""
        path = self.run_dir / f"nonfinite_step_{step}{rank}.pt"
        save_atomically({**self._batch, "loss": loss.item(), "step": step}, path)
        raise RunError(
            f"The loss of step {step} is {loss.item()}. Its images: {', '.join(self._batch['id'])}."
            f" The batch is kept in {path} (torch.load), the weights before it in last.ckpt or "
            "earlier. Look at the images (danet check), or lower optimizer.lr."
        )
