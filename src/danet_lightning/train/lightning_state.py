"""Make Lightning's loops say exactly where a training is, and go on exactly there.

Lightning guesses from half-incremented counters where to go on, and in some cases skips a
validation, a row or a hook, or leaves counters that another start would not have. The two loops
here write a position into every checkpoint, and begin at it. All names of Lightning that are
private to it and that we lean on are in this file; they are those of Lightning 2.6.
"""

from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.loops.fit_loop import RestartStage, _FitLoop
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from typing_extensions import override

from danet_lightning.data.samples.loader import TrainingLoader
from danet_lightning.errors import RequestError


def use_exact_loops(trainer: Trainer) -> None:
    """Replace the loops of a Trainer by loops that begin where a checkpoint says."""
    old = trainer.fit_loop
    loop = ExactFitLoop(trainer, old.min_epochs, old.max_epochs)
    loop.epoch_loop = ExactEpochLoop(trainer, old.epoch_loop.min_steps, old.epoch_loop.max_steps)
    trainer.fit_loop = loop


class ExactEpochLoop(_TrainingEpochLoop):
    """Run an epoch that can begin between two of its batches, or with a validation due there.

    Attributes:
        begins_inside: Whether the epoch had begun when the checkpoint was written.
        validation_is_due: Whether the validation after the last batch comes before the next one.
    """

    begins_inside = False
    validation_is_due = False

    @property
    @override
    def done(self) -> bool:
        return not self.validation_is_due and super().done

    @override
    def reset(self) -> None:
        if self.begins_inside:
            self.begins_inside = False  # the counters are those of the checkpoint
        else:
            super().reset()

    @override
    def advance(self, data_fetcher: Any) -> None:
        if not self.validation_is_due:
            super().advance(data_fetcher)

    @override
    def on_advance_end(self, data_fetcher: Any) -> None:
        super().on_advance_end(data_fetcher)
        self.validation_is_due = False

    @override
    def _should_check_val_fx(self, data_fetcher: Any) -> bool:
        return self.validation_is_due or super()._should_check_val_fx(data_fetcher)


