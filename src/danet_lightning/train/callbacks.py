"""Show a person how a run goes on: progress, curves, predictions."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from PIL import Image
from pydantic import NonNegativeInt
from torch import Tensor
from tqdm import tqdm
from typing_extensions import override

from danet_lightning.disk.progress import bar
from danet_lightning.disk.writing import write_atomically
from danet_lightning.errors import checked
from danet_lightning.pictures.curves import curves
from danet_lightning.pictures.masks import contact_sheet, triptych
from danet_lightning.train.metrics_file import MetricsFile


class Progress(ProgressBar):
    """Draw one bar over the whole fit, so that the time left is the time left; a line an epoch."""

    def __init__(self) -> None:
        super().__init__()
        self._steps: tqdm[Any] | None = None
        self._images: tqdm[Any] | None = None
        self._is_shown = True

    @override
    def disable(self) -> None:
        self._is_shown = False  # on every process but the first

    @override
    def enable(self) -> None:
        self._is_shown = True

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        total, done = int(trainer.estimated_stepping_batches), trainer.global_step
        self._steps = bar(
            disable=not self._is_shown, total=total, initial=done, desc="train", unit="step"
        )

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._steps is not None and trainer.global_step > self._steps.n:
            if trainer.global_step % 10 == 0:
                loss = float(trainer.callback_metrics["train/loss"])
                self._steps.set_postfix(loss=f"{loss:.3f}", refresh=False)
            self._steps.update(trainer.global_step - self._steps.n)

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        total = int(sum(trainer.num_val_batches))
        self._images = bar(
            disable=not self._is_shown, total=total, desc="evaluate", unit="image", leave=False
        )

    @override
    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any
    ) -> None:
        if self._images is not None:
            self._images.update()

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._images is not None:
            self._images.close()
        if self._steps is None or not self._is_shown or trainer.state.fn != "fit":
            return
        metrics = trainer.callback_metrics
        of = f"/{trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else ""  # or max_steps
        # a run that goes on with this validation has no step yet
        loss = f"loss {float(metrics['train/loss']):.3f}  " if "train/loss" in metrics else ""
        self._steps.write(
            f"epoch {trainer.current_epoch + 1}{of}  {loss}mIoU {float(metrics['val/miou']):.4f}  "
            f"pixel accuracy {float(metrics['val/pixel_accuracy']):.4f}",
            file=sys.stderr,
        )

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._steps is not None:
            self._steps.close()

    @override
    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self.on_train_end(trainer, pl_module)


class Pictures(Callback):
    """Draw some validation samples as image / label / prediction, and the curves so far.

    Args:
        run_dir: Folder of predictions.png and curves.png, written anew after each validation.
        count: How many samples, evenly spread over the split.
    """

    @checked
    def __init__(self, run_dir: Path, count: NonNegativeInt = 4) -> None:
        self.run_dir = run_dir
        self.count = count
        self._panels: list[Image.Image] = []

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._panels = []

    @override
    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Mapping[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        step = max(1, int(sum(trainer.num_val_batches)) // max(1, self.count))
        if not trainer.is_global_zero or batch_idx % step or len(self._panels) >= self.count:
            return
        facts: dict[str, Any] = pl_module.metadata  # type: ignore[assignment]
        self._panels.append(
            triptych(
                _pixels(batch["image"][0]).transpose(1, 2, 0),
                _pixels(batch["mask"][0]),
                _pixels(outputs[0]),
                facts["palette"],
                facts["classes"],
            )
        )

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._panels:
            return
        sheet = contact_sheet(self._panels)
        write_atomically(self.run_dir / "predictions.png", lambda file: sheet.save(file, "PNG"))
        if trainer.state.fn != "fit":
            return
        self.on_fit_end(trainer, pl_module)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image("val/predictions", [sheet], step=trainer.global_step)
            elif isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(
                    "val/predictions", np.asarray(sheet), trainer.global_step, dataformats="HWC"
                )

    @override
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, MetricsFile) and trainer.is_global_zero:
                logger.save()
                if logger.path.is_file():
                    curves(logger.path, self.run_dir / "curves.png")


def _pixels(tensor: Tensor) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """Return a tensor of small integers as uint8 on the CPU."""
    return tensor.cpu().numpy().astype(np.uint8)
