"""The form of each command: the keys at the top level of its configuration, and their types."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from danet_lightning.checkpoints.kinds import SCHEME
from danet_lightning.config.outputs import folder_to_fill, new_file, not_empty
from danet_lightning.config.ranges import Node
from danet_lightning.errors import PASSING, PLACED, ROUNDING
from danet_lightning.pictures import Opacity


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ValueError("no such file; a run folder holds best.ckpt and last.ckpt")
    return path


def _existing_model(name: str) -> str:
    if not name.startswith(SCHEME) and not Path(not_empty(name)).is_dir():
        _existing(Path(name))
    return name


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
Name = Annotated[str, AfterValidator(not_empty)]  # of a file, a folder or the like
Names = Annotated[tuple[Name, ...], BeforeValidator(_list_of_one)]
Recipe = dict[str, Any] | None  # what a data set brings along for training
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # as NumPy's generators want it
Checkpoint = Annotated[Path, AfterValidator(_existing)]
Model = Annotated[str, AfterValidator(_existing_model)]  # a checkpoint, or what export wrote
Resumed = Annotated[Path, AfterValidator(_auto_or_existing)]
Folder = Annotated[str, AfterValidator(folder_to_fill)]  # earlier results in it are replaced
NewFile = Annotated[str, AfterValidator(new_file)]
Point = tuple[NonNegativeInt, NonNegativeInt]  # row and column of a pixel
WeightsFile = Annotated[Path, AfterValidator(_weights)]
Side = Annotated[int, Field(ge=1, le=16384)]
Outputs = Annotated[
    tuple[Literal["classes", "logits"], ...], Field(min_length=1), AfterValidator(_each_once)
]


@dataclass
class CommandConfig:
    """The top level that every command shares."""

    run_dir: Annotated[Name, PASSING]
    sweep_dir: Annotated[Name, PLACED]  # a name of the time, by default
    leaves_folder = True  # of its own: without a type, so no key of the configuration


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
    loss: Node
    protocol: Node
    module: Node
    callbacks: Nodes
    logger: Annotated[Nodes, PASSING]
    paired: dict[str, Any] | None = None  # an experiment's table, which its other values refer to


@dataclass(kw_only=True)
class DataConfig(CommandConfig):
    """The top level of commands that do not train: a data set's recipe is there, and not used."""

    augmentation: Recipe = None
    data: Recipe = None
    batch_size: PositiveInt | None = None
    backbone: Recipe = None
    optimizer: Recipe = None
    trainer: Recipe = None
    head_lr_factor: PositiveFloat | None = None


@dataclass(kw_only=True)
class CheckpointConfig(DataConfig):
    """The top level of commands that use a checkpoint, with its data set or another one."""

    ckpt_path: Model
    split: Literal["train", "val", "test"]
    dataset: dict[str, Any]
    trusted: tuple[str, ...]


@dataclass(kw_only=True)
class ImagesConfig(CheckpointConfig):
    """The top level of commands that use a checkpoint on a person's images, or on a split."""

    leaves_folder = False
    input: Name | None
    output: Folder
    device: str
    max_side: PositiveInt | None


@dataclass(kw_only=True)
class EvaluateConfig(CheckpointConfig):
    """The top level of `evaluate`."""

    protocol: dict[str, Any]
    trainer: Node
    module: Node
    callbacks: Nodes


@dataclass(kw_only=True)
class PredictConfig(ImagesConfig):
    """The top level of `predict`."""

    format: dict[str, Any]
    protocol: dict[str, Any]
    devices: PositiveInt
    opacity: Opacity


@dataclass(kw_only=True)
class AttentionConfig(ImagesConfig):
    """The top level of `attention`."""

    count: PositiveInt | None
    points: tuple[Point, ...] | None
    channels: tuple[NonNegativeInt, ...] | None
    page_megabytes: PositiveFloat


@dataclass(kw_only=True)
class ExportConfig(CheckpointConfig):
    """The top level of `export`."""

    leaves_folder = False
    output: Name
    format: Literal["onnx", "hub"]
    limit: NonNegativeInt | None
    size: tuple[Side, Side]
    outputs: Outputs
    opset: Annotated[int, Field(ge=18, le=21)]  # what torch writes and onnxruntime 1.22 reads
    int8: bool
    calibration_images: PositiveInt


@dataclass
class ConvertConfig(DataConfig):
    """The top level of `convert`."""

    leaves_folder = False
    source: WeightsFile
    output: NewFile
    dataset: Node
    multi_grid: Literal["source"] | tuple[PositiveInt, ...] | None
    align_corners: bool | None
    protocol: Node


@dataclass
class CheckConfig(DataConfig):
    """The top level of `check`."""

    dataset: Node
    splits: Names | None
    workers: PositiveInt | None


@dataclass
class PrepareConfig(DataConfig):
    """The top level of `prepare`."""

    leaves_folder = False
    dataset: Node | None
    root: Name | None
    archives: Name | None
    labels: Name | None
    background: str | None


@dataclass
class ReportConfig(CommandConfig):
    """The top level of `report`."""

    leaves_folder = False
    runs: Names | None
    wandb: str | None
    output: Folder
    baseline: str | None
    ignore: Names
    images: NonNegativeInt
    device: str
    trusted: tuple[str, ...]
