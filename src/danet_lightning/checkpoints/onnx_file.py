"""An exported network: read without trusting it, and run where a network is wanted."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danet_lightning.checkpoints.facts import PORTABLE
from danet_lightning.disk.names import printable
from danet_lightning.errors import RequestError, require_extra

INPUT, CLASSES, LOGITS = "images", "classes", "logits"
KEYS = ("config", *PORTABLE)
MODULES = ("onnx", "onnxruntime")


def read(path: Path) -> dict[str, Any]:
    """Read an ONNX file that `export` wrote.

    Returns:
        `onnx`, the bytes of the network; `danet_lightning`, what it says of itself, unchecked;
        and `state_dict`, empty: its weights are no tensors of torch.

    Raises:
        RequestError: The extra is missing; the file is damaged, wants to read other files, or was
            not written by `export`.
    """
    require_extra("export", MODULES, f"ckpt_path: {path}")
    import onnx

    content = path.read_bytes()
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf has several kinds
        raise _unusable(path, "it is truncated or no ONNX file") from error
    if any(onnx.external_data_helper.uses_external_data(each) for each in _tensors(model)):
        raise _unusable(path, "it wants to read other files as its weights")
    properties = {each.key: each.value for each in model.metadata_props}
    if "config" not in properties:
        raise _unusable(path, "it was not written by danet export")
    try:
        # others may have added something, as onnxruntime's quantization does
        facts = {key: json.loads(properties[key]) for key in KEYS if key in properties}
    except (ValueError, RecursionError) as error:
        raise _unusable(path, "what it says of itself is no JSON") from error
    return {"onnx": content, "danet_lightning": facts, "state_dict": {}}


def _tensors(message: Any) -> Iterator[Any]:
    """Yield every tensor in an ONNX message: weights, constants, also those inside of subgraphs."""
    from google.protobuf.message import Message
    from onnx import TensorProto

    for field, value in message.ListFields():
        if field.message_type is not None:
            for each in [value] if isinstance(value, Message) else value:
                if isinstance(each, TensorProto):
                    yield each
                yield from _tensors(each)


def _unusable(path: Path, reason: str) -> RequestError:
    return RequestError(f"ckpt_path: {path} cannot be used: {reason}. Export the checkpoint again.")


class OnnxNetwork(nn.Module):
    """A `Network` that onnxruntime computes, on the CPU.

    Normalization is inside of the file, so images are brought back to the bytes that it takes.
    Images that a protocol has resized are rounded to whole gray levels by that.

    Args:
        content: Of the file.
        classes: How many there are, C.
        mean: RGB mean on the 0..255 scale.
        std: RGB standard deviation on the 0..255 scale.
        align_corners: How logits are resized where a protocol does it.

    Raises:
        RequestError: ONNX Runtime cannot build it, or it has other inputs or outputs than what
            `export` writes.
    """

    def __init__(
        self,
        content: bytes,
        classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        align_corners: bool = True,
    ) -> None:
        super().__init__()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what fails is told here
        try:
            self.session = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime has ten kinds
            raise _not_running(error) from error
        outputs = {each.name: each for each in self.session.get_outputs()}
        self.output = LOGITS if LOGITS in outputs else CLASSES
        _require_images(self.session.get_inputs())
        _require_answer(outputs.get(self.output), self.output, classes)
        self.classes = classes
        self.mean, self.std = (torch.tensor(each).view(3, 1, 1) for each in (mean, std))
        self.align_corners = align_corners

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Map (B, 3, H, W) normalized images to {"fused": (B, C, H, W) logits}."""
        return {"fused": self.predict_logits(images)}

    def predict_logits(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) normalized images to (B, C, H, W) logits.

        Of a file with class ids alone they are 1 for the class and 0 for the others.
        """
        pixels = (images.cpu() * self.std + self.mean).round().clamp(0, 255).to(torch.uint8)
        scores = self.run(pixels)
        return scores.to(images.device)

    def run(self, pixels: Tensor) -> Tensor:
        """Map (B, 3, H, W) uint8 RGB on the CPU to (B, C, H, W), as `predict_logits`."""
        array = pixels.permute(0, 2, 3, 1).contiguous().numpy()  # (B, H, W, 3)
        try:
            output = torch.from_numpy(self.session.run([self.output], {INPUT: array})[0])
        except Exception as error:
            if "alloc" in str(error):
                raise torch.OutOfMemoryError(str(error)) from error
            raise _not_running(error) from error
        size = (len(pixels), *pixels.shape[2:])
        is_right = output.shape == (size[0], self.classes, *size[1:])
        if self.output == CLASSES:
            if output.shape == size and output.dtype == torch.uint8 and output.max() < self.classes:
                return F.one_hot(output.long(), self.classes).movedim(-1, 1).float()
            is_right = False
        if is_right and not output.isfinite().all():
            raise RequestError(
                "ckpt_path: the network answers with NaN or infinity, which is no class. Export it "
                "again, from a checkpoint of before the training diverged."
            )
        if not is_right or not output.is_floating_point():
            raise RequestError(
                f"ckpt_path: the network answers images of {size} with {tuple(output.shape)} "
                f"{output.dtype}, which are no {self.output} of {self.classes} classes."
            )
        return output


def _require_images(inputs: Sequence[Any]) -> None:
    """Require that a network takes what `run` gives it: bytes of RGB images of any size."""
    tensors = [(each.name, each.type, each.shape) for each in inputs]
    is_right = (
        [each[:2] for each in tensors] == [(INPUT, "tensor(uint8)")]
        and len(tensors[0][2]) == 4
        and tensors[0][2][3] == 3
        and not any(isinstance(length, int) for length in tensors[0][2][:3])
    )
    if not is_right:
        raise _other_network("takes", tensors, f"{INPUT} (B, H, W, 3) in uint8, of any B, H and W")


def _require_answer(output: Any, name: str, classes: int) -> None:
    """Require that a network answers as `run` reads it: with classes or logits of each pixel."""
    tensors = [(output.name, output.type, output.shape)] if output is not None else []
    kind, rank = ("tensor(float)", 4) if name == LOGITS else ("tensor(uint8)", 3)
    is_right = output is not None and output.type == kind and len(output.shape) == rank
    if not is_right or (name == LOGITS and output.shape[1] != classes):
        wanted = f"{LOGITS} (B, {classes}, H, W) in float32 or {CLASSES} (B, H, W) in uint8"
        raise _other_network("answers with", tensors, wanted)


def _other_network(verb: str, tensors: Sequence[Any], wanted: str) -> RequestError:
    text = ", ".join(f"{name} {shape} {kind}" for name, kind, shape in tensors) or "nothing known"
    return RequestError(
        f"ckpt_path: the network in this file {verb} {printable(text)[:300]}, where "
        f"danet export writes {wanted}. Export it again."
    )


def network(content: Mapping[str, Any]) -> OnnxNetwork:
    """Build the network of what `read` returned, after its facts were checked."""
    facts = content["danet_lightning"]
    align_corners = bool(facts["config"]["model"].get("align_corners", True))
    return OnnxNetwork(
        content["onnx"], len(facts["classes"]), facts["mean"], facts["std"], align_corners
    )


def _not_running(error: Exception) -> RequestError:
    reason = printable(" ".join(str(error).split()))[:300]
    return RequestError(f"ckpt_path: onnxruntime cannot run this file: {reason}")
