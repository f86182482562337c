"""What an attention module tells of its map, for people who look into a network.

C: channels, D: channels of queries and keys, h, w: size of the features, N = h * w positions,
n: queries in one block.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 512  # queries that meet all keys at once: 134 MB in float64 at N = 32768


@dataclass(frozen=True, eq=False)
class PositionMap:
    """Holds the map softmax(query . key), N x N, as its queries and keys; computed in float64.

    Attributes:
        query: (D, h, w). A factor on the energies, such as 1 / sqrt(D), belongs in here.
        key: (D, h, w).
        criss_cross: Whether a position looks at its own row and column alone.
    """

    query: Tensor
    key: Tensor
    criss_cross: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Return (h, w); position i lies in row i // w and column i % w."""
        return self.query.shape[1], self.query.shape[2]

    @cached_property
    def log_sum(self) -> Tensor:
        """Return the logarithm of the sum of exp(energy) over the keys, for each query: (N,)."""
        return self._statistics[0]

    @cached_property
    def entropy(self) -> Tensor:
        """Return -sum p ln p of each row, (N,): 0 if it looks at one place, ln N at all alike."""
        return self._statistics[1]

    def rows(self, positions: Tensor) -> Tensor:
        """Return what positions (n,) look at, equation 1: (n, N), of which each row sums to 1."""
        energy = self._energy(self.query, self.key, positions)
        return (energy - self.log_sum[positions, None]).exp()

    def columns(self, positions: Tensor) -> Tensor:
        """Return how much each position of the map looks at positions (n,): (n, N)."""
        energy = self._energy(self.key, self.query, positions)
        return (energy - self.log_sum).exp()

    def pooled(self, factor: int) -> "PositionMap":
        """Average queries and keys over squares of positions; the map of these is another one."""
        if factor == 1:
            return self
        return PositionMap(pool(self.query, factor), pool(self.key, factor), self.criss_cross)

    @cached_property
    def _statistics(self) -> tuple[Tensor, Tensor]:
        parts = []
        for positions in torch.split(torch.arange(self.query[0].numel()), BLOCK):
            energy = self._energy(self.query, self.key, positions)
            log_sum = energy.logsumexp(1)  # (n,)
            weights = (energy - log_sum[:, None]).exp()
            parts.append((log_sum, torch.special.entr(weights).sum(1)))
        log_sums, entropies = zip(*parts, strict=True)
        return torch.cat(log_sums), torch.cat(entropies)

    def _energy(self, of: Tensor, with_: Tensor, positions: Tensor) -> Tensor:
        """Multiply the features `of` these positions (n,) with all those of `with_`: (n, N)."""
        energy = _flat(of)[positions] @ _flat(with_).T
        if not self.criss_cross:
            return energy
        width, every = self.size[1], torch.arange(energy.shape[1])
        apart = (positions[:, None] // width != every // width) & (
            positions[:, None] % width != every % width
        )
        return energy.masked_fill(apart, -torch.inf)


@dataclass(frozen=True, eq=False)
class ChannelMap:
    """Holds the map of channels on channels.

    Attributes:
        weights: (C, C); row i is what channel i mixes, and sums to 1.
    """

    weights: Tensor


@runtime_checkable
class Mapped(Protocol):
    """An attention module that tells its map; `danet attention` finds all that a network has.

    It adds its attention to its input, whose shape it returns: then it is switched off by passing
    the input on. An attribute `gamma`, if there is one, is shown as the weight of the attention.
    """

    def attention_map(self, x: Tensor) -> PositionMap | ChannelMap:
        """Return the map by which `forward` would mix the features of one image, (1, C, h, w)."""


def pool(features: Tensor, factor: int) -> Tensor:
    """Average over squares: (C, h, w) -> (C, ceil(h / factor), ceil(w / factor))."""
    return F.avg_pool2d(features[None], factor, ceil_mode=True)[0]


def _flat(features: Tensor) -> Tensor:
    return features.detach().cpu().double().flatten(1).T  # (D, h, w) -> (N, D)
