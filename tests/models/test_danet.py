import io
import itertools
from typing import Any

import pytest
import torch
from torch import nn

from danet_lightning.models import DANet, dilated_resnet

BOTH = (True, False)
VARIANTS = [
    {"pam": pam, "cam": cam, "aux": aux, "losses": losses, "cam_variant": variant}
    for pam, cam, aux, losses in itertools.product(BOTH, BOTH, BOTH, ("all", "fused"))
    for variant in (("official", "paper") if cam else ("official",))
]


def expected_outputs(pam: bool, cam: bool, aux: bool, losses: str, **_: Any) -> set[str]:
    outputs = {"fused": True, "aux": aux}
    outputs["position"] = pam and losses == "all"
    outputs["channel"] = cam and losses == "all"
    return {name for name, built in outputs.items() if built}


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_every_parameter_learns_and_the_outputs_are_those_built(
    variant: dict[str, Any], tiny: nn.Module
) -> None:
    net = DANet(tiny, num_classes=5, dropout=0.0, **variant)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    images = torch.randn(2, 3, 33, 21)
    for _ in range(2):  # gamma starts at 0: behind it, nothing moves before the second step
        optimizer.zero_grad()
        outputs = net(images)
        sum(logits.square().mean() for logits in outputs.values()).backward()
        optimizer.step()
    idle = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    # the softmax is blind to what all keys share, so a key bias has no gradient by construction
    idle = [name for name in idle if not name.endswith("key.bias")]
    assert idle == []
    assert set(outputs) == set(net.eval()(images)) == expected_outputs(**variant)
    assert {tuple(logits.shape) for logits in outputs.values()} == {(2, 5, 33, 21)}


def test_branches_that_are_off_are_not_built(tiny: nn.Module) -> None:
    both = {name for name, _ in DANet(tiny, 5).named_parameters()}
    assert {name for name in both if name.endswith("gamma")} == {
        "branches.position.attention.gamma",
        "branches.channel.attention.gamma",
    }
    pam = DANet(tiny, 5, cam=False)
    assert not [n for n, _ in pam.named_parameters() if "channel" in n]
    assert pam.channel_attention is None
    assert pam.position_attention is pam.branches["position"].attention
    baseline = DANet(tiny, 5, pam=False, cam=False)
    assert not [n for n, _ in baseline.named_parameters() if "attention" in n]


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("size", [(1, 1), (2, 1), (7, 65), (33, 47), (64, 64)])
def test_any_size(size: tuple[int, int], align_corners: bool, seed: int) -> None:
    torch.manual_seed(seed)
    net = DANet(dilated_resnet("resnet18"), 3, aux=True, align_corners=align_corners).eval()
    with torch.no_grad():
        outputs = net(torch.randn(1, 3, *size))
    for logits in outputs.values():
        assert logits.shape == (1, 3, *size)
        assert logits.isfinite().all()


@pytest.mark.parametrize("variant", VARIANTS[::5], ids=str)
def test_predict_logits_is_the_fused_output_without_the_other_heads(
    variant: dict[str, Any], tiny: nn.Module
) -> None:
    net = DANet(tiny, 5, gamma_init=0.5, **variant).eval()
    images = torch.randn(2, 3, 33, 21)
    with torch.no_grad():
        expected = net(images)["fused"]
        used = []
        for name, classify in net.classifiers.items():
            classify.register_forward_hook(lambda *_, name=name: used.append(name))
        assert torch.equal(net.predict_logits(images), expected)
    assert used == ["fused"]


def test_heads_are_forward_before_the_resize(tiny: nn.Module) -> None:
    net = DANet(tiny, 5, aux=True, gamma_init=0.5).eval()
    images = torch.randn(1, 3, 32, 24)
    logits, outputs = net.heads(net.backbone(images)), net(images)
    assert list(logits) == list(outputs)
    for name, value in logits.items():
        assert value.shape == (1, 5, 8, 6)
        resize = nn.Upsample((32, 24), mode="bilinear", align_corners=True)
        torch.testing.assert_close(resize(value), outputs[name])


def test_head_is_everything_outside_the_backbone(tiny: nn.Module) -> None:
    net = DANet(tiny, 5, aux=True)
    backbone = {n for n, _ in net.named_parameters() if n.startswith("backbone.")}
    assert backbone == {f"backbone.{n}" for n, _ in tiny.named_parameters()}


def test_state_dict_survives_a_file(tiny: nn.Module) -> None:
    net = DANet(tiny, 5, aux=True, gamma_init=0.5)
    net(torch.randn(2, 3, 32, 24))  # moves the running statistics
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    other = DANet(type(tiny)(), 5, aux=True)
    other.load_state_dict(torch.load(file, weights_only=True))
    images = torch.randn(1, 3, 32, 24)
    assert torch.equal(net.eval().predict_logits(images), other.eval().predict_logits(images))


def test_bfloat16_autocast_trains(tiny: nn.Module) -> None:
    net = DANet(tiny, 5, gamma_init=0.5, dropout=0.0)
    images = torch.randn(2, 3, 64, 48)
    exact = net(images)["fused"]
    with torch.autocast("cpu", torch.bfloat16):
        outputs = net(images)
    sum(logits.float().mean() for logits in outputs.values()).backward()
    assert (outputs["fused"].float() - exact).norm() / exact.norm() < 0.05
    assert all(p.grad.isfinite().all() for p in net.parameters())


def test_impossible_arguments_are_named(tiny: nn.Module) -> None:
    with pytest.raises(ValueError, match="num_classes=\\): 0: must be greater than 0"):
        DANet(tiny, 0)
    with pytest.raises(ValueError, match="must be 'all' or 'fused'"):
        DANet(tiny, 5, losses="both")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="backbone Conv2d has channels None; wanted is a pair"):
        DANet(nn.Conv2d(3, 8, 3), 5)
    with pytest.raises(ValueError, match="leaves queries and keys without a channel"):
        DANet(tiny, 5, channels=4)
