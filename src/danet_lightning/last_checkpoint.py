"""The checkpoint that a run goes on from, so exact that a kill costs nothing but time."""

import logging
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from pydantic import PositiveFloat
from torch import distributed
from typing_extensions import override

from danet_lightning import slurm

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class LastCheckpoint(Checkpoint):
    """Keep `last.ckpt`, from which a run goes on as if it had never stopped.

    It is written before the first step, before and after each validation, every few minutes, and
    when SIGTERM, SIGINT or (under SLURM, which then requeues the job) SIGUSR1 ends the run.

    Args:
        run_dir: the folder of the file.
        every_minutes: the time after which it is written anew between two validations.
    """

    def __init__(self, run_dir: str, every_minutes: PositiveFloat = 10.0) -> None:
        self.path = Path(run_dir) / "last.ckpt"
        self.every_seconds = 60 * every_minutes
        self._signal = 0  # that arrived; 0: none
        self._saved_at = 0.0
        self._rows: dict[str, int] = {}
        self._loader: dict[str, Any] = {}
        self._group: Any = None

    # ---- when it is written

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._signal = 0
        self._saved_at = time.monotonic()
        for number in SIGNALS:  # Lightning restores the old handlers at the end
            signal.signal(number, self._notice)
        if trainer.world_size > 1:  # on the CPU: no step has to wait for a GPU to be asked
            self._group = distributed.new_group(backend="gloo")
        if self._loader:  # Lightning has made the loader before it read this, and forgets it
            trainer.train_dataloader.load_state_dict(self._loader)  # type: ignore[union-attr]
        if trainer.global_step == 0:
            self._save(trainer)

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.is_last_batch or (batch_idx + 1) % trainer.accumulate_grad_batches:
            return  # the end of the epoch saves; gradients in the making cannot be saved
        is_due = time.monotonic() - self._saved_at > self.every_seconds
        number, due = self._agree(trainer, self._signal, is_due and trainer.is_global_zero)
        if number or due:
            self._save(trainer)
        if number:
            self._leave(trainer, number)

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._rows = self._count_rows(trainer)
            self._save(trainer)

    @override
    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any
    ) -> None:
        if self._signal:  # what was saved before this validation is all there is to save
            launcher = trainer.strategy.launcher
            if trainer.is_global_zero and launcher is not None:
                launcher.kill(self._signal)  # the others may not have been told
            self._leave(trainer, self._signal)

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer)
        number, _ = self._agree(trainer, self._signal, False)
        if number:
            self._leave(trainer, number)

    # ---- what is in it, as in every other checkpoint of the run

    @override
    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["rows"] = self._rows if trainer.validating else self._count_rows(trainer)
        for logger in trainer.loggers:
            logger.save()
        between_batches(checkpoint["loops"]["fit_loop"])

    @override
    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.state.fn != "fit":
            return
        here = self.path.resolve().parent
        if Path(str(trainer.ckpt_path)).resolve().parent == here:
            self._follow(checkpoint["callbacks"], str(here))
        loop = checkpoint["loops"]["fit_loop"]["state_dict"]
        self._loader = next(iter(loop.get("combined_loader", [])), {})
        for logger in trainer.loggers:
            rows = checkpoint["rows"].get(type(logger).__name__)
            if rows is not None:
                logger.continue_from(rows)  # type: ignore[attr-defined]

    # ----

    def _follow(self, states: dict[str, dict[str, Any]], here: str) -> None:
        """Rename the run folder in the callbacks' states: it may have moved with its checkpoint."""
        for state in states.values():
            there = state.get("dirpath", here)
            for key, value in state.items():
                if isinstance(value, str):
                    state[key] = value.replace(there, here, 1)
                elif key == "best_k_models":
                    state[key] = {p.replace(there, here, 1): score for p, score in value.items()}

    def _save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self._saved_at = time.monotonic()

    def _count_rows(self, trainer: Trainer) -> dict[str, int]:
        counts = {
            type(logger).__name__: getattr(logger, "rows", None) for logger in trainer.loggers
        }
        return {name: rows for name, rows in counts.items() if rows is not None}

    def _notice(self, number: int, frame: FrameType | None) -> None:
        if self._signal and number == signal.SIGINT:
            raise KeyboardInterrupt  # the second Ctrl-C does not wait for the step
        self._signal = number

    def _agree(self, trainer: Trainer, number: int, due: bool) -> tuple[int, bool]:
        """The largest of what the processes want: all of them have to save at the same step."""
        wanted = torch.tensor([number, int(due)])
        if trainer.world_size > 1:
            distributed.all_reduce(wanted, distributed.ReduceOp.MAX, group=self._group)
        return int(wanted[0]), bool(wanted[1])

    def _leave(self, trainer: Trainer, number: int) -> None:
        name = signal.Signals(number).name
        if not trainer.is_global_zero:
            raise SystemExit(0)  # of a child that fails, Lightning would kill the first process
        step = trainer.global_step
        log.warning(f"{name}: stopped after step {step}; {self.path} is what the run goes on from.")
        if number == signal.SIGUSR1 and slurm.is_job():
            slurm.requeue()
        raise SystemExit(128 + number)


def between_batches(fit_loop: dict[str, Any]) -> None:
    """Turn Lightning's counters, taken inside a hook, into those between two batches or epochs.

    Lightning guesses from half-incremented counters where to go on, and skips a validation, a row
    or a hook in some of the cases. What is left here are three: before a batch; before the
    validation that follows a batch; before an epoch.
    """
    batches, epochs = fit_loop["epoch_loop.batch_progress"], fit_loop["epoch_progress"]
    is_over = (
        batches["is_last_batch"] and epochs["current"]["processed"] > epochs["current"]["completed"]
    )
    for count in (batches["total"], batches["current"]):
        _settle(count, count["processed"], count["processed"])
    for count in (epochs["total"], epochs["current"]):
        done = count["processed" if is_over else "completed"]
        _settle(count, done if is_over else count["ready"], done)
    if is_over:
        _settle(batches["current"], 0, 0)
        batches["is_last_batch"] = False
    steps = fit_loop["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]
    fit_loop["epoch_loop.state_dict"]["_batches_that_stepped"] = steps["total"]["completed"]
    # "in the middle of a validation": if one is due after the batch, it runs from its beginning
    validation = fit_loop["epoch_loop.val_loop.batch_progress"]
    _settle(validation["total"], int(batches["current"]["processed"] > 0), 0)
    _settle(validation["current"], 0, 0)
    validation["is_last_batch"] = False


def _settle(count: dict[str, int], begun: int, done: int) -> None:
    count.update(ready=begun, started=begun, processed=done, completed=done)
