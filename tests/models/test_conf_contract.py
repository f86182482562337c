"""What every network and every backbone in conf/ has to do; a new one is held to it by being there.

The rules are in `broken_rules`; a network that breaks one of them on purpose is found by each.
"""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import hydra
import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from torch import Tensor, nn
from torch.nn import functional as F

from danet_lightning.config.overrides import compose
from danet_lightning.config.request import conf_dir
from danet_lightning.models import DANet
from danet_lightning.models.segmenter import Network

CLASSES = 5
SIZES = [(33, 21), (1, 1), (7, 50), (64, 40)]


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def build(model: str = "danet", backbone: str = "resnet18_stage3") -> nn.Module:
    """Build what training would, from random weights that are the same each time."""
    choices = [
        f"model={model}",
        f"backbone={backbone}",
        "dataset=camvid",
        "backbone.pretrained=false",
    ]
    try:
        with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
            # a data set brings a backbone of its own
            config = compose("train", [*choices, "model.dropout=0.0"])
    finally:
        HydraConfig.instance().cfg = None
    torch.manual_seed(0)
    net: nn.Module = hydra.utils.instantiate(config.model, num_classes=CLASSES)
    return net


def broken_rules(net: Any, twin: Any) -> Iterator[str]:
    """Name each rule of CONTRIBUTING, "Add a head", that a network breaks.

    Args:
        net: The network.
        twin: Another one of the same configuration.
    """
    if not isinstance(net, Network) or not isinstance(getattr(net, "backbone", None), nn.Module):
        yield "predict_logits and backbone are there"
        return
    if not isinstance(getattr(net, "align_corners", None), bool):
        yield "align_corners is there"
    generator = torch.Generator().manual_seed(0)
    pictures = [torch.randn(2, 3, *size, generator=generator) for size in SIZES]
    trained = net.train()(pictures[0])
    net.eval()
    with torch.no_grad():
        for images in pictures:
            outputs = net(images)
            if "fused" not in outputs or outputs.keys() != trained.keys():
                yield "the outputs are the same in training and evaluation, fused among them"
                return
            expected = (2, CLASSES, *images.shape[-2:])
            if any(logits.shape != expected for logits in outputs.values()):
                yield "logits have the size of the input, whatever it is"
            if not torch.allclose(net.predict_logits(images), outputs["fused"], atol=1e-5):
                yield "predict_logits is fused"
        again = net(images)
        if any(not torch.equal(again[name], outputs[name]) for name in outputs):
            yield "evaluation is a function of the image"
        twin.load_state_dict(net.state_dict())
        if not torch.equal(twin.eval()(images)["fused"], outputs["fused"]):
            yield "the state dict is the whole network"
        height, is_aligned = net.backbone(images)[1].shape[-2], net.align_corners
        for logits in outputs.values():
            if not _fits(logits, height, is_aligned) and _fits(logits, height, not is_aligned):
                yield "align_corners is how logits are resized"
    yield from _idle(net.train(), pictures[0])


def _fits(logits: Tensor, height: int, is_aligned: bool | None) -> bool:
    """Tell whether logits (B, C, H, W) can be a bilinear resize of some with this height."""
    columns = logits.movedim(-2, 0).flatten(1)  # (H, B * C * W)
    weights = F.interpolate(
        torch.eye(height)[None], len(columns), mode="linear", align_corners=is_aligned
    )[0].T  # (H, height)
    nearest = weights @ torch.linalg.lstsq(weights, columns).solution
    return torch.allclose(nearest, columns, rtol=0, atol=1e-4 * float(columns.abs().max()))


def _idle(net: Any, images: Tensor) -> Iterator[str]:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(2):  # gamma starts at 0: behind it, nothing moves before the second step
        optimizer.zero_grad()
        sum(logits.square().mean() for logits in net(images).values()).backward()
        optimizer.step()
    idle = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    # the softmax is blind to what all keys share, so a key bias has no gradient by construction
    idle = [name for name in idle if not name.endswith("key.bias")]
    if idle:
        yield f"every parameter gets a gradient: not {', '.join(idle)}"


@pytest.mark.parametrize("model", options("model"))
def test_every_model_keeps_the_rules(model: str) -> None:
    net = build(model=model)
    assert [*broken_rules(net, deepcopy(net))] == []


@pytest.mark.parametrize("backbone", options("backbone"))
def test_every_backbone_keeps_the_rules(backbone: str) -> None:
    net = build(backbone=backbone)
    assert [*broken_rules(net, deepcopy(net))] == []
    stage3, stage4 = net.backbone(torch.randn(1, 3, 64, 40))
    assert (stage3.shape[1], stage4.shape[1]) == tuple(net.backbone.channels)
    assert stage3.shape[2:] == stage4.shape[2:] == (8, 5)


class OtherPrediction(DANet):
    def predict_logits(self, images: Tensor) -> Tensor:
        return 2 * super().predict_logits(images)


class Smaller(DANet):
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {name: logits[..., 1:] for name, logits in super().forward(images).items()}


class LessInEvaluation(DANet):
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        outputs = super().forward(images)
        return outputs if self.training else {"fused": outputs["fused"]}


class Random(DANet):
    def predict_logits(self, images: Tensor) -> Tensor:
        return super().predict_logits(images)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {name: x + torch.rand(1) * 1e-6 for name, x in super().forward(images).items()}


class Idle(DANet):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.forgotten = nn.Linear(1, 1)


class Hidden(DANet):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.scale = torch.rand(1)  # no buffer

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {name: x * self.scale for name, x in super().forward(images).items()}

    def predict_logits(self, images: Tensor) -> Tensor:
        return super().predict_logits(images) * self.scale


class Unaligned(DANet):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.align_corners = None  # type: ignore[assignment]


class Opposed(DANet):
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        outputs: dict[str, Tensor] = self.opposed(super().forward, images)
        return outputs

    def predict_logits(self, images: Tensor) -> Tensor:
        logits: Tensor = self.opposed(super().predict_logits, images)
        return logits

    def opposed(self, compute: Any, images: Tensor) -> Any:
        self.align_corners = not self.align_corners
        result = compute(images)
        self.align_corners = not self.align_corners
        return result


class Unnamed(nn.Module):
    pass


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        (OtherPrediction, "predict_logits is fused"),
        (Smaller, "logits have the size of the input"),
        (LessInEvaluation, "the outputs are the same in training and evaluation"),
        (Random, "evaluation is a function of the image"),
        (Idle, "every parameter gets a gradient: not forgotten.weight, forgotten.bias"),
        (Hidden, "the state dict is the whole network"),
        (Unaligned, "align_corners is there"),
        (Opposed, "align_corners is how logits are resized"),
    ],
)
def test_a_rule_that_is_forgotten_is_found(kind: type[DANet], rule: str, tiny: nn.Module) -> None:
    nets = [kind(tiny, CLASSES, dropout=0.0) for _ in range(2)]
    assert any(found.startswith(rule) for found in broken_rules(*nets))


def test_what_is_no_network_is_found() -> None:
    assert [*broken_rules(Unnamed(), Unnamed())] == ["predict_logits and backbone are there"]
