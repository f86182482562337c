"""Convolutions in 8 bits, with ranges taken from images."""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from danet_lightning.checkpoints.onnx_file import INPUT
from danet_lightning.disk.progress import bar
from danet_lightning.export.images import Images


def quantized(model: Any, images: Images | Sequence[Any]) -> bytes:
    """Return an `onnx.ModelProto` with its convolutions in int8: static QDQ, weights per channel.

    Everything else, the attention and the classifiers' resizing, stays in float32.

    Args:
        model: Of `onnx_model`.
        images: From which the ranges of the activations are taken, each at its own size.
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, samples: Iterator[Any]) -> None:
            self.samples = samples

        def get_next(self) -> Any:
            sample = next(self.samples, None)
            if sample is None:
                return None
            return {INPUT: sample["image"].permute(1, 2, 0)[None].contiguous().numpy()}

    root = logging.getLogger()
    root.addFilter(_is_no_advice)
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            bar(images, desc="calibrate", unit="image") as progress,
        ):
            target = Path(folder, "int8.onnx")
            quantize_static(
                model,
                target,
                Reader(iter(progress)),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                per_channel=True,
                # Unsigned, as processors multiply bytes. Of signed ones onnxruntime turns a part
                # into unsigned, and runs each convolution between the two in float32.
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                reduce_range=True,  # 7 bits of weights: older processors add up in 16, and clip
            )
            return target.read_bytes()
    finally:
        root.removeFilter(_is_no_advice)


def _is_no_advice(record: logging.LogRecord) -> bool:
    """Keep back what the quantizer logs, to the root: it advises what the exporter has done."""
    return "onnxruntime" not in Path(record.pathname).parts
