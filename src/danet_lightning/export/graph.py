"""A network as an ONNX graph: bytes of images in, classes out.

B: images, H, W: their size, K: classes.
"""

import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn
from torch.torch_version import TorchVersion

from danet_lightning.checkpoints.onnx_file import CLASSES, INPUT, LOGITS
from danet_lightning.errors import RequestError
from danet_lightning.models.segmenter import Segmenter, normalize

DYNAMIC = {0: "batch", 1: "height", 2: "width"}
LEAST_ONNXSCRIPT = "0.7"  # as the extra `export` says
EXAMPLE = (2, 64, 96, 3)  # what is traced: of no size that is anybody's


def require_exporter() -> None:
    """Refuse an onnxscript that writes no opset but 18.

    Raises:
        RequestError: It is too old.
    """
    if TorchVersion(installed := version("onnxscript")) < LEAST_ONNXSCRIPT:
        raise RequestError(
            f"format=onnx: onnxscript {LEAST_ONNXSCRIPT} or newer is needed, and {installed} is "
            "installed: pip install -U 'danet-lightning[export]'. Or ship the network with "
            "format=hub."
        )


class ImageGraph(nn.Module):
    """What is exported: normalization, the network, and the choice of the class.

    Args:
        segmenter: Whose network it is.
        outputs: `classes`, `logits` or both.
    """

    def __init__(self, segmenter: Segmenter, outputs: Sequence[str]) -> None:
        super().__init__()
        self.net = segmenter.net
        self.mean = segmenter.mean
        self.std = segmenter.std
        self.outputs = tuple(outputs)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map RGB (B, H, W, 3) to the chosen ones of classes (B, H, W) and logits (B, K, H, W)."""
        logits = self.net.predict_logits(normalize(images.permute(0, 3, 1, 2), self.mean, self.std))
        results = {CLASSES: logits.argmax(1).to(torch.uint8), LOGITS: logits}
        return tuple(results[name] for name in self.outputs)


def onnx_model(
    segmenter: Segmenter, facts: Mapping[str, Any], outputs: Sequence[str], opset: int
) -> Any:
    """Trace a network into an `onnx.ModelProto` that says what it is.

    Args:
        segmenter: In eval mode, on the CPU.
        facts: What the file says of itself, see `checkpoints.metadata.portable`.
        outputs: See `ImageGraph`.
        opset: Version of the ONNX operators.

    Raises:
        RequestError: The network does something that has no ONNX operator or that depends on the
            values in the images; or it takes some sizes only.
    """
    import onnx

    graph = ImageGraph(segmenter, outputs).eval()
    with _silent():
        try:
            program = torch.onnx.export(
                graph,
                (torch.zeros(EXAMPLE, dtype=torch.uint8),),
                input_names=[INPUT],
                output_names=list(outputs),
                dynamic_shapes=(DYNAMIC,),
                opset_version=opset,
                dynamo=True,
                verbose=False,
            )
        except Exception as error:  # of torch.export or of its conversion; the first says why
            name = type(segmenter.net).__name__
            raise RequestError(
                f"ckpt_path: {name} cannot be exported: {_first_reason(error)} Replace that "
                "operation by one with the same result, or ship the network with format=hub."
            ) from error
    assert program is not None  # so it is with dynamo
    model = program.model_proto
    _require_any_size(model, type(segmenter.net).__name__)
    _forget_sources(model)
    description = {**facts, "protocol": segmenter.protocol.describe()}
    onnx.helper.set_model_props(
        model, {key: json.dumps(value) for key, value in description.items()}
    )
    return model


def _require_any_size(model: Any, network: str) -> None:
    """Refuse a graph whose sizes torch has narrowed by itself to those that it could trace.

    Raises:
        RequestError: Batch, height and width are not free of one another, and of any number.
    """
    lengths = model.graph.input[0].type.tensor_type.shape.dim[:3]
    shown = [each.dim_param or str(each.dim_value) for each in lengths]
    if len({*shown}) < 3 or not all(name.isidentifier() for name in shown):
        raise RequestError(
            f"ckpt_path: {network} cannot be exported for images of any size, but for "
            f"{' x '.join(shown)} (batch, height, width) alone. Let it pad its features to what it "
            "needs, or ship the network with format=hub."
        )


def _forget_sources(model: Any) -> None:
    """Remove what torch notes of the lines of code on this machine, a third of a small file."""
    for graph in (model.graph, *model.functions):
        parts = [graph, *graph.node, *graph.value_info]
        parts += [*graph.input, *graph.output] if graph is model.graph else []
        for part in parts:
            del part.metadata_props[:]


@contextmanager
def _silent() -> Iterator[None]:
    """Keep back what torch's exporter and its libraries log of their own steps, and warn of."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _first_reason(error: BaseException) -> str:
    """Return the first sentence of what went wrong at the bottom of it."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return f"{lines[0][:300].rstrip('.')}."
