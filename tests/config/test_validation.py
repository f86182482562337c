"""A config against the signatures of what it builds: what counts as an argument, and what fits."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer

from danet_lightning.config.commands import TrainConfig
from danet_lightning.config.ranges import OptimizerNode, TrainerNode
from danet_lightning.config.rules import problems, processes
from danet_lightning.config.validation import find_target, node_problems
from danet_lightning.errors import argument_types

BASE = """
from __future__ import annotations
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union

import typing as t
from torch import Tensor, nn
from pydantic import Field, NonNegativeFloat, PositiveInt

Mode = Literal["nearest", "linear"]

class Base:
    def __init__(self, crop: tuple[PositiveInt, PositiveInt], names: Sequence[str] = ()): ...

class Leaf(Base):
    def __init__(self, root: str, **options: Any) -> None:
        super().__init__(**options)

class Silent(Leaf): ...

@dataclass
class Record:
    size: int
    mode: Mode = "linear"

def build(
    rate: Union[float, Tensor] = 0.1,
    mode: Mode = "linear",
    share: Annotated[float, Field(ge=0, le=1)] = 0.5,
    width: int = None,
    net: "nn.Module | None" = None,
    step: Callable[[], None] | None = None,
    pair: t.Optional[tuple[int, float]] = None,
    *,
    weight: NonNegativeFloat,
    **others: Any,
): ...

