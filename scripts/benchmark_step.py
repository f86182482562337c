"""What a training step and an inference pass cost, beside the textbook's: `benchmark_step.py`.

`benchmark_step.py memory` counts the bytes of a step for each crop and batch, without computing
anything. Both need torch, torchvision, lightning and pydantic, and no network.
B: images, H, W: their size.
"""

import argparse
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from measuring import Allocations, gib, image_size, memory, milliseconds, positive, tell
from textbook import TextbookDANet
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from danet_lightning.evaluate.module import true_float32
from danet_lightning.models import DANet, dilated_resnet
from danet_lightning.models.segmenter import MEAN, STD, normalize
from danet_lightning.train.losses import SummedCrossEntropy

CLASSES = 19  # of Cityscapes
KINDS = ("textbook", "float32", "bf16", "compiled")
ON_CUDA: dict[str, Any] = {
    "backbone": ["resnet50", "resnet101"],
    "size": [(768, 768)],
    "batch": [1, 2, 8],
}
ON_CPU: dict[str, Any] = {"backbone": ["resnet50"], "size": [(128, 128)], "batch": [1]}
FOR_MEMORY = {"size": [(512, 512), (768, 768)], "batch": [1, 2, 4]}


def arguments() -> argparse.ArgumentParser:
    """Return the options of the command line."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser = argparse.ArgumentParser(description=__doc__)
    add, given = parser.add_argument, "(default: %(default)s)"
    usual = {
        key: f"(default: {ON_CPU[key]}, on CUDA {ON_CUDA[key]}"
        + (f", of memory {FOR_MEMORY[key]})" if key in FOR_MEMORY else ")")
        for key in ON_CPU
    }
    add("what", nargs="?", choices=("step", "memory"), default="step", help=given)
    add("--backbone", nargs="+", choices=ON_CUDA["backbone"], help=usual["backbone"])
    add("--size", nargs="+", type=image_size, metavar="HxW", help=f"crops {usual['size']}")
    add("--batch", nargs="+", type=positive, help=f"crops at once {usual['batch']}")
    kinds = "(default: all; on a CPU textbook float32, of memory float32 bf16)"
    add("--kind", nargs="+", choices=KINDS, help=kinds)
    add("--device", choices=("cpu", "cuda"), default=device, help=given)
    add("--repeats", type=positive, default=10, help=f"after those that warm up {given}")
    add("--output", type=Path, default=Path("benchmark_step.json"), help=f"figures as JSON {given}")
    return parser


def main() -> None:
    """Measure what was asked for; print a table, write the figures after each row of it."""
    options = arguments().parse_args()
    defaults = {**(ON_CUDA if options.device == "cuda" else ON_CPU)}
    defaults["kind"] = list(KINDS) if options.device == "cuda" else ["textbook", "float32"]
    if options.what == "memory":
        defaults |= {**ON_CUDA, **FOR_MEMORY, "kind": ["float32", "bf16"]}
    for name, value in defaults.items():
        setattr(options, name, getattr(options, name) or value)
    tell(memories(options) if options.what == "memory" else steps(options), options.output)


class Step:
    """A network on its device, with a loss and an optimizer, as `kind` has them."""

    def __init__(self, kind: str, net: Any, device: str) -> None:
        self.is_ours, self.net = kind != "textbook", net
        self.predict = net.predict_logits if self.is_ours else lambda images: net(images)["fused"]
        if kind == "compiled":
            net.compile()
            self.predict = torch.compile(self.predict)
        is_low = kind in ("bf16", "compiled")
        self.precision = partial(torch.autocast, device, torch.bfloat16, enabled=is_low)
        self.criterion = SummedCrossEntropy()
        self.optimizer = torch.optim.SGD(
            net.parameters(), lr=0.003, momentum=0.9, weight_decay=1e-4,
            fused=(self.is_ours and device == "cuda") or None,
        )  # fmt: skip

    def loss(self, images: Tensor, mask: Tensor) -> Tensor:
        """Sum the cross-entropies of (B, 3, H, W) and (B, H, W), both uint8."""
        with self.precision():
            outputs = self.net(self.normalized(images))
            if self.is_ours:
                return torch.stack([*self.criterion(outputs, mask).values()]).sum()
            terms = [F.cross_entropy(it, mask.long(), ignore_index=255) for it in outputs.values()]
            return torch.stack(terms).sum()

    def normalized(self, images: Tensor) -> Tensor:
        """Return float32 images in the layout of the network."""
        floats = normalize(images, MEAN, STD)
        return floats if self.is_ours else floats.contiguous()

    def train(self, images: Tensor, mask: Tensor) -> None:
        """Do a step."""
        self.optimizer.zero_grad()
        self.loss(images, mask).backward()
        self.optimizer.step()

    @torch.inference_mode()
    def infer(self, images: Tensor) -> Tensor:
        """Score the classes at each pixel."""
        with self.precision():
            return self.predict(self.normalized(images))


def network(kind: str, backbone: Any) -> nn.Module:
    """Build a network with random weights; without dropout, which would draw otherwise in each."""
    if kind == "textbook":
        return TextbookDANet(backbone, CLASSES)
    return DANet(dilated_resnet(backbone), CLASSES, dropout=0.0)


def begun(kind: str, backbone: str, start: dict[str, Tensor], device: str) -> Step:
    """Begin with some weights, on a device and in the layout that `kind` has there."""
    with torch.device("meta"):  # drawing weights takes longer than a step of few pixels
        net = network(kind, backbone)
    net.to_empty(device="cpu").load_state_dict(start)
    layout = torch.contiguous_format if kind == "textbook" else torch.channels_last
    return Step(kind, net.to(device).to(memory_format=layout), device)


def weights(backbone: Any) -> dict[str, Tensor]:
    """Make weights in which the attention counts."""
    torch.manual_seed(0)
    net = DANet(dilated_resnet(backbone), CLASSES, gamma_init=0.5)
    return net.state_dict()


def steps(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure each kind of step; a gradient's error is relative to the textbook's in float32."""
    for backbone, size, batch in product(options.backbone, options.size, options.batch):
        start = weights(backbone)
        torch.manual_seed(1)
        data = (torch.randint(0, 256, (batch, 3, *size), dtype=torch.uint8),
                torch.randint(0, CLASSES, (batch, *size), dtype=torch.uint8))  # fmt: skip
        images, mask = (tensor.to(options.device) for tensor in data)
        exact = None
        for kind in options.kind:
            row: dict[str, Any] = {"network": backbone, "kind": kind, "images": [batch, *size]}
            try:
                if exact is None:
                    exact = reference(backbone, start, images, mask)
                yield row | measured(kind, backbone, start, images, mask, exact, options.repeats)
            except torch.OutOfMemoryError:
                yield row | {"step_ms": "out of memory"}


