"""The ONNX files, and the report on what they do as PyTorch does: net.onnx, net.json."""

import json
import platform
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from danet_lightning.checkpoints.metadata import git_commit
from danet_lightning.checkpoints.onnx_file import OnnxNetwork
from danet_lightning.disk.writing import write_new
from danet_lightning.errors import RunError
from danet_lightning.export.graph import onnx_model
from danet_lightning.export.images import Images, measured
from danet_lightning.export.parity import logits, milliseconds, parity
from danet_lightning.export.quantization import quantized
from danet_lightning.models.segmenter import Segmenter

PYTORCH = "PyTorch"
LEAST_AGREEMENT = 0.999  # of the classes, in float32
LARGEST_LOSS = 0.01  # of mIoU, by int8


class Options(NamedTuple):
    """What is exported.

    Attributes:
        size: Height and width of the pictures for parity and time.
        outputs: `classes`, `logits` or both.
        opset: Version of the ONNX operators.
    """

    size: tuple[int, int]
    outputs: tuple[str, ...]
    opset: int


def write(
    files: Mapping[str, Path],
    segmenter: Segmenter,
    facts: Mapping[str, Any],
    options: Options,
    images: Images | None,
    calibration: Images | None,
) -> None:
    """Export, compare with PyTorch, measure, write the files.

    Args:
        files: See `config.outputs.exported`.
        segmenter: What is exported.
        facts: What the file says of itself.
        options: How it is exported.
        images: To measure mIoU on.
        calibration: From which int8 takes its ranges.

    Raises:
        RunError: The float32 file chooses other classes than PyTorch; nothing is written.
    """
    model = onnx_model(segmenter, facts, options.outputs, options.opset)
    float32, int8 = files["float32"].name, files["int8"].name if "int8" in files else ""
    contents = {float32: model.SerializeToString()}
    exported = {float32: _segmenter(contents[float32], segmenter)}
    compared = {float32: parity(segmenter, exported[float32].net, options.size)}
    _refuse_different(compared[float32])
    if calibration is not None:
        contents[int8] = quantized(model, calibration)
        exported[int8] = _segmenter(contents[int8], segmenter)
        compared[int8] = parity(segmenter, exported[int8].net, options.size)
    computes = {name: each.net.run for name, each in exported.items()}
    report: dict[str, Any] = {
        **{"git_commit": git_commit(), "opset": options.opset, "outputs": options.outputs},
        "bytes": {name: len(content) for name, content in contents.items()},
        "parity": compared,
        "milliseconds": {
            name: milliseconds(compute, options.size)
            for name, compute in {PYTORCH: partial(logits, segmenter), **computes}.items()
        },
        "measured": measured({PYTORCH: segmenter, **exported}, images) if images else None,
        "machine": {"processor": platform.machine(), "threads": torch.get_num_threads()},
    }
    report["int8_loss"] = _loss(report["measured"], int8)
    contents[files["report"].name] = (json.dumps(report, indent=1, allow_nan=False) + "\n").encode()
    write_new({files["report"].with_name(name): content for name, content in contents.items()})
    print("\n".join([*_lines(report, options), f"report      {files['report']}"]))


def _segmenter(content: bytes, original: Segmenter) -> Segmenter:
    """Return a segmenter like the original one that runs the exported network."""
    facts = {key: getattr(original, key) for key in ("classes", "palette", "mean", "std")}
    align_corners = bool(getattr(original.net, "align_corners", True))
    net = OnnxNetwork(content, len(original.classes), original.mean, original.std, align_corners)
    return Segmenter(net, **facts, protocol=original.protocol).eval()


def _loss(report: Mapping[str, Any] | None, int8: str) -> float | None:
    """Tell how much mIoU int8 loses; None where that is not known."""
    scores = report["networks"] if report else {}
    mious = [scores[name]["miou"] for name in (PYTORCH, int8) if name in scores]
    return None if len(mious) < 2 or None in mious else mious[0] - mious[1]


def _refuse_different(rows: list[dict[str, Any]]) -> None:
    if all(row["same_class"] >= LEAST_AGREEMENT for row in rows):
        return
    lines = "\n".join(_parity_line("", row) for row in rows)
    raise RunError(
        f"The exported network chooses other classes than PyTorch, and is not written. In float32 "
        f"{LEAST_AGREEMENT:.1%} of the pixels have to agree at every size:\n{HEADER}\n{lines}\n"
        "A network of your own may use sizes as numbers while it is traced (x.shape[2] in a loop "
        "or an if): compute them from tensors."
    )


HEADER = f"{'parity with PyTorch':36}  largest error  mean error  largest logit  same class"


def _lines(report: Mapping[str, Any], options: Options) -> list[str]:
    """Return the report as a person reads it; what int8 loses comes first if it is much."""
    lines = []
    if (report["int8_loss"] or 0) > LARGEST_LOSS:
        lines.append(
            f"int8 LOSES {report['int8_loss']:.4f} mIoU on {report['measured']['images']} images; "
            "ship the float32 file, or calibrate on more images: calibration_images=..."
        )
    if report["int8_loss"] is None and len(report["bytes"]) > 1:
        lines.append("int8: what mIoU it loses is not measured; limit=20 measures it")
    for name, size in report["bytes"].items():
        lines.append(f"written     {name}  {size / 1e6:.1f} MB, {', '.join(options.outputs)}")
    lines += ["", HEADER]
    for name, rows in report["parity"].items():
        lines += [_parity_line(name, row) for row in rows]
    lines += ["", f"{'ms a picture, ' + ' x '.join(map(str, options.size)):36}  on this CPU"]
    lines += [f"{name:36}  {taken:11.1f}" for name, taken in report["milliseconds"].items()]
    if measured := report["measured"]:
        name = measured["protocol"].get("name", "")
        lines += [
            "",
            f"{measured['dataset']} {measured['split']}, {measured['images']} of "
            f"{measured['images_of_split']} images, {name}",
            f"{'':36}         mIoU  pixel accuracy  same class",
        ]
        lines += [
            f"{name:36}  {_number(row['miou'], 4):>11}  {_number(row['pixel_accuracy'], 4):>14}  "
            f"{row['same_class']:>10.3%}"
            for name, row in measured["networks"].items()
        ]
    return [*lines, ""]


def _parity_line(name: str, row: Mapping[str, Any]) -> str:
    title = f"{name}  {' x '.join(map(str, row['images']))}"
    errors = [row[key] for key in ("largest_error", "mean_error", "largest_logit")]
    shown = ["-" if it is None else f"{it:.2g}" for it in errors]
    return f"{title:36}  {shown[0]:>13}  {shown[1]:>10}  {shown[2]:>13}  {row['same_class']:>10.3%}"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
