"""What a checkpoint says of itself and of its training, checked before anything is done with it."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    ValidationError,
    model_validator,
)
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from danet_lightning.disk.names import printable
from danet_lightning.errors import RequestError
from danet_lightning.processes.internals import SCHEDULE_RATES, SCHEDULE_STEPS

MOST_VALUES = 1_000_000  # a training of ResNet-152 with Adam has 10,000
DEEPEST = 50
# what travels with a network that is exported, beside a part of the configuration
PORTABLE = ("classes", "palette", "mean", "std", "git_commit", "config_hash", "versions")
RATES = ("base_lrs", SCHEDULE_RATES)
MOMENTS = ("step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer")  # SGD, Adam(W)


def _with_target(node: dict[str, Any]) -> dict[str, Any]:
    if type(node.get("_target_")) is not str:
        raise ValueError("a _target_ is missing, the name of a class")
    return node


def _of_tensors(weights: dict[str, Any]) -> dict[str, Any]:
    for name, value in weights.items():
        if not isinstance(value, Tensor) and not name.endswith("_extra_state"):
            raise ValueError(f"{name[:80]} is a {type(value).__name__}, not a tensor")
    return weights


def _inside_one_folder(state: dict[str, Any]) -> dict[str, Any]:
    """Allow a ModelCheckpoint to name files of its own folder: Lightning opens and deletes them."""
    folder, best = state.get("dirpath", ""), state.get("best_k_models", {})
    to_delete = [*(best if isinstance(best, dict) else ()), state.get("kth_best_model_path", "")]
    to_delete.append(state.get("last_model_path", ""))
    for name in (folder, state.get("best_model_path", ""), *to_delete):
        if name and (
            not isinstance(name, str) or re.search("::|://", name) or ".." in Path(name).parts
        ):
            raise ValueError(f"{str(name)[:80]!r} is no path of a file")
    for name in filter(None, to_delete):
        if Path(name).parent != Path(folder) or Path(name).suffix != ".ckpt":
            raise ValueError(f"{name[:80]!r} is no checkpoint in {folder[:80]!r}")
    return state


def _of_numbers(state: dict[str, Any]) -> dict[str, Any]:
    """Check a schedule's state: torch makes each value of it an attribute of the schedule."""
    for name, value in state.items():
        if name == "optimizer" or callable(getattr(LRScheduler, name, None)):
            raise ValueError(f"{name} is no value of a schedule")
        numbers = value if name in RATES else [value]
        is_number = name in (*RATES, "last_epoch", SCHEDULE_STEPS)
        if is_number and not (isinstance(numbers, list) and {*map(type, numbers)} <= {int, float}):
            raise ValueError(f"{name} is no number")
    return state


def _of_counts(loops: dict[str, Any]) -> dict[str, Any]:
    """Check the counters of Lightning's loops, which count on from them."""
    for name, value in loops.items():
        if name in ("ready", "started", "processed", "completed"):
            if type(value) is not int or value < 0:
                raise ValueError(f"{name} is no count")
        elif isinstance(value, dict):
            _of_counts(value)
    return loops


def _with_epochs(loops: dict[str, Any]) -> dict[str, Any]:
    try:
        _ = loops and loops["fit_loop"]["epoch_progress"]["current"]["completed"]
    except (KeyError, TypeError):
        raise ValueError("the number of epochs that are done is missing") from None
    return _of_counts(loops)


def _of_digests(data: dict[str, Any]) -> dict[str, Any]:
    for split, value in data.items():
        is_table = isinstance(value, Tensor) and value.dtype == torch.int64
        if not is_table or value.shape[1:] != (2,):
            raise ValueError(f"{split[:80]} holds no digests of images")
    return data


