"""The maps that people look at are those by which the modules compute."""

import pytest
import torch

from danet_lightning.models import ChannelAttention, PositionAttention
from danet_lightning.models.ccnet import CrissCrossAttention
from danet_lightning.models.maps import BLOCK, Mapped, PositionMap, pool
from danet_lightning.models.non_local import NonLocalBlock


def features(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_rows_and_columns_are_those_of_the_whole_map(seed: int) -> None:
    height, width = 23, 25
    assert height * width > BLOCK
    query, key = 3 * features(seed, 8, height, width), 3 * features(seed + 1, 8, height, width)
    naive = (query.double().flatten(1).T @ key.double().flatten(1)).softmax(1)  # (N, N)
    map_ = PositionMap(query, key)
    chosen = torch.tensor([0, 7, height * width - 1])
    rows = map_.rows(chosen)
    torch.testing.assert_close(rows.sum(1), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(rows, naive[chosen], rtol=1e-6, atol=0)
    torch.testing.assert_close(map_.columns(chosen), naive.T[chosen], rtol=1e-6, atol=0)
    entropy = torch.distributions.Categorical(probs=naive).entropy()
    torch.testing.assert_close(map_.entropy, entropy, rtol=0, atol=1e-9)


def test_a_pooled_map_is_that_of_the_mean_queries_and_keys(seed: int) -> None:
    map_ = PositionMap(features(seed, 4, 5, 3), features(seed + 1, 4, 5, 3))
    pooled = map_.pooled(2)
    assert pooled.size == (3, 2)
    torch.testing.assert_close(pooled.query[:, 0, 0], map_.query[:, :2, :2].mean((1, 2)))
    torch.testing.assert_close(pooled.key[:, 2, 1], map_.key[:, 4, 2])  # one is left in the corner
    torch.testing.assert_close(
        pooled.rows(torch.arange(6)).sum(1), torch.ones(6, dtype=torch.float64)
    )
    assert map_.pooled(1) is map_
    assert pool(map_.key, 5).shape == (4, 1, 1)


def test_one_position_looks_at_itself() -> None:
    map_ = PositionMap(torch.full((2, 1, 1), 9.0), torch.full((2, 1, 1), 9.0))
    assert map_.rows(torch.tensor([0])).tolist() == [[1.0]]
    assert map_.entropy.tolist() == [0.0]


@pytest.mark.parametrize("criss_cross", [False, True])
def test_the_rivals_compute_by_their_maps(criss_cross: bool, seed: int) -> None:
    torch.manual_seed(seed)
    module = CrissCrossAttention(16) if criss_cross else NonLocalBlock(16)
    with torch.no_grad():
        (module.gamma if criss_cross else module.project[1].weight).fill_(2)
        x = 2 * features(seed, 1, 16, 6, 7)
        module.eval()
        assert isinstance(module, Mapped)
        map_ = module.attention_map(x)
        rows = map_.rows(torch.arange(42))
        torch.testing.assert_close(map_.columns(torch.arange(42)), rows.T)
        mixed = module.value(x).flatten(2) @ rows.T.float()
        added = 2 * mixed if criss_cross else module.project(mixed.view(1, 8, 6, 7))
        torch.testing.assert_close(module(x), x + added.view_as(x), rtol=1e-4, atol=1e-4)
    if criss_cross:
        assert (rows > 0).sum(1).tolist() == [6 + 7 - 1] * 42
        assert map_.entropy.isfinite().all()
        assert (map_.pooled(2).rows(torch.tensor([4])) > 0).sum() == 3 + 4 - 1


def test_position_attention_computes_by_its_map(seed: int) -> None:
    torch.manual_seed(seed)
    module = PositionAttention(16, reduction=4, gamma_init=2.0).eval()
    x = 2 * features(seed, 1, 16, 6, 7)
    with torch.no_grad():
        assert isinstance(module, Mapped)
        rows = module.attention_map(x).rows(torch.arange(42)).float()
        mixed = module.value(x).flatten(2) @ rows.T  # (1, C, N)
        torch.testing.assert_close(module(x), x + 2 * mixed.view_as(x))


@pytest.mark.parametrize("variant", ["official", "paper"])
def test_channel_attention_computes_by_its_map(variant: str, seed: int) -> None:
    module = ChannelAttention(variant, gamma_init=2.0).eval()
    x = features(seed, 1, 5, 6, 7)
    with torch.no_grad():
        assert isinstance(module, Mapped)
        weights = module.attention_map(x).weights
        torch.testing.assert_close(weights.sum(1), torch.ones(5))
        torch.testing.assert_close(module(x), x + 2 * (weights @ x.flatten(2)).view_as(x))
