"""CCNet (arXiv 1811.11721): attention along a position's row and column, twice.

B: images, C: channels, H, W: height and width of the features, D: channels of queries and keys.
"""

from typing import Any

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from danet_lightning.errors import checked
from danet_lightning.models.attention import at_least_float32, queries_and_keys
from danet_lightning.models.context import AttentionContext, ContextNetwork
from danet_lightning.models.maps import PositionMap


class CCNet(ContextNetwork):
    """A dilated backbone with recurrent criss-cross attention, the paper's figure 2.

    Args:
        backbone: As in ContextNetwork.
        num_classes: As in ContextNetwork.
        recurrence: How often attention follows attention; from twice on, every position has
            information of every other one.
        reduction: C / D.
        options: The other arguments of ContextNetwork.
    """

    @checked
    def __init__(
        self,
        backbone: nn.Module,
        num_classes: PositiveInt,
        recurrence: PositiveInt = 2,
        reduction: PositiveInt = 8,
        **options: Any,
    ) -> None:
        def context(inputs: int, channels: int) -> nn.Module:
            attention = CrissCrossAttention(channels, reduction, recurrence)
            return AttentionContext(inputs, channels, attention)

        super().__init__(backbone, num_classes, context, **options)


class CrissCrossAttention(nn.Module):
    """Every position looks at the H + W - 1 positions of its column and its row, section 3.2.

    Energies have no factor 1 / sqrt(D), so they and the softmax are computed in float32 whatever
    autocast says. Memory grows with H * W * (H + W).

    Args:
        channels: C of the input and output.
        reduction: C / D.
        recurrence: How often it is applied, with the same weights, section 3.3.

    Raises:
        ValueError: No channel is left for queries and keys.
    """

    def __init__(self, channels: int, reduction: int = 8, recurrence: int = 1) -> None:
        super().__init__()
        self.query, self.key = queries_and_keys(channels, reduction)
        self.value = nn.Conv2d(channels, channels, kernel_size=1)
        self.gamma = nn.Parameter(torch.zeros(1))  # in the authors' code, not in the paper
        self.recurrence = recurrence

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        for _ in range(self.recurrence):
            context = criss_cross(self.query(x), self.key(x), self.value(x))
            x = x + (self.gamma * context).to(x.dtype)  # equation 2
        return x

    def attention_map(self, x: Tensor) -> PositionMap:
        """Return the map by which the first of its steps mixes the features of one image, (1, C, H,
        W).
        """
        return PositionMap(self.query(x)[0], self.key(x)[0], criss_cross=True)


def criss_cross(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Average the values in column and row, weighted with softmax(query . key), equations 1 and 2.

    Args:
        query: (B, D, H, W).
        key: (B, D, H, W).
        value: (B, C, H, W).

    Returns:
        (B, C, H, W) in the values' dtype.
    """
    height = query.shape[2]
    dtype = at_least_float32(query)
    with torch.autocast(query.device.type, enabled=False):
        q, k, v = (t.to(dtype) for t in (query, key, value))
        column = torch.einsum("bdhw,bdgw->bhwg", q, k)  # (B, H, W, H)
        itself = torch.eye(height, dtype=torch.bool, device=q.device)[:, None]  # (H, 1, H)
        column = column.masked_fill(itself, -torch.inf)  # a position is in its row already
        row = torch.einsum("bdhw,bdhv->bhwv", q, k)  # (B, H, W, W)
        weights = torch.cat((column, row), 3).softmax(3)  # (B, H, W, H + W)
        in_column, in_row = weights[..., :height], weights[..., height:]  # (B, H, W, H or W)
        context = torch.einsum("bhwg,bcgw->bchw", in_column, v)
        context = context + torch.einsum("bhwv,bchv->bchw", in_row, v)
    return context.to(value.dtype)
