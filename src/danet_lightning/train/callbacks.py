"""Show a person how a run goes on: progress, curves, predictions."""

import io
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
from danet_lightning.evaluate.metrics import class_iou
from danet_lightning.pictures.confusion import class_bars, confusion_figure, rendered
from danet_lightning.pictures.curves import curves
from danet_lightning.pictures.panels import contact_sheet, strip
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
    """Draw some validation samples as image / label / prediction / errors, and the curves so far.

    An evaluation that is no part of a training, as the one at its end, is drawn as a confusion
    matrix and as bars, one for the IoU of each class.

    Args:
        run_dir: Folder of predictions.png and curves.png, written anew after each validation, and
            of confusion.png and classes.png, at the end.
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
            strip(
                _pixels(batch["image"][0]).transpose(1, 2, 0),
                _pixels(batch["mask"][0]),
                _pixels(outputs[0]),
                facts["palette"],
                facts["classes"],
            )
        )

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "validate":
            self._draw_classes(trainer, pl_module)
        if not self._panels:
            return
        sheet = contact_sheet(self._panels, _title(trainer, pl_module))
        write_atomically(self.run_dir / "predictions.png", lambda file: sheet.save(file, "PNG"))
        if trainer.state.fn == "fit":
            self.on_fit_end(trainer, pl_module)
            self._track(trainer, "val/predictions", sheet)

    def _draw_classes(self, trainer: Trainer, pl_module: Any) -> None:
        matrix = pl_module.confusion.compute().cpu()  # by all processes
        if not trainer.is_global_zero:
            return
        iou = class_iou(matrix).tolist()
        for name, figure in (
            ("confusion", confusion_figure(matrix.numpy(), pl_module.classes)),
            ("classes", class_bars(iou, pl_module.classes)),
        ):
            picture = Image.open(io.BytesIO(rendered(figure, "png"))).convert("RGB")
            path = self.run_dir / f"{name}.png"
            write_atomically(path, lambda file, it=picture: it.save(file, "PNG"))  # type: ignore[misc]
            self._track(trainer, f"val/{name}", picture)

    def _track(self, trainer: Trainer, key: str, picture: Image.Image) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                if trainer.state.fn == "fit":
                    logger.log_image(key, [picture], step=trainer.global_step)
                else:  # no row, by whose number a longer training would go on
                    import wandb  # evaluate has no use for it

                    logger.experiment.summary[key] = wandb.Image(picture)
            elif isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(
                    key, np.asarray(picture), trainer.global_step, dataformats="HWC"
                )

    @override
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, MetricsFile) and trainer.is_global_zero:
                logger.save()
                if logger.path.is_file():
                    curves(logger.path, self.run_dir / "curves.png")


def _title(trainer: Trainer, module: Any) -> str:
    """Tell which weights a validation has measured, and how well they do on the whole split."""
    weights = f"step {trainer.global_step}, epoch {trainer.current_epoch + 1}: "
    if trainer.state.fn != "fit":  # after the training, or without one
        path = trainer.ckpt_path
        weights = f"{Path(path).name}, step {module.loaded_step}: " if path else ""
    return f"{weights}mIoU {float(trainer.callback_metrics['val/miou']):.4f}"


def _pixels(tensor: Tensor) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """Return a tensor of small integers as uint8 on the CPU."""
    return tensor.cpu().numpy().astype(np.uint8)
