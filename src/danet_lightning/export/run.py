"""Export a checkpoint: read it, find images to measure on, write the file or the folder."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from danet_lightning.checkpoints import loading
from danet_lightning.checkpoints.metadata import portable
from danet_lightning.checkpoints.onnx_file import MODULES
from danet_lightning.config.building import DATASET, build_over, request_errors
from danet_lightning.config.outputs import exported
from danet_lightning.data.base import DataError, DataSet
from danet_lightning.disk.names import expanded
from danet_lightning.errors import RequestError, first_line, require_extra
from danet_lightning.export import hub, onnx
from danet_lightning.export.graph import require_exporter
from danet_lightning.export.images import Images
from danet_lightning.export.onnx import Options


def export(config: DictConfig, run_dir: Path) -> None:
    """Write what `config.format` says; nothing is written where it does not do as PyTorch does.

    Raises:
        RequestError: The checkpoint or the data cannot be used.
        RunError: The exported network answers otherwise than PyTorch.
    """
    output = expanded(config.output)
    if config.format == "hub":
        require_extra("hub", ["safetensors"], "format=hub")
    else:
        require_extra("export", [*MODULES, "onnxscript"], "format=onnx")
        require_exporter()
    content = loading.read(config.ckpt_path)
    if "onnx" in content:
        raise RequestError(f"ckpt_path: {config.ckpt_path} is exported already; give a checkpoint.")
    facts = content["danet_lightning"]
    with request_errors():
        segmenter = loading.segmenter(content, config.trusted)
        images = calibration = None
        try:
            if config.limit != 0:
                images = Images(_dataset(config, facts), config.split, config.limit)
            if config.int8:
                calibration = Images(_dataset(config, facts), "train", config.calibration_images)
        except DataError as error:
            if error.kind != "absent":
                raise
            purpose = "int8 is calibrated" if config.limit == 0 else "the export is measured"
            skipped = "int8=false" if config.limit == 0 else "limit=0 int8=false"
            raise RequestError(
                f"{first_line(error)} It holds the images on which {purpose}: give their place as "
                f"dataset.root=..., or do without them: {skipped}."
            ) from error
    if config.format == "hub":
        hub.write(output, segmenter, portable(facts), images)
    else:
        options = Options(tuple(config.size), tuple(config.outputs), config.opset)
        files = exported(output, config.int8)
        onnx.write(files, segmenter, portable(facts), options, images, calibration)


def _dataset(config: DictConfig, facts: dict[str, Any]) -> DataSet:
    stored = facts["config"]["dataset"]
    dataset: DataSet = build_over(stored, config.dataset, DATASET, config.trusted)
    if list(dataset.classes) != facts["classes"]:
        raise RequestError(
            f"dataset: its classes {list(dataset.classes)} are not the checkpoint's "
            f"{facts['classes']}; measure on the data set it was trained on, or not: limit=0."
        )
    return dataset
