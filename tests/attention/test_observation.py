import numpy as np
import pytest
import torch
from attending import image, naive, segmenter
from torch import nn

from danet_lightning.attention.observation import (
    at_positions,
    observe,
    position_of,
)
from danet_lightning.errors import RequestError
from danet_lightning.models import PositionAttention, dilated_resnet
from danet_lightning.models.maps import ChannelMap, PositionMap


def test_maps_are_those_of_the_formulas() -> None:
    seg, pixels = segmenter(), image()
    seen = observe(seg, pixels)
    position, channel = seen.branches
    assert (position.name, channel.name) == (
        "branches.position.attention",
        "branches.channel.attention",
    )
    assert isinstance(position.map, PositionMap)
    assert isinstance(channel.map, ChannelMap)
    assert position.map.size == (8, 12)
    spatial, channels = naive(seg, pixels)
    torch.testing.assert_close(position.map.rows(torch.arange(96)), spatial, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(channel.map.weights.double(), channels, rtol=1e-3, atol=1e-6)
    assert (position.gamma, channel.gamma) == (3.0, 3.0)
    added = (channel.after - channel.before).norm() / channel.before.norm()
    assert channel.effect == pytest.approx(float(added))
    # what is added is gamma times the mixture of the channels
    mixed = (channels.float() @ channel.before.flatten(1)).view_as(channel.before)
    torch.testing.assert_close(channel.after, channel.before + 3 * mixed, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("in_backbone", [False, True])
def test_switched_off_is_gamma_at_zero_and_leaves_the_network_as_it_was(in_backbone: bool) -> None:
    seg, pixels = segmenter(), image()
    if in_backbone:
        inner = PositionAttention(64, gamma_init=3.0).eval()
        seg.net.backbone.fourth = nn.Sequential(seg.net.backbone.fourth, inner)
    before = seg.segment(pixels).numpy()
    passes = []
    seg.net.backbone.third.register_forward_hook(lambda *_: passes.append(1))
    seen = observe(seg, pixels)
    # once for all, unless what is switched off lies within
    assert (len(seen.branches), len(passes)) == ((3, 2) if in_backbone else (2, 1))
    np.testing.assert_array_equal(seen.prediction, before)
    np.testing.assert_array_equal(seg.segment(pixels).numpy(), before)
    for branch in seen.branches:
        gamma = seg.net.get_submodule(branch.name).gamma
        kept = gamma.detach().clone()
        gamma.data.zero_()
        without = seg.segment(pixels).numpy()
        gamma.data.copy_(kept)
        np.testing.assert_array_equal(branch.without, without)
        assert (branch.without != seen.prediction).any()


def test_one_branch_is_seen_alone_and_none_is_refused() -> None:
    (branch,) = observe(segmenter(pam=False), image()).branches
    assert branch.title == "Channel attention"
    with pytest.raises(RequestError, match=r"this DANet has no attention.*ccnet or nonlocal"):
        observe(segmenter(pam=False, cam=False), image())


class Mine(nn.Module):
    """An attention of a user's, without gamma, that runs twice."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.inner(x)

    def attention_map(self, x: torch.Tensor) -> ChannelMap:
        return ChannelMap(torch.eye(x.shape[1]))


def test_any_module_that_tells_its_map_joins() -> None:
    seg = segmenter(pam=False, cam=False)
    seg.net.branches["plain"] = nn.Sequential(
        seg.net.branches["plain"], mine := Mine(nn.Tanh()), mine
    )
    seen = observe(seg, image())
    (branch,) = seen.branches
    assert branch.gamma is None
    torch.testing.assert_close(branch.after, branch.before + branch.before.tanh())
    seg.net.branches["plain"][1].inner = nn.Identity()
    seg.net.branches["plain"][1].forward = lambda x: x[..., 1:]
    with pytest.raises(RequestError, match=r"branches\.plain\.1: it turns features of \(1, 16,"):
        observe(seg, image())


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((6000, 8000), (48, 64)), ((1, 9000), (1, 64)), ((9000, 1), (64, 1)), ((1, 1), (1, 1))],
)
def test_images_are_reduced_to_what_memory_holds(
    shape: tuple[int, int], expected: tuple[int, int]
) -> None:
    pixels = np.zeros((*shape, 3), np.uint8)
    label = np.full(shape, 2, np.uint8)
    seen = observe(segmenter(backbone=dilated_resnet("resnet18")), pixels, label, max_side=64)
    assert seen.original_size == shape
    assert seen.image.shape[:2] == seen.prediction.shape == expected
    assert seen.label is not None
    assert seen.label.shape == expected
    assert set(seen.label.flat) == {2}
    assert seen.branches[0].map.size == tuple(-(-side // 8) for side in expected)


def test_positions_and_shares_by_hand() -> None:
    mask = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 255, 255]], np.uint8)
    assert at_positions(mask, (3, 2)).tolist() == [[0, 1], [0, 1], [2, 255]]
    assert [position_of(point, (3, 4), (3, 2)) for point in ((0, 0), (0, 2), (2, 3))] == [0, 1, 5]
