"""Write the checkpoint that a run goes on from, so exact that a kill costs nothing but time."""

import logging
import signal
import time
from copy import deepcopy
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from pydantic import PositiveFloat
from torch import distributed
from typing_extensions import override

from danet_lightning.errors import checked
from danet_lightning.processes import slurm

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class LastCheckpoint(Checkpoint):
    """Write `last.ckpt`, from which a run goes on as if it had never stopped.

    It is written before each epoch, before each validation, every few minutes, at the end, and
    when SIGTERM, SIGINT or (under SLURM, which then requeues the job) SIGUSR1 ends the run. It has
    to be the first callback, so that it saves before the others do anything in the same hook.

    Args:
        run_dir: Folder of the file.
        every_minutes: Time after which it is written again within an epoch.
    """

    @checked
    def __init__(self, run_dir: Path, every_minutes: PositiveFloat = 10.0) -> None:
        self.path = run_dir / "last.ckpt"
        self.every_seconds = 60 * every_minutes
        self._signal = 0  # the last one that arrived; 0: none
        self._saved_at = 0.0
        self._rows: dict[str, Any] = {}  # what the loggers of earlier starts had written
        self._states: dict[str, Any] = {}  # what the resumed checkpoint says of the callbacks
        self._before_validation: dict[str, Any] = {}
        self._group: Any = None

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for callback in trainer.checkpoint_callbacks:
            state = self._states.get(callback.state_key, {})
            if "current_score" in state and state["dirpath"] == getattr(callback, "dirpath", None):
                # ModelCheckpoint writes its score into a checkpoint, and does not read it back
                callback.current_score = state["current_score"]  # type: ignore[attr-defined]

    # ---- when it is written: where nothing is half done, and no hook has to be called again

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._signal = 0
        self._saved_at = time.monotonic()
        for number in SIGNALS:  # Lightning restores the old handlers at the end
            signal.signal(number, self._notice)
        if trainer.world_size > 1:  # on the CPU: no step has to wait for a GPU to be asked
            self._group = distributed.new_group(backend="gloo")

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer)
        self._leave_if_asked(trainer)

    @override
    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx % trainer.accumulate_grad_batches:
            return  # gradients in the making cannot be saved
        is_due = time.monotonic() - self._saved_at > self.every_seconds
        number, due = self._agree(trainer, self._signal, is_due and trainer.is_global_zero)
        if number or due:
            self._save(trainer)
        if number:
            self._leave(trainer, number)

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._before_validation = {}
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
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer)
        self._leave_if_asked(trainer)

    # ---- what is in it, as in every other checkpoint of the run

    @override
    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.state.fn != "fit":
            return
        for logger in trainer.loggers:
            logger.save()
        rows = {type(logger).__name__: getattr(logger, "rows", None) for logger in trainer.loggers}
        checkpoint["rows"] = self._rows | {k: v for k, v in rows.items() if v is not None}
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        checkpoint["data"] = {
            split: data.digests(split) for split in ("train", data.validation_split)
        }
        progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]
        checkpoint["epoch"] = progress["total"]["completed"]
        if trainer.validating:  # some callbacks have seen it and some have not: it is done again
            if not self._before_validation:
                keys = ("loops", "callbacks", "rows", "epoch")
                self._before_validation = deepcopy({key: checkpoint[key] for key in keys})
            checkpoint.update(self._before_validation)

    @override
    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.state.fn != "fit":
            return
        here = self.path.resolve().parent
        if Path(str(trainer.ckpt_path)).resolve().parent == here:
            _move(checkpoint["callbacks"], str(here))
        for state in checkpoint["callbacks"].values():
            if not Path(state.get("best_model_path", ".")).exists():
                state["best_model_path"] = ""  # it was left in another folder
        self._states = checkpoint["callbacks"]
        self._rows = checkpoint["rows"]
        for logger in trainer.loggers:
            rows = self._rows.get(type(logger).__name__)
            if rows is not None:
                logger.continue_from(rows)  # type: ignore[attr-defined]

    # ----

    def _save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self._saved_at = time.monotonic()

    def _notice(self, number: int, frame: FrameType | None) -> None:
        if self._signal and number == signal.SIGINT:
            raise KeyboardInterrupt  # the second Ctrl-C does not wait for the step
        self._signal = number

    def _agree(self, trainer: Trainer, number: int, due: bool) -> tuple[int, bool]:
        """Return the largest signal of all processes, and whether any wants to save.

        All of them have to save at the same step.
        """
        wanted = torch.tensor([number, int(due)])
        if trainer.world_size > 1:
            distributed.all_reduce(wanted, distributed.ReduceOp.MAX, group=self._group)
        return int(wanted[0]), bool(wanted[1])

    def _leave_if_asked(self, trainer: Trainer) -> None:
        number, _ = self._agree(trainer, self._signal, False)
        if number:
            self._leave(trainer, number)

    def _leave(self, trainer: Trainer, number: int) -> None:
        name = signal.Signals(number).name
        if not trainer.is_global_zero:
            raise SystemExit(0)  # on another code of a child, Lightning kills the first process
        step = trainer.global_step
        log.warning(f"{name}: stopped after step {step}; {self.path} is what the run goes on from.")
        if number == signal.SIGUSR1 and slurm.is_job():
            slurm.requeue()
        raise SystemExit(128 + number)


def _move(states: dict[str, dict[str, Any]], here: str) -> None:
    """Rename the run folder in the callbacks' states: it may have moved with its checkpoint."""
    for state in states.values():
        there = state.get("dirpath", here)
        for key, value in state.items():
            if isinstance(value, str):
                state[key] = value.replace(there, here, 1)
            elif key == "best_k_models":
                state[key] = {p.replace(there, here, 1): score for p, score in value.items()}
