"""DeepLabV3 (arXiv 1706.05587): convolutions with several dilations beside a global average.

B: images, C4: channels of stage 4, C: channels of the context, h, w: size of the features.
"""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, PositiveInt
from torch import nn

from danet_lightning.errors import checked
from danet_lightning.models.backbone import Dilation
from danet_lightning.models.context import ContextNetwork
from danet_lightning.models.heads import convolution

Rates = Annotated[Sequence[Dilation], Field(min_length=1)]


class DeepLabV3(ContextNetwork):
    """A dilated backbone with torchvision's atrous spatial pyramid pooling, section 3.3.

    Args:
        backbone: As in ContextNetwork.
        num_classes: As in ContextNetwork.
        rates: Dilations of the 3x3 convolutions. The paper has 6, 12, 18 at output stride 16, and
            doubles them at 8.
        options: The other arguments of ContextNetwork.
    """

    @checked
    def __init__(
        self,
        backbone: nn.Module,
        num_classes: PositiveInt,
        rates: Rates = (12, 24, 36),
        **options: Any,
    ) -> None:
        from torchvision.models.segmentation.deeplabv3 import ASPP  # for 6 s

        def context(inputs: int, channels: int) -> nn.Module:
            """Map (B, C4, h, w) to (B, C, h, w)."""
            return nn.Sequential(
                ASPP(inputs, list(rates), channels), convolution(channels, channels)
            )

        super().__init__(backbone, num_classes, context, **options)
