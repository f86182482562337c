"""DANet (arXiv 1809.02983): a dilated backbone, two attention branches, one prediction.

B: images, C4: channels of the backbone's stage 4, C: channels of the head, h, w: size of the
features.
"""

from collections import OrderedDict
from typing import Any, Literal

from pydantic import PositiveInt
from torch import Tensor, nn

from danet_lightning.errors import checked
from danet_lightning.models.attention import ChannelAttention, PositionAttention
from danet_lightning.models.context import ContextNetwork
from danet_lightning.models.heads import convolution


class DANet(ContextNetwork):
    """Dual attention network: features -> branches -> sum -> classifiers -> image size.

    A branch that is switched off is not built, and its output vanishes; without both, one
    convolution in their place makes the dilated FCN baseline.

    Args:
        backbone: As in ContextNetwork.
        num_classes: As in ContextNetwork.
        pam: Position attention branch, section 3.2.
        cam: Channel attention branch, section 3.3.
        cam_variant: See ChannelAttention.
        gamma_init: First value of each branch's `gamma`.
        losses: `all` classifies each branch beside their sum; `fused` the sum alone, the authors'
            single-loss ablation.
        reduction: C over PAM's query and key channels.
        options: The other arguments of ContextNetwork.
    """

    context_name = "branches"
    branches: nn.ModuleDict

    @checked
    def __init__(
        self,
        backbone: nn.Module,
        num_classes: PositiveInt,
        pam: bool = True,
        cam: bool = True,
        cam_variant: Literal["official", "paper"] = "official",
        gamma_init: float = 0.0,
        losses: Literal["all", "fused"] = "all",
        reduction: PositiveInt = 8,
        **options: Any,
    ) -> None:
        def branches(inputs: int, channels: int) -> nn.ModuleDict:
            parts: dict[str, nn.Module] = {}
            if pam:
                attention: nn.Module = PositionAttention(channels, reduction, gamma_init)
                parts["position"] = _branch(inputs, channels, attention)
            if cam:
                attention = ChannelAttention(cam_variant, gamma_init)
                parts["channel"] = _branch(inputs, channels, attention)
            return nn.ModuleDict(parts or {"plain": convolution(inputs, channels)})

        classified = {"position": pam and losses == "all", "channel": cam and losses == "all"}
        outputs = ["fused", *(name for name in classified if classified[name])]
        super().__init__(backbone, num_classes, branches, outputs, **options)

    def contexts(self, stage4: Tensor) -> dict[str, Tensor]:
        """Return what the classifiers look at, the branches and their sum.

        (B, C4, h, w) -> (B, C, h, w) each.
        """
        contexts = {name: branch(stage4) for name, branch in self.branches.items()}
        first, *others = contexts.values()
        return {"fused": sum(others, start=first), **contexts}

    @property
    def position_attention(self) -> PositionAttention | None:
        """Return PAM; None when it is switched off."""
        module: PositionAttention | None = self._attention("position")
        return module

    @property
    def channel_attention(self) -> ChannelAttention | None:
        """Return CAM; None when it is switched off."""
        module: ChannelAttention | None = self._attention("channel")
        return module

    def _attention(self, branch: str) -> Any:
        return self.branches[branch].attention if branch in self.branches else None


def _branch(inputs: int, channels: int, attention: nn.Module) -> nn.Sequential:
    """Put a convolution before an attention and one after it, section 3.4."""
    return nn.Sequential(
        OrderedDict(
            reduce=convolution(inputs, channels),
            attention=attention,
            refine=convolution(channels, channels),
        )
    )
