"""Non-local networks (arXiv 1711.07971): every position looks at every other one.

B: images, C: channels, H, W: height and width of the features, N = H * W positions,
D: channels of queries, keys and values.
"""

from typing import Any

from pydantic import PositiveInt
from torch import Tensor, nn

from danet_lightning.errors import checked
from danet_lightning.models.attention import attend, queries_and_keys
from danet_lightning.models.context import AttentionContext, ContextNetwork
from danet_lightning.models.maps import PositionMap


class NonLocalNet(ContextNetwork):
    """A dilated backbone with one non-local block, as MMSegmentation places it.

    Args:
        backbone: As in ContextNetwork.
        num_classes: As in ContextNetwork.
        reduction: C / D, 2 in section 3.3.
        options: The other arguments of ContextNetwork.
    """

    @checked
    def __init__(
        self,
        backbone: nn.Module,
        num_classes: PositiveInt,
        reduction: PositiveInt = 2,
        **options: Any,
    ) -> None:
        def context(inputs: int, channels: int) -> nn.Module:
            return AttentionContext(inputs, channels, NonLocalBlock(channels, reduction))

        super().__init__(backbone, num_classes, context, **options)


class NonLocalBlock(nn.Module):
    """The non-local block of an embedded Gaussian, section 3.3, in memory linear in N.

    Args:
        channels: C of the input and output.
        reduction: C / D.

    Raises:
        ValueError: No channel is left for queries and keys.
    """

    def __init__(self, channels: int, reduction: int = 2) -> None:
        super().__init__()
        self.query, self.key = queries_and_keys(channels, reduction)
        self.value = nn.Conv2d(channels, channels // reduction, kernel_size=1)
        norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(norm.weight)  # section 4.1: the block starts as the identity
        self.project = nn.Sequential(
            nn.Conv2d(channels // reduction, channels, 1, bias=False), norm
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W), equation 6."""
        batch, _, height, width = x.shape
        query, key, value = (t(x).flatten(2) for t in (self.query, self.key, self.value))
        context = attend(query, key, value)  # (B, D, N), equations 1 and 4
        grown: Tensor = self.project(context.reshape(batch, -1, height, width))  # (B, C, H, W)
        return x + grown.to(x.dtype)

    def attention_map(self, x: Tensor) -> PositionMap:
        """Return the map of equation 4 for one image, (1, C, H, W)."""
        return PositionMap(self.query(x)[0], self.key(x)[0])
