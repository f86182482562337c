"""What Lightning's and torch's arguments may be, where their annotations allow more than they do.

A type here stands in place of the annotation. Arguments that are not here keep theirs, and so do
those of which the class itself says by name what is wrong.
"""

from typing import Annotated, Any, Literal, TypedDict

from pydantic import AfterValidator, Field, NonNegativeFloat, NonNegativeInt, PositiveInt


def _with_target(node: dict[str, Any]) -> dict[str, Any]:
    if "_target_" not in node:
        raise ValueError("must have a _target_: the class or function to build it with")
    return node


Node = Annotated[dict[str, Any], AfterValidator(_with_target)]
Limit = Annotated[int, Field(ge=-1)]  # -1: none
Batches = NonNegativeInt | Annotated[float, Field(ge=0, le=1)] | None  # a number or a share
Devices = Annotated[list[NonNegativeInt], Field(min_length=1)]


class TrainerNode(TypedDict, total=False):
    """Arguments of `lightning.Trainer`."""

    precision: str | Literal[16, 32, 64] | None  # ours is auto; Lightning names all the others
    devices: str | Limit | Devices
    num_nodes: PositiveInt
    max_epochs: Limit | None
    min_epochs: NonNegativeInt | None
    max_steps: Limit
    min_steps: NonNegativeInt | None
    limit_train_batches: Batches
    limit_val_batches: Batches
    overfit_batches: NonNegativeInt | Annotated[float, Field(ge=0, le=1)]
    check_val_every_n_epoch: PositiveInt | None
    num_sanity_val_steps: Limit | None
    log_every_n_steps: NonNegativeInt | None
    accumulate_grad_batches: PositiveInt
    gradient_clip_val: NonNegativeFloat | None
    gradient_clip_algorithm: Literal["norm", "value"] | None
    plugins: list[Node] | Node | None


class OptimizerNode(TypedDict, total=False):
    """Arguments that the optimizers of `torch.optim` share."""

    _partial_: Literal[True]  # the parameters are given when the network is there
    lr: NonNegativeFloat
    momentum: NonNegativeFloat
    weight_decay: NonNegativeFloat
