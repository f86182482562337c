"""What Lightning offers, and what would give other numbers here than it says."""

from typing import Any

from lightning import Trainer
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    BatchSizeFinder,
    Callback,
    GradientAccumulationScheduler,
    LearningRateFinder,
    ModelPruning,
    StochasticWeightAveraging,
    WeightAveraging,
)
from lightning.pytorch.strategies.launchers.multiprocessing import _MultiProcessingLauncher

from danet_lightning.errors import RequestError

# Weights in 16 bits lose small steps and batch statistics; in 64, evaluate would count otherwise.
PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")
ALTERING = (
    BackboneFinetuning,
    BatchSizeFinder,
    GradientAccumulationScheduler,
    LearningRateFinder,
    ModelPruning,
    StochasticWeightAveraging,
    WeightAveraging,
)


def refuse_unsupported(trainer: Trainer, precision: Any) -> None:
    """Refuse a strategy, a precision or a callback with which a training would not be as it says.

    Args:
        trainer: as it was built.
        precision: the one that was asked for.

    Raises:
        RequestError: with what to use instead.
    """
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
        raise RequestError(
            "trainer.strategy: it copies this process, whose copies would keep the numbers to "
            "themselves. Use trainer.strategy=ddp."
        )
    is_float16 = str(precision).removesuffix("-mixed") == "16"
    if trainer.precision not in PRECISIONS or (is_float16 and trainer.precision != "16-mixed"):
        raise RequestError(
            f"trainer.precision={precision}: here this is {trainer.precision}. Use 32-true, or "
            "bf16-mixed where the hardware computes in bfloat16."
        )
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    for callback in callbacks:
        if isinstance(callback, ALTERING):
            raise RequestError(
                f"callbacks: {type(callback).__name__} changes weights, batches or learning rates "
                "behind the back of the schedule and of resuming. Leave it out."
            )
