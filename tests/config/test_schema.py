"""Signatures read from source text: what counts as an argument, and what fits it."""

import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

import pytest

from danet_lightning.config import source
from danet_lightning.config.nodes import node_problems
from danet_lightning.config.schema import processes
from danet_lightning.config.signature import arguments
from danet_lightning.config.source import locate

BASE = """
raise RuntimeError("imported")

from __future__ import annotations
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Optional, Union

import typing as t
import torch
from torch import Tensor, nn
from pydantic import Field, NonNegativeFloat, PositiveInt

Mode = Literal["nearest", "linear"]

class Base:
    def __init__(self, crop: tuple[PositiveInt, PositiveInt], names: Sequence[str] = ()): ...

class Leaf(Base):
    def __init__(self, root: str, **options: Any) -> None:
        super().__init__(names=("a",), **options)

class Keeps(Base):
    def __init__(self, root: str, **options: Any) -> None:
        self.options = options

class Silent(Leaf): ...

class Unknown(torch.nothing.Here):
    ...

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
    other: Whatever = 3,
    *,
    weight: NonNegativeFloat,
): ...
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package on the path that must not be imported; returns its name."""
    name = f"sample_{tmp_path.name.replace('-', '_')}"  # what is found stays in a cache
    (tmp_path / name / "inner").mkdir(parents=True)  # without __init__: a namespace
    (tmp_path / name / "__init__.py").write_text(
        f"raise RuntimeError\nfrom .base import Leaf as Scenes\nfrom {name}.base import *\n"
    )
    (tmp_path / name / "base.py").write_text(BASE)
    (tmp_path / name / "ring.py").write_text("from .round import *\n")
    (tmp_path / name / "round.py").write_text("from .ring import *\n")
    (tmp_path / name / "lazy.py").write_text("def __getattr__(name): ...\n")
    (tmp_path / name / "inner" / "deep.py").write_text(
        "try:\n    from ..base import Record\nexcept ImportError:\n    Record = None\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    source.find_module.cache_clear()
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
        ("base.Leaf", {"root", "crop"}, False),  # names is given by Leaf itself
        ("base.Silent", {"root", "crop"}, False),
        ("Scenes", {"root", "crop"}, False),  # re-exported under another name
        ("base.Keeps", {"root"}, True),  # its options go nowhere we can follow
        ("Base", {"crop", "names"}, False),  # through a star
        ("base.Record", {"size", "mode"}, False),
        ("inner.deep.Record", {"size", "mode"}, False),
        ("base.Unknown", set(), True),
        ("lazy.Anything", set(), True),
    ],
)
def test_arguments(package: str, target: str, named: set[str], is_open: bool) -> None:
    taken = arguments(f"{package}.{target}")
    assert (set(taken.named), taken.is_open) == (named, is_open)
    assert package not in sys.modules


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
        ({"other": {"a": [1]}}, {}),  # its annotation means nothing here
        ({"shar": 1}, {"shar": "unknown key; did you mean share? Known: rate, mode"}),
        ({"_partial_": True, "_convert_": "all", "_recursive_": False}, {}),
    ],
    ids=str,
)
def test_values(package: str, values: dict[str, Any], told: dict[str, str]) -> None:
    found = wrong(f"{package}.base.build", **values)
    assert found.keys() == told.keys(), found
    for key, text in told.items():
        assert text in found[key]


def test_a_wrong_value_deep_inside_lists(package: str) -> None:
    node = {"_target_": f"{package}.base.Record", "size": "x"}
    assert node_problems({"a": [{"b": node}]}).keys() == {"a[0].b.size"}


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("nowhere.at.All", "no module 'nowhere' is installed"),
        ("PACKAGE.bsae.Leaf", "has no 'bsae'; did you mean base?"),
        ("PACKAGE.base.Laef", "has no 'Laef'; did you mean Leaf?"),
        ("PACKAGE.lazy.a.B", "has no 'a'"),
        ("PACKAGE.ring.Nothing", "has no 'Nothing'"),
        ("PACKAGE.base", "is a module"),
        ("PACKAGE.inner.Deep", "has no 'Deep'; did you mean deep?"),
        ("", "no module '' is installed"),
    ],
)
def test_a_target_that_does_not_exist(package: str, target: str, told: str) -> None:
    with pytest.raises(LookupError) as caught:
        locate(target.replace("PACKAGE", package))
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "target",
    [
        "lightning.Trainer",
        "lightning.pytorch.callbacks.ModelCheckpoint",
        "lightning.pytorch.loggers.CSVLogger",
        "torch.optim.SGD",
        "torch.optim.AdamW",
        "danet_lightning.models.DANet",
        "danet_lightning.models.dilated_resnet",
    ],
)
def test_what_is_read_is_what_is_imported(target: str) -> None:
    module, _, name = target.rpartition(".")
    real = inspect.signature(getattr(importlib.import_module(module), name))
    assert list(arguments(target).named) == list(real.parameters)


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
