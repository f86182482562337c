"""What Lightning's and torch's arguments may be, where their annotations allow more than they do.

A type here stands in place of the annotation. Arguments that are not here keep theirs, and so do
those of which the class itself says by name what is wrong.
"""

from typing import Annotated, Any, Literal, TypedDict

from pydantic import AfterValidator, Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from danet_lightning.errors import PASSING, ROUNDING


def _with_target(node: dict[str, Any]) -> dict[str, Any]:
    if "_target_" not in node:
        raise ValueError("must have a _target_: the class or function to build it with")
    return node


def _only(allowed: Any, reason: str) -> AfterValidator:
    """Allow one value of an argument, and refuse all others with the reason."""

    def check(value: Any) -> Any:
        if value != allowed:
            raise ValueError(reason)
        return value

    return AfterValidator(check)


def _some(value: float | None) -> float | None:
    if value == 0:
        raise ValueError("none would be read, and so no number; give one or more, or leave it out")
    return value


Node = Annotated[dict[str, Any], AfterValidator(_with_target)]
Limit = Annotated[int, Field(ge=-1)]  # -1: none
Share = Annotated[float, Field(ge=0, le=1)]
Batches = Annotated[NonNegativeInt | Share | None, AfterValidator(_some)]  # a number or a share
Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed", "32", "bf16", "16", 32, 16]
Devices = Annotated[list[NonNegativeInt], Field(min_length=1)]


class TrainerNode(TypedDict, total=False):
    """Arguments of `lightning.Trainer`."""

    precision: Precision | None
    # where it goes on
    accelerator: Annotated[Any, ROUNDING]
    devices: Annotated[str | Limit | Devices, ROUNDING]
    num_nodes: Annotated[PositiveInt, ROUNDING]
    strategy: Annotated[Any, ROUNDING]
    benchmark: Annotated[Literal["auto"] | bool | None, ROUNDING]
    # how long it goes on
    max_epochs: Annotated[Limit | None, PASSING]
    min_epochs: Annotated[NonNegativeInt | None, PASSING]
    max_steps: Annotated[Limit, PASSING]
    min_steps: Annotated[NonNegativeInt | None, PASSING]
    max_time: Annotated[Any, PASSING]
    # how it is told
    profiler: Annotated[Any, PASSING]
    enable_model_summary: Annotated[bool, PASSING]
    default_root_dir: Annotated[Any, PASSING]
    limit_train_batches: Batches
    limit_val_batches: Batches
    val_check_interval: PositiveInt | Annotated[float, Field(gt=0, le=1)] | None
    check_val_every_n_epoch: PositiveInt | None
    num_sanity_val_steps: Limit | None
    log_every_n_steps: Annotated[NonNegativeInt | None, PASSING]
    accumulate_grad_batches: PositiveInt
    gradient_clip_val: NonNegativeFloat | None
    gradient_clip_algorithm: Literal["norm", "value"] | None
    plugins: list[Node] | Node | None
    # What is done here in another way, or cannot be done:
    fast_dev_run: Annotated[
        Any,
        _only(
            False,
            "it would leave neither a checkpoint nor numbers. A first try of everything is "
            "trainer.max_epochs=1 +trainer.limit_train_batches=1 +trainer.limit_val_batches=1",
        ),
    ]
    overfit_batches: Annotated[
        Any, _only(0, "the order of the images is not Lightning's; use a data set of a few images")
    ]
    use_distributed_sampler: Annotated[
        Any, _only(False, "Lightning's would repeat images; ours divide them among the processes")
    ]
    sync_batchnorm: Annotated[
        Any, _only(False, "GPUs share batch statistics without it, and CPUs cannot; leave it out")
    ]
    reload_dataloaders_every_n_epochs: Annotated[
        Any, _only(0, "a resumed training would lose its place in the epoch; leave it out")
    ]
    enable_progress_bar: Annotated[
        Any, _only(True, "~callbacks.progress leaves out the bar"), PASSING
    ]
    enable_checkpointing: Annotated[
        Any, _only(True, "~callbacks.best ~callbacks.last leave out the checkpoints")
    ]
    barebones: Annotated[Any, _only(False, "it would leave no numbers; leave it out")]
    logger: Annotated[Any, _only(None, "choose by logger=wandb, tensorboard, csv or none")]
    callbacks: Annotated[Any, _only(None, "give each one a name: +callbacks.NAME._target_=...")]


class ModelNode(TypedDict, total=False):
    """Arguments of a network that the data set decides."""

    num_classes: Annotated[
        Any, _only(None, "the data set's classes are counted; choose it, or dataset.classes=[...]")
    ]


class OptimizerNode(TypedDict, total=False):
    """Arguments that the optimizers of `torch.optim` share."""

    _partial_: Literal[True]  # the parameters are given when the network is there
    lr: NonNegativeFloat
    momentum: NonNegativeFloat
    weight_decay: NonNegativeFloat


STATED: dict[str, Any] = {"trainer": TrainerNode, "model": ModelNode, "optimizer": OptimizerNode}
