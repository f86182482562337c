"""What a composed config may say: the typed top level, and its nodes against their signatures."""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from danet_lightning.config.ranges import STATED, Node
from danet_lightning.config.validation import find_target, node_problems
from danet_lightning.errors import (
    PASSING,
    PLACED,
    ROUNDING,
    Mark,
    argument_types,
    problem,
    unknown_key,
)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ValueError("no such file; a run folder holds best.ckpt and last.ckpt")
    return path


def _existing_model(path: Path) -> Path:
    return path if path.is_dir() else _existing(path)


def _auto_or_existing(path: Path) -> Path:
    return path if str(path) == "auto" else _existing(path)


def _weights(path: Path) -> Path:
    if not path.expanduser().is_file():
        raise ValueError("no such file; give the weights of the authors or of MMSegmentation")
    return path


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    if len({*names}) < len(names):
        raise ValueError("must name each output once")
    return names


def _list_of_one(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    return (value,) if isinstance(value, str) else value


Nodes = dict[str, Node]
Recipe = dict[str, Any] | None  # what a data set brings along for training
OpenNode = Annotated[Node, "options are added as they are named: a loss of a user takes others"]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # as NumPy's generators want it
Checkpoint = Annotated[Path, AfterValidator(_existing)]
Model = Annotated[Path, AfterValidator(_existing_model)]  # a checkpoint, or what export wrote
Resumed = Annotated[Path, AfterValidator(_auto_or_existing)]
Point = tuple[NonNegativeInt, NonNegativeInt]  # row and column of a pixel
WeightsFile = Annotated[Path, AfterValidator(_weights)]
Side = Annotated[int, Field(ge=1, le=16384)]
Outputs = Annotated[
    tuple[Literal["classes", "logits"], ...], Field(min_length=1), AfterValidator(_each_once)
]
UNIONS = (Union, UnionType)


@dataclass
class CommandConfig:
    """The top level that every command shares."""

    run_dir: Annotated[str, PASSING]
    sweep_dir: Annotated[str, PLACED]  # a name of the time, by default
    leaves_folder = True  # of its own: without a type, so no key of the configuration


@dataclass(kw_only=True)
class DataConfig(CommandConfig):
    """The recipe that a data set brings along, to commands that do not train."""

    augmentation: Recipe = None
    data: Recipe = None
    batch_size: PositiveInt | None = None
    backbone: Recipe = None
    optimizer: Recipe = None
    trainer: Recipe = None
    head_lr_factor: PositiveFloat | None = None


@dataclass
class TrainConfig(CommandConfig):
    """The top level of `train`."""

    seed: Seed
    batch_size: PositiveInt
    ckpt_path: Annotated[Resumed | None, PASSING]
    init_from: Checkpoint | None
    dataset: Node
    augmentation: Node
    data: Node
    backbone: Node
    model: Node
    trainer: Node
    optimizer: Node
    head_lr_factor: PositiveFloat
    compile: Annotated[bool, ROUNDING]
    loss: OpenNode
    protocol: Node
    module: Node
    callbacks: Nodes
    logger: Annotated[Nodes, PASSING]
    paired: dict[str, Any] | None = None  # an experiment's table, which its other values refer to


@dataclass(kw_only=True)  # trainer has a default above
class EvaluateConfig(DataConfig):
    """The top level of `evaluate`."""

    ckpt_path: Model
    split: Literal["train", "val", "test"]
    trusted: tuple[str, ...]
    dataset: dict[str, Any]
    protocol: dict[str, Any]
    trainer: Node
    module: Node
    callbacks: Nodes


@dataclass
class PredictConfig(DataConfig):
    """The top level of `predict`."""

    leaves_folder = False
    ckpt_path: Model
    input: str | None
    output: str
    split: Literal["train", "val", "test"]
    dataset: dict[str, Any]
    format: dict[str, Any]
    protocol: dict[str, Any]
    device: str
    devices: PositiveInt
    max_side: PositiveInt | None
    opacity: Annotated[float, Field(ge=0, le=1)]
    trusted: tuple[str, ...] = ()


@dataclass
class AttentionConfig(DataConfig):
    """The top level of `attention`."""

    leaves_folder = False
    ckpt_path: Model
    input: str | None
    output: str
    split: Literal["train", "val", "test"]
    dataset: dict[str, Any]
    count: PositiveInt | None
    points: tuple[Point, ...] | None
    channels: tuple[NonNegativeInt, ...] | None
    max_side: PositiveInt | None
    page_megabytes: PositiveFloat
    device: str
    trusted: tuple[str, ...] = ()


@dataclass
class ConvertConfig(DataConfig):
    """The top level of `convert`."""

    leaves_folder = False
    source: WeightsFile
    output: str
    dataset: Node
    multi_grid: Literal["source"] | tuple[PositiveInt, ...] | None
    align_corners: bool | None
    protocol: Node


@dataclass
class ExportConfig(DataConfig):
    """The top level of `export`."""

    leaves_folder = False
    ckpt_path: Model
    output: str
    format: Literal["onnx", "hub"]
    dataset: dict[str, Any]
    split: Literal["train", "val", "test"]
    limit: NonNegativeInt | None
    size: tuple[Side, Side]
    outputs: Outputs
    opset: Annotated[int, Field(ge=18, le=21)]  # what torch writes and onnxruntime 1.22 reads
    int8: bool
    calibration_images: PositiveInt
    trusted: tuple[str, ...] = ()


@dataclass
class CheckConfig(DataConfig):
    """The top level of `check`."""

    dataset: Node
    splits: Annotated[tuple[str, ...] | None, BeforeValidator(_list_of_one)]
    workers: PositiveInt | None


@dataclass
class PrepareConfig(DataConfig):
    """The top level of `prepare`."""

    leaves_folder = False
    dataset: Node | None
    root: str | None
    archives: str | None
    labels: str | None
    background: str | None


@dataclass
class ReportConfig(CommandConfig):
    """The top level of `report`."""

    leaves_folder = False
    runs: Annotated[tuple[str, ...] | None, BeforeValidator(_list_of_one)]
    wandb: str | None
    output: str
    baseline: str | None
    images: NonNegativeInt
    device: str
    trusted: tuple[str, ...] = ()


def text_keys(form: type[CommandConfig]) -> set[str]:
    """Return the keys at the top level of a command that take any text, such as paths."""
    hints = get_type_hints(form)
    return {
        key
        for key, hint in hints.items()
        if {str, Path} & {hint, *(get_args(hint) if get_origin(hint) in UNIONS else ())}
    }


def open_keys(form: type[CommandConfig]) -> set[str]:
    """Return the nodes of a command that take any key: another node may be their base."""
    hints = get_type_hints(form, include_extras=True)
    return {key for key, hint in hints.items() if hint in (dict[str, Any], OpenNode)}


def marked(config: Mapping[str, Any], form: type[CommandConfig], *marks: Mark) -> set[str]:
    """Return the dotted keys of a plain config whose annotations carry one of such marks."""
    nodes = [("", config, get_type_hints(form, include_extras=True))]
    keys = set()
    for above, node, types in nodes:  # which grows
        keys |= {f"{above}{name}" for name, hint in types.items() if _has_mark(hint, marks)}
        for name, child in node.items():
            if isinstance(child, Mapping):
                target = child.get("_target_")
                inner = argument_types(find_target(target))[0] if target else {}
                if not above and name in STATED:
                    inner |= get_type_hints(STATED[name], include_extras=True)
                nodes.append((f"{above}{name}.", child, inner))
    return keys


def _has_mark(annotation: Any, marks: Collection[Mark]) -> bool:
    """Tell whether an annotation, or a part of a union, carries a mark."""
    if any(mark in getattr(annotation, "__metadata__", ()) for mark in marks):
        return True
    is_union = get_origin(annotation) is not Annotated
    return is_union and any(_has_mark(part, marks) for part in get_args(annotation))


def problems(config: Mapping[str, Any], form: type[CommandConfig]) -> dict[str, str]:
    """Return everything that is wrong with a resolved, plain config, by dotted key."""
    hints = get_type_hints(form, include_extras=True)
    wrong = {key: unknown_key(key, hints) for key in config if key not in hints}
    for field in fields(form):
        if field.name in config:
            wrong |= _against_hint(field.name, hints[field.name], config[field.name])
        elif field.default is MISSING:
            wrong[field.name] = "is missing"
    stated = dict(_against_ranges(config))
    # what a command passes over it need not import, either
    used = {key: value for key, value in config.items() if hints.get(key) != Recipe}
    wrong |= {key: text for key, text in node_problems(used).items() if key not in stated}
    wrong |= {key: text for key, text in stated.items() if text}
    return wrong | {key: text for key, text in _rules(config, form) if key not in wrong}


def _against_hint(key: str, hint: Any, value: Any) -> dict[str, str]:
    parts = {key: (hint, value)}
    if Nodes in (hint, *get_args(hint)) and isinstance(value, Mapping):
        parts = {f"{key}.{name}": (Node, node) for name, node in value.items()}
    texts = {name: _wrong(kind, part) for name, (kind, part) in parts.items()}
    return {name: text for name, text in texts.items() if text}


def _wrong(annotation: Any, value: Any) -> str:
    return "" if value == "???" else problem(annotation, value)  # what is missing is told apart


def _against_ranges(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Tell what is wrong with each value that has a range; empty when nothing is."""
    for node, ranges in STATED.items():
        values = config.get(node)
        for name, hint in get_type_hints(ranges, include_extras=True).items():
            if isinstance(values, Mapping) and name in values:
                yield f"{node}.{name}", _wrong(hint, values[name])


def _rules(config: Mapping[str, Any], form: type[CommandConfig]) -> Iterator[tuple[str, str]]:
    """Return the rules that no single argument can state."""
    dataset, trainer = config.get("dataset") or {}, config.get("trainer") or {}
    if form is PrepareConfig and (config.get("labels") is None) == (not dataset):
        yield "dataset", "give the one to fetch (dataset=camvid), or labels=..., your own export"
    if form in (PredictConfig, AttentionConfig) and bool(config.get("input")) == bool(dataset):
        yield "input", "give either your images or dataset=... split=..., those of a data set"
    if form is ReportConfig and bool(config.get("runs")) == bool(config.get("wandb")):
        yield "runs", "give either folders of runs or sweeps, or wandb=entity/project"
    if form is ExportConfig and config.get("format") == "hub" and config.get("int8"):
        yield "int8", "true: a hub folder has the weights as they are; int8 is of format=onnx"
    if form is TrainConfig and isinstance(trainer, Mapping) and not _ends(trainer):
        yield (
            "trainer.max_epochs",
            f"{json.dumps(trainer.get('max_epochs'))}: the learning rate falls until the last "
            "step, so give a number of epochs, or trainer.max_steps=...",
        )
    ranks = processes(trainer) if isinstance(trainer, Mapping) else None
    batch_size = config.get("batch_size")
    parts = trainer.get("accumulate_grad_batches", 1) if isinstance(trainer, Mapping) else 1
    if form is TrainConfig and ranks and type(batch_size) is int and type(parts) is int:
        shares = ranks * max(parts, 1)
        if batch_size % shares:
            near = max(batch_size // shares, 1) * shares
            rule = f"must be divisible by the {ranks} processes of trainer.devices"
            rule += " and trainer.num_nodes" if trainer.get("num_nodes", 1) != 1 else ""
            rule += f" times trainer.accumulate_grad_batches={parts}" if parts > 1 else ""
            yield "batch_size", f"{batch_size} {rule}; {near} is"


def _ends(trainer: Mapping[str, Any]) -> bool:
    limits = (trainer.get(key) for key in ("max_epochs", "max_steps"))
    return any(isinstance(limit, int) and limit >= 0 for limit in limits)


def processes(trainer: Mapping[str, Any]) -> int | None:
    """Return the number of processes a Trainer node asks for; None when the machine decides."""
    match trainer.get("devices"):
        case bool():
            return None
        case int(count) if count > 0:
            pass
        case list(devices):
            count = len(devices)
        case str(text) if text.isdecimal():
            count = int(text)
        case str(text) if "," in text:
            count = len([part for part in text.split(",") if part.strip()])
        case _:
            return None
    nodes = trainer.get("num_nodes", 1)
    return count * nodes if isinstance(nodes, int) and nodes > 0 else None