def strange(other: Whatever = 3): ...
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package on the path; returns its name."""
    name = f"sample_{tmp_path.name.replace('-', '_')}"  # what is imported stays
    (tmp_path / name / "inner").mkdir(parents=True)  # without __init__: a namespace
    (tmp_path / name / "__init__.py").write_text("from .base import Leaf as Scenes, Base\n")
    (tmp_path / name / "base.py").write_text(BASE)
    (tmp_path / name / "broken.py").write_text("raise RuntimeError('not today')\n")
    (tmp_path / name / "inner" / "deep.py").write_text("from ..base import Record\n")
    monkeypatch.syspath_prepend(tmp_path)
    return name


def wrong(target: str, **values: Any) -> dict[str, str]:
    return {
        key.removeprefix("n."): text
        for key, text in node_problems({"n": {"_target_": target, **values}}).items()
    }


@pytest.mark.parametrize(
    ("target", "named", "is_open"),
    [
        ("base.Base", {"crop", "names"}, False),
        ("base.Leaf", {"root", "crop", "names"}, False),
        ("base.Silent", {"root", "crop", "names"}, False),
        ("Scenes", {"root", "crop", "names"}, False),  # re-exported under another name
        ("base.Record", {"size", "mode"}, False),
        ("inner.deep.Record", {"size", "mode"}, False),
    ],
)
def test_arguments(package: str, target: str, named: set[str], is_open: bool) -> None:
    types, other = argument_types(find_target(f"{package}.{target}"))
    assert (set(types), other) == (named, is_open)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"rate": 1, "mode": "nearest", "share": 0, "width": None, "pair": [1, 2]}, {}),
        ({"rate": "fast"}, {"rate": '"fast": must be a valid number'}),
        ({"rate": True}, {"rate": "true: must be a valid number"}),
        ({"mode": "cubic"}, {"mode": "\"cubic\": must be 'nearest' or 'linear'"}),
        ({"share": 1.5}, {"share": "1.5: must be less than or equal to 1"}),
        ({"weight": float("inf")}, {"weight": "Infinity: must be a finite number"}),
        ({"width": 1.5}, {"width": "1.5: must be a valid integer"}),
        ({"net": None}, {}),
        ({"net": 3}, {"net": "3: must be built by a _target_"}),
        ({"net": {"_target_": "pathlib.Path"}}, {}),
        ({"net": {"_target_": "pathlib.Pth"}}, {"net._target_": "did you mean Path?"}),
        ({"pair": [1]}, {"pair": "[1]: entry 1 is missing"}),
        ({"any": [1]}, {}),  # it takes others
        ({"_partial_": True, "_convert_": "all", "_recursive_": False}, {}),
    ],
    ids=str,
)
def test_values(package: str, values: dict[str, Any], told: dict[str, str]) -> None:
    found = wrong(f"{package}.base.build", **values)
    assert found.keys() == told.keys(), found
    for key, text in told.items():
        assert text in found[key]


def test_an_annotation_that_means_nothing_here_refuses_nothing(package: str) -> None:
    assert wrong(f"{package}.base.strange", other={"a": [1]}) == {}


def test_an_unknown_key_is_answered_with_the_nearest(package: str) -> None:
    assert wrong(f"{package}.base.Record", size=1, mod="linear") == {
        "mod": "unknown key; did you mean mode? Known: size, mode"
    }


def test_a_wrong_value_deep_inside_lists(package: str) -> None:
    node = {"_target_": f"{package}.base.Record", "size": "x"}
    assert node_problems({"a": [{"b": node}]}).keys() == {"a[0].b.size"}


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("nowhere.at.All", "no module 'nowhere' is installed"),
        ("PACKAGE.bsae.Leaf", "has no 'bsae'; did you mean base?"),
        ("PACKAGE.base.Laef", "has no 'Laef'; did you mean Leaf?"),
        ("PACKAGE.base.Leaf.nothing", "has no 'nothing'"),
        ("PACKAGE.base", "is a module"),
        ("PACKAGE.inner.Deep", "has no 'Deep'"),
        ("PACKAGE.broken.Net", "fails: RuntimeError: not today"),
        ("math.pi", "is a float, and cannot be called"),
        ("", "no module '' is installed"),
        ("a..b", "no module 'a' is installed"),
        ("PACKAGE..Leaf", "has no ''"),
    ],
)
def test_a_target_that_does_not_exist(package: str, target: str, told: str) -> None:
    with pytest.raises(LookupError) as caught:
        find_target(target.replace("PACKAGE", package))
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("trainer", "count"),
    [
        ({"devices": 4}, 4),
        ({"devices": "4", "num_nodes": 2}, 8),
        ({"devices": [0, 2]}, 2),
        ({"devices": "0,2"}, 2),
        ({"devices": "auto"}, None),
        ({"devices": -1}, None),
        ({}, None),
    ],
    ids=str,
)
def test_processes(trainer: dict[str, Any], count: int | None) -> None:
    assert processes(trainer) == count


# ---- what the annotations of other packages do not say


TRAINER = {"_target_": "lightning.Trainer", "max_epochs": 1}
OPTIMIZER = {"_target_": "torch.optim.AdamW", "_partial_": True, "lr": 0.1}


def told(**changes: Any) -> dict[str, str]:
    """What is said of a training with these values in its trainer or optimizer."""
    nodes: dict[str, Any] = {"trainer": TRAINER, "optimizer": OPTIMIZER}
    for place, value in changes.items():
        node, _, key = place.partition("__")
        nodes[node] = {**nodes[node], key: value}
    found = problems({"batch_size": 8, **nodes}, TrainConfig)
    return {key: text for key, text in found.items() if text != "is missing"}


@pytest.mark.parametrize(
    ("place", "value", "text"),
    [
        ("trainer__max_epochs", -2, "-2: must be greater than or equal to -1"),
        ("trainer__max_epochs", -1, "-1: the learning rate falls until the last step, so give"),
        ("trainer__max_epochs", None, "null: the learning rate falls until the last step"),
        ("trainer__check_val_every_n_epoch", 0, "0: must be greater than 0"),
        ("trainer__accumulate_grad_batches", 0, "0: must be greater than 0"),
        ("trainer__log_every_n_steps", -1, "-1: must be greater than or equal to 0"),
        ("trainer__gradient_clip_val", -0.5, "-0.5: must be greater than or equal to 0"),
        ("trainer__gradient_clip_algorithm", "nrom", "\"nrom\": must be 'norm' or 'value'"),
        ("trainer__limit_train_batches", 1.5, "must be less than or equal to 1"),
        ("trainer__num_nodes", 0, "0: must be greater than 0"),
        ("trainer__devices", -2, "must be greater than or equal to -1"),
        ("trainer__devices", [], "[]: "),
        ("trainer__precision", 33, "33: "),
        (
            "trainer__precision",
            "bf16-true",
            "\"bf16-true\": must be 'auto', '32-true', 'bf16-mixed'",
        ),
        ("trainer__precision", "64-true", '"64-true": must be'),
        ("trainer__fast_dev_run", True, "A first try of everything is trainer.max_epochs=1"),
        ("trainer__fast_dev_run", 3, "A first try of everything is trainer.max_epochs=1"),
        ("trainer__limit_val_batches", 0, "0: none would be read"),
        ("trainer__limit_val_batches", 0.0, "0.0: none would be read"),
        ("trainer__limit_train_batches", 0, "0: none would be read"),
        ("trainer__overfit_batches", 1, "1: the order of the images is not Lightning's"),
        ("trainer__val_check_interval", 0, "0: must be greater than 0"),
        ("trainer__val_check_interval", "00:01:00:00", "must be a valid integer"),
        ("trainer__use_distributed_sampler", True, "true: Lightning's would repeat images"),
        ("trainer__sync_batchnorm", True, "true: GPUs share batch statistics without it"),
        ("trainer__reload_dataloaders_every_n_epochs", 1, "1: a resumed training would lose"),
        ("trainer__enable_progress_bar", False, "false: ~callbacks.progress"),
        ("trainer__enable_checkpointing", False, "false: ~callbacks.best"),
        ("trainer__barebones", True, "true: it would leave no numbers"),
        ("trainer__logger", True, "true: choose by logger=wandb"),
        ("trainer__callbacks", [], "[]: give each one a name"),
        ("trainer__plugins", [7], "[7]: "),
        ("trainer__deterministic", 1e30, "1e+30: "),
        ("optimizer__lr", -1, "-1: must be greater than or equal to 0"),
        ("optimizer__weight_decay", -1, "-1: must be greater than or equal to 0"),
        ("optimizer___partial_", False, "false: must be True"),
    ],
)
def test_ranges_of_trainer_and_optimizer(place: str, value: Any, text: str) -> None:
    found = told(**{place: value})
    key = place.replace("__", ".", 1)
    assert list(found) == [key]
    assert found[key].startswith(text) or text in found[key]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("trainer__precision", "auto"),  # ours
        ("trainer__precision", 16),
        ("trainer__devices", "auto"),
        ("trainer__devices", [0, 1]),
        ("trainer__limit_train_batches", 3),
        ("trainer__limit_train_batches", 0.5),
        ("trainer__check_val_every_n_epoch", None),
        ("trainer__fast_dev_run", False),
        ("trainer__limit_val_batches", 1),
        ("trainer__limit_val_batches", None),
        ("trainer__overfit_batches", 0.0),
        ("trainer__val_check_interval", 0.5),
        ("trainer__val_check_interval", 100),
        ("trainer__max_time", "00:01:00:00"),
        ("trainer__profiler", "simple"),
        (
            "trainer__plugins",
            [{"_target_": "danet_lightning.checkpoints.saving.AtomicCheckpointIO"}],
        ),
        ("optimizer__lr", 0),
        ("optimizer__betas", [0.9, 1]),
    ],
)
def test_what_trainer_and_optimizer_take(place: str, value: Any) -> None:
    assert told(**{place: value}) == {}


def test_ranges_are_of_arguments_that_there_are() -> None:
    assert set(TrainerNode.__annotations__) <= set(argument_types(Trainer)[0])
    taken = {*argument_types(torch.optim.SGD)[0], "_partial_"}
    assert set(OptimizerNode.__annotations__) <= taken


def test_a_seed_is_one_that_every_generator_takes() -> None:
    found = problems({"seed": 2**32}, TrainConfig)
    assert found["seed"] == "4294967296: must be less than 4294967296"


def test_the_nodes_are_named_that_make_too_many_processes() -> None:
    found = told(trainer__devices=1, trainer__num_nodes=3)
    assert found == {
        "batch_size": "8 must be divisible by the 3 processes of trainer.devices and "
        "trainer.num_nodes; 6 is"
    }


@pytest.mark.parametrize(
    ("target", "values", "text"),
    [
        ("evaluate.protocols.MultiView", {"scales": []}, "[]: must have at least 1 item"),
        (
            "evaluate.protocols.MultiView",
            {"scales": [1e30]},
            "entry 0 must be less than or equal to 100",
        ),
        ("data.scenes.Scenes", {"size": [7, 64]}, "entry 0 must be greater than or equal to 32"),
        (
            "data.samples.transforms.Augmentation",
            {"scale_range": [1, 1e30]},
            "entry 1 must be less than or equal",
        ),
        (
            "data.samples.transforms.Augmentation",
            {"scale_range": [2, 1]},
            "the smaller factor comes first",
        ),
    ],
)
def test_ranges_of_our_own_arguments(target: str, values: dict[str, Any], text: str) -> None:
    (key, found), *others = wrong(f"danet_lightning.{target}", **values).items()
    assert (key in values, others) == (True, [])
    assert text in found