Node = Annotated[dict[str, Any], AfterValidator(_with_target)]
Name = Annotated[str, Field(min_length=1)]
Byte = Annotated[int, Field(ge=0, le=255)]
Color = Annotated[list[Byte], Field(min_length=3, max_length=3)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Deviation = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Schedule = Annotated[dict[str, Any], AfterValidator(_of_numbers)]
CallbackState = Annotated[dict[str, Any], AfterValidator(_inside_one_folder)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class _Config(_Strict):
    """The configuration of the run, as far as parts are built from it."""

    model: Node
    protocol: Node
    dataset: Node


class _Facts(_Strict):
    """What the network was trained on."""

    config: _Config
    classes: Annotated[
        list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=255)
    ]
    palette: list[Color]
    mean: Annotated[list[Number], Field(min_length=3, max_length=3)]
    std: Annotated[list[Deviation], Field(min_length=3, max_length=3)]
    git_commit: str | None = None
    config_hash: str = ""
    versions: dict[str, str] = {}

    @model_validator(mode="after")
    def _one_of_each(self) -> "_Facts":
        count = len(self.classes)
        if len(self.palette) != count:
            raise ValueError(f"{len(self.palette)} colors for {count} classes")
        if self.config.model.get("num_classes", count) != count:
            raise ValueError(f"a model of another number of classes than the {count} named ones")
        return self


class _Content(_Strict):
    """A checkpoint; what belongs to the training is not in one that `convert` wrote."""

    danet_lightning: _Facts
    state_dict: Annotated[dict[str, Any], AfterValidator(_of_tensors)]
    epoch: NonNegativeInt = 0
    global_step: NonNegativeInt = 0
    loops: Annotated[dict[str, dict[str, Any]], AfterValidator(_with_epochs)] = {}
    rows: dict[str, NonNegativeInt | str] = {}  # how many, or what they are
    data: Annotated[dict[str, Any], AfterValidator(_of_digests)] = {}
    callbacks: dict[str, CallbackState] = {}
    optimizer_states: list[dict[str, Any]] = []
    lr_schedulers: list[Schedule] = []

    @model_validator(mode="after")
    def _of_these_weights(self) -> "_Content":
        """Check that an optimizer's tensors have shapes of weights: torch fails at the first step
        only.
        """
        shapes = {weight.shape for weight in self.state_dict.values() if isinstance(weight, Tensor)}
        for states in self.optimizer_states:
            parameters = states.get("state")
            for state in parameters.values() if isinstance(parameters, dict) else ():
                for name, value in state.items() if isinstance(state, dict) else ():
                    is_known = name in MOMENTS and value is not None
                    is_single = name == "step" and getattr(value, "numel", lambda: 1)() == 1
                    if is_known and not is_single and getattr(value, "shape", None) not in shapes:
                        raise ValueError(f"the optimizer's {name} belongs to other weights")
        return self


def checked(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return a copy of a checkpoint's content whose facts have the types and sizes they must have.

    Raises:
        RequestError: They do not; or the content is too deep or too much, or asks for values of
            the environment.
    """
    plain: dict[str, Any] = _copied(content, [MOST_VALUES], path)
    try:
        text = json.dumps(plain["danet_lightning"])
        _Content.model_validate(plain)
    except ValidationError as error:
        reasons = [_sentence(detail) for detail in error.errors(include_url=False)[:3]]
        raise _malformed(path, "; ".join(reasons)) from error
    except (TypeError, ValueError) as error:  # json's
        raise _malformed(path, f"danet_lightning: {error}") from error
    if asked := re.search(r"\$\{.{0,40}", text):
        raise _malformed(path, f"{asked[0]!r} asks for a value from elsewhere")
    return plain


def _copied(value: Any, budget: list[int], path: Path, depth: int = 0) -> Any:
    """Copy nested dicts and lists, within a budget of values: a list may be inside of itself."""
    budget[0] -= 1
    if depth > DEEPEST or budget[0] < 0:
        limit = f"is nested more than {DEEPEST} deep" if depth > DEEPEST else "holds too much"
        raise _malformed(path, f"it {limit}")
    if isinstance(value, dict):
        return {name: _copied(child, budget, path, depth + 1) for name, child in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(child, budget, path, depth + 1) for child in value)
    return value


def _sentence(detail: Any) -> str:
    place = ".".join(str(part)[:40] for part in detail["loc"])
    return f"{place}: {str(detail['msg']).removeprefix('Value error, ')}"


def _malformed(path: Path, reason: str) -> RequestError:
    return RequestError(
        f"ckpt_path: {path} is no checkpoint that can be used: {printable(reason)}. It was "
        "changed or damaged after it was written; fetch it again from where it comes from."
    )