class ExactFitLoop(_FitLoop):
    """Run epochs, beginning behind those and within the one that a checkpoint has done."""

    epoch_loop: ExactEpochLoop

    def __init__(self, *limits: Any) -> None:
        super().__init__(*limits)
        self._metrics: dict[str, Any] = {}  # that callbacks could see when it was written

    @property
    @override
    def done(self) -> bool:
        return not self.epoch_loop.validation_is_due and super().done

    @property
    def _epochs(self) -> Any:
        return self.epoch_progress.current

    @property
    def _batches(self) -> Any:  # of the epoch
        return self.epoch_loop.batch_progress.current

    # ---- what a checkpoint says

    @override
    def on_save_checkpoint(self) -> dict[str, Any]:
        metrics = self.trainer.callback_metrics
        return {
            "is_inside": self._is_inside(),
            "validation_is_due": self._validation_is_due(),
            "should_stop": self.trainer.should_stop,
            "metrics": {name: value.detach().cpu().clone() for name, value in metrics.items()},
        }

    @override
    def state_dict(self, destination: Any = None, prefix: str = "") -> dict[str, Any]:
        """Return the loops' counters as they are between two batches, whatever hook saves."""
        state: dict[str, Any] = super().state_dict(destination, prefix)
        position = state["state_dict"]
        is_inside, is_due = position["is_inside"], position["validation_is_due"]
        epochs, batches = state["epoch_progress"], state["epoch_loop.batch_progress"]
        done = epochs["current"]["processed"]
        if is_inside and done == epochs["current"]["started"]:
            done -= 1  # ended within it
        optimization = state["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]
        validation = state["epoch_loop.val_loop.batch_progress"]
        batches["is_last_batch"] &= is_inside and (
            batches["current"]["ready"] == batches["current"]["processed"]
        )
        for count in epochs["total"], epochs["current"]:
            _settle(count, done + is_inside, done)
        for progress in (
            *(batches, optimization["step"], optimization["zero_grad"]),
            state["epoch_loop.scheduler_progress"],
        ):
            for name in "total", "current":
                key = "processed" if "processed" in progress[name] else "completed"
                number = progress[name][key] if is_inside or name == "total" else 0
                _settle(progress[name], number, number)
        for count in validation["total"], validation["current"]:
            _settle(count, 0, 0)  # one that was broken off begins anew
        validation["is_last_batch"] = False
        steps = optimization["step"]["total"]["completed"]
        state["epoch_loop.state_dict"]["_batches_that_stepped"] = steps - is_due
        return state

    def _is_inside(self) -> bool:
        """Tell whether an epoch has begun and is not over."""
        epochs, batches = self._epochs, self._batches
        if epochs.started > epochs.processed:
            return True
        # a limit of steps, or a callback, has ended the training within an epoch
        return batches.processed > 0 and not self.epoch_loop._num_ready_batches_reached()

    def _validation_is_due(self) -> bool:
        if self.trainer.validating or self.epoch_loop.validation_is_due:
            return True
        batches = self._batches
        is_after_batch = batches.completed < batches.processed  # in on_train_batch_end
        return is_after_batch and self.epoch_loop._should_check_val_fx(self._data_fetcher)

    # ---- going on from there

    @override
    def load_state_dict(self, state_dict: dict[str, Any], prefix: str = "") -> None:
        super().load_state_dict(state_dict, prefix)
        for loop in self, self.epoch_loop, self.epoch_loop.val_loop:
            loop._restarting = loop._loaded_from_state_dict = False  # there is nothing to guess

    @override
    def on_load_checkpoint(self, state_dict: dict[str, Any]) -> None:
        self.epoch_loop.begins_inside = state_dict["is_inside"]
        self.epoch_loop.validation_is_due = state_dict["validation_is_due"]
        self._metrics = state_dict["metrics"]
        callbacks: Any = self.trainer.callbacks  # type: ignore[attr-defined]
        # a limit of time may be a later one now
        if not any(isinstance(callback, Timer) for callback in callbacks):
            self.trainer.should_stop = state_dict["should_stop"]

    @override
    def reset(self) -> None:
        super().reset()
        self._refuse_broken_steps()
        device = self.trainer.strategy.root_device
        metrics = {name: value.to(device) for name, value in self._metrics.items()}
        self.trainer.callback_metrics.update(metrics)
        if not self.epoch_loop.begins_inside:
            return
        self._restart_stage = RestartStage.RESTARTED_MID_EPOCH
        (loader,) = self._combined_loader.flattened  # type: ignore[union-attr]
        if not isinstance(loader, TrainingLoader):
            raise RequestError(
                f"dataset: its train_dataloader makes a {type(loader).__name__}, which cannot go "
                "on in the middle of an epoch. Let it make a "
                "danet_lightning.data.samples.loader.TrainingLoader, or start anew with another "
                "run_dir."
            )
        # behind the last batch, only the validation is left, and the next epoch begins at its first
        loader.start_at(self._batches.processed % int(self.max_batches))

    def _refuse_broken_steps(self) -> None:
        """Refuse intervals that would validate or end an epoch between accumulated batches."""
        trainer, parts = self.trainer, self.trainer.accumulate_grad_batches
        if parts == 1:
            return
        if self.max_batches % parts:
            raise RequestError(
                f"trainer.limit_train_batches={trainer.limit_train_batches}: the "
                f"{self.max_batches} batches of an epoch are no whole number of steps of {parts} "
                f"batches (trainer.accumulate_grad_batches). Choose a multiple of {parts}."
            )
        every = trainer.val_check_batch
        if every is not None and every != torch.inf and every % parts:
            raise RequestError(
                f"trainer.val_check_interval={trainer.val_check_interval}: a validation after "
                f"{every} batches would fall into a step of {parts} batches "
                "(trainer.accumulate_grad_batches), from where no run can go on. Choose a number "
                f"of batches that is a multiple of {parts}."
            )


def _settle(count: dict[str, int], begun: int, done: int) -> None:
    """Set those of the four counters that a loop has: some lack `started` or `processed`."""
    values = {"ready": begun, "started": begun, "processed": done, "completed": done}
    count.update({name: values[name] for name in count})