def reference(backbone: str, start: Any, images: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the textbook's loss and all its gradients in one, on the CPU, without TF32."""
    step = begun("textbook", backbone, start, images.device.type)
    with true_float32(images.device):
        return differentiated(step, images, mask)


def differentiated(step: Step, images: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss and its gradients, in the order of the parameters' names."""
    loss = step.loss(images, mask)
    loss.backward()
    named = sorted(step.net.named_parameters())
    return loss.detach().cpu(), torch.cat([it.grad.flatten().cpu() for _, it in named])


def measured(
    kind: str, backbone: str, start: Any, images: Tensor, mask: Tensor, exact: Any, repeats: int
) -> dict[str, Any]:
    """Measure a step and a pass: memory with weights and momentum, time, and errors at the start.

    The errors are of the first step; memory and time of those after it.
    """
    device, count = images.device.type, len(images)
    before = memory(device)
    step = begun(kind, backbone, start, device)
    found = differentiated(step, images, mask)
    errors = [
        ((mine - its).norm() / its.norm()).item() for mine, its in zip(found, exact, strict=True)
    ]
    for _ in range(2):
        step.train(images, mask)
    training_bytes = before()
    training = milliseconds(partial(step.train, images, mask), device, repeats)
    step.optimizer.zero_grad()
    step.net.eval()
    before = memory(device)
    step.infer(images)
    inference_bytes = before()
    inference = milliseconds(partial(step.infer, images), device, repeats)
    return {
        "step_ms": training, "step_images_a_second": 1000 * count / training,
        "step_gib": gib(training_bytes), "loss_error": errors[0], "gradient_error": errors[1],
        "inference_ms": inference, "inference_images_a_second": 1000 * count / inference,
        "inference_gib": gib(inference_bytes),
    }  # fmt: skip


def memories(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Count what the tensors of a training step take at once; workspaces of kernels come on top."""
    for backbone, kind, size, batch in product(
        options.backbone, options.kind, options.size, options.batch
    ):
        with FakeTensorMode(), Allocations() as counted:
            step = Step(kind, network(kind, backbone), "cpu")
            images = torch.empty(batch, 3, *size, dtype=torch.uint8)
            mask = torch.empty(batch, *size, dtype=torch.uint8)
            for _ in range(2):
                step.train(images, mask)
        yield {"network": backbone, "kind": kind, "images": [batch, *size],
               "step_gib": gib(counted.peak)}  # fmt: skip


if __name__ == "__main__":
    main()
