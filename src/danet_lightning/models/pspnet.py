"""PSPNet (arXiv 1612.01105): averages over the cells of four grids beside the features.

B: images, C4: channels of stage 4, C: channels of the context, h, w: size of the features,
n: cells along one side of a grid.
"""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from danet_lightning.errors import checked
from danet_lightning.models.context import ContextNetwork
from danet_lightning.models.heads import convolution

Bins = Annotated[Sequence[PositiveInt], Field(min_length=1)]


class PSPNet(ContextNetwork):
    """A dilated backbone with pyramid pooling, the paper's figure 3.

    Args:
        backbone: As in ContextNetwork.
        num_classes: As in ContextNetwork.
        bins: N of each grid.
        options: The other arguments of ContextNetwork.
    """

    @checked
    def __init__(
        self,
        backbone: nn.Module,
        num_classes: PositiveInt,
        bins: Bins = (1, 2, 3, 6),
        **options: Any,
    ) -> None:
        super().__init__(backbone, num_classes, partial(PyramidPooling, bins=bins), **options)


class GridAverage(nn.Module):
    """The averages over n x n cells, which may share a row or a column.

    Args:
        cells: N.
    """

    def __init__(self, cells: int) -> None:
        super().__init__()
        self.cells = cells

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C, n, n)."""
        if not torch.onnx.is_in_onnx_export():
            return F.adaptive_avg_pool2d(features, self.cells)
        # the same as products with matrices, as ONNX has no average over cells of any size
        rows, columns = (self._shares(length) for length in features.shape[2:])
        averages: Tensor = rows @ features @ columns.T
        return averages

    def _shares(self, length: int) -> Tensor:
        """Return the weight of each position in the average of each cell: (n, length)."""
        cells = torch.arange(self.cells)[:, None]
        first, last = cells * length // self.cells, ((cells + 1) * length - 1) // self.cells
        places = torch.arange(length)
        inside = (first <= places) & (places <= last)
        return inside.float() / inside.sum(1, keepdim=True)


class PyramidPooling(nn.Module):
    """The pyramid pooling module, section 3.2.

    Args:
        inputs: C4.
        channels: C.
        bins: N of each grid; each takes C4 / (number of grids) channels.
    """

    def __init__(self, inputs: int, channels: int, bins: Sequence[int]) -> None:
        super().__init__()
        width = max(1, inputs // len(bins))
        self.levels = nn.ModuleList(
            nn.Sequential(GridAverage(n), convolution(inputs, width, size=1)) for n in bins
        )
        self.merge = convolution(inputs + len(bins) * width, channels)

    def forward(self, stage4: Tensor) -> Tensor:
        """Map (B, C4, h, w) to (B, C, h, w)."""
        size = stage4.shape[2:]
        pooled = [
            # a cell's average belongs to its middle
            F.interpolate(level(stage4), size, mode="bilinear", align_corners=False)
            for level in self.levels
        ]
        merged: Tensor = self.merge(torch.cat((stage4, *pooled), 1))
        return merged
