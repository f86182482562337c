"""The rivals' contexts against their definitions, written out for every position."""

import pytest
import torch
import torchvision
from torch import Tensor, nn

from danet_lightning.checkpoints.rebuilding import build_network
from danet_lightning.errors import RequestError
from danet_lightning.models import CCNet, DANet, DeepLabV3, NonLocalNet, PSPNet, TimmBackbone
from danet_lightning.models.ccnet import CrissCrossAttention, criss_cross
from danet_lightning.models.non_local import NonLocalBlock
from danet_lightning.models.pspnet import PyramidPooling


def on_criss_cross(height: int, width: int) -> Tensor:
    """(N, N): which positions are in the row or the column of each."""
    rows = torch.arange(height).repeat_interleave(width)
    columns = torch.arange(width).repeat(height)
    return (rows[:, None] == rows) | (columns[:, None] == columns)


@pytest.mark.parametrize("size", [(5, 7), (1, 4), (6, 1), (1, 1)])
def test_criss_cross_is_attention_masked_to_row_and_column(
    size: tuple[int, int], seed: int
) -> None:
    torch.manual_seed(seed)
    shapes = ((2, 3, *size), (2, 3, *size), (2, 4, *size))
    query, key, value = (torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes)
    q, k, v = (t.flatten(2) for t in (query, key, value))
    energy = (q.transpose(1, 2) @ k).masked_fill(~on_criss_cross(*size), -torch.inf)
    expected = (v @ energy.softmax(-1).transpose(1, 2)).view_as(value)
    found = criss_cross(query, key, value)
    torch.testing.assert_close(found, expected)
    direction = torch.randn_like(found)
    wanted = torch.autograd.grad((expected * direction).sum(), (query, key, value))
    for ours, theirs in zip(
        torch.autograd.grad((found * direction).sum(), (query, key, value)), wanted, strict=True
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(("recurrence", "reached"), [(1, 5 + 7 - 1), (2, 5 * 7)])
def test_twice_reaches_every_position(recurrence: int, reached: int, seed: int) -> None:
    """CCNet, section 3.3."""
    torch.manual_seed(seed)
    attention = CrissCrossAttention(8, reduction=2, recurrence=recurrence).double()
    nn.init.ones_(attention.gamma)
    x = torch.randn(1, 8, 5, 7, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(attention(x)[0, :, 2, 3].sum(), x)
    assert (grad.abs().sum(1) > 0).sum() == reached


def test_the_non_local_block_is_the_embedded_gaussian(seed: int) -> None:
    """Equations 1, 4 and 6 for one position after the other."""
    torch.manual_seed(seed)
    block = NonLocalBlock(16, reduction=2).double().eval()
    x = torch.randn(2, 16, 4, 5, dtype=torch.float64)
    assert torch.equal(block(x), x)  # at the start
    nn.init.normal_(block.project[1].weight)
    theta, phi, g = block.query(x).flatten(2), block.key(x).flatten(2), block.value(x).flatten(2)
    y = torch.empty_like(g)
    for image in range(2):
        for i in range(20):
            f = torch.stack([(theta[image, :, i] @ phi[image, :, j]).exp() for j in range(20)])
            y[image, :, i] = (f * g[image]).sum(1) / f.sum()
    torch.testing.assert_close(block(x), x + block.project(y.view(2, 8, 4, 5)))


def test_pyramid_pooling_averages_cells(seed: int) -> None:
    torch.manual_seed(seed)
    pyramid = PyramidPooling(8, 4, bins=(1, 2)).eval()
    x = torch.rand(1, 8, 4, 6)
    seen = []
    for level in pyramid.levels:
        level[1].register_forward_hook(lambda _, given, __: seen.append(given[0]))
    with torch.no_grad():
        assert pyramid(x).shape == (1, 4, 4, 6)
    torch.testing.assert_close(seen[0][0, :, 0, 0], x.mean((2, 3))[0])
    torch.testing.assert_close(seen[1][0, :, 1, 0], x[0, :, 2:, :3].mean((1, 2)))


def test_deeplabv3_is_torchvisions(seed: int) -> None:
    torch.manual_seed(seed)
    theirs = torchvision.models.segmentation.deeplabv3.DeepLabHead(32, 5).eval()
    backbone = nn.Module()
    backbone.channels = (8, 32)
    ours = DeepLabV3(backbone, 5, channels=256).eval()
    ours.context[0].load_state_dict(theirs[0].state_dict())
    ours.context[1][0].load_state_dict(theirs[1].state_dict())
    ours.context[1][1].load_state_dict(theirs[2].state_dict())
    ours.classifiers["fused"][1].load_state_dict(theirs[4].state_dict())
    features = torch.randn(1, 32, 9, 11)
    with torch.no_grad():
        found = ours.classifiers["fused"](ours.context(features))
        torch.testing.assert_close(found, theirs(features))


@pytest.mark.parametrize("kind", [PSPNet, DeepLabV3, CCNet, NonLocalNet])
def test_a_rival_has_danets_outputs(kind: type[nn.Module], tiny: nn.Module) -> None:
    rival, baseline = kind(tiny, 5, aux=True), DANet(tiny, 5, pam=False, cam=False, aux=True)
    images = torch.randn(2, 3, 33, 21)
    outputs, expected = rival(images), baseline(images)
    assert [*outputs] == [*expected] == ["fused", "aux"]
    assert all(outputs[name].shape == expected[name].shape for name in outputs)
    twin = kind(tiny, 5, aux=True, align_corners=False).eval()
    twin.load_state_dict(rival.state_dict())
    assert not torch.allclose(twin(images)["fused"], rival.eval()(images)["fused"])


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (PSPNet, {"bins": []}, "bins=\\): \\[\\]"),
        (PSPNet, {"bins": [0]}, "bins=.*greater than 0"),
        (DeepLabV3, {"rates": [1000]}, "rates=.*less than or equal to 256"),
        (CCNet, {"recurrence": 0}, "recurrence=.*greater than 0"),
        (NonLocalNet, {"reduction": 17}, "leaves queries and keys without a channel"),
    ],
)
def test_impossible_arguments_are_named(
    kind: type[nn.Module], arguments: dict, message: str, tiny: nn.Module
) -> None:
    with pytest.raises(ValueError, match=message):
        kind(tiny, 5, **arguments)


def test_criss_cross_is_exact_under_autocast(seed: int) -> None:
    """Energies of this size would be off by whole units in bfloat16."""
    torch.manual_seed(seed)
    query, key, value = (torch.randn(1, 64, 8, 9) * 4 for _ in range(3))
    expected = criss_cross(query, key, value)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(criss_cross(query, key, value), expected)


@pytest.mark.parametrize("kind", [PSPNet, DeepLabV3, CCNet, NonLocalNet])
def test_a_checkpoint_rebuilds_it_on_a_backbone_of_timm(kind: type[nn.Module]) -> None:
    backbone = {
        "_target_": "danet_lightning.models.TimmBackbone",
        "name": "convnext_atto",
        "pretrained": "nowhere.pth",  # the weights are in the checkpoint
    }
    node = {"_target_": f"danet_lightning.models.{kind.__name__}", "backbone": backbone}
    weights = kind(TimmBackbone("convnext_atto"), 3).state_dict()
    net = build_network({**node, "num_classes": 3}, [], weights)
    net.load_state_dict(weights)
    assert type(net) is kind
    with pytest.raises(RequestError, match="context: unknown key"):
        build_network({**node, "num_classes": 3, "context": 1}, [], weights)
