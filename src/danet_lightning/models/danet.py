"""DANet (arXiv 1809.02983): a dilated backbone, two attention branches, one prediction.

B: images, K: classes, H, W: size of the images, C3, C4: channels of the backbone's stages 3 and 4,
C: channels of the head (C4 / 4), h, w: size of the features.
"""

from collections import OrderedDict
from typing import Annotated, Any, Literal

import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from danet_lightning.errors import checked
from danet_lightning.models.attention import ChannelAttention, PositionAttention
from danet_lightning.models.heads import channels_of, classifier, convolution


class DANet(nn.Module):
    """Dual attention network: features -> branches -> sum -> classifiers -> image size.

    Everything outside `backbone` is the head. A branch that is switched off is not built, and its
    output vanishes; without both, one convolution in their place makes the dilated FCN baseline.

    Args:
        backbone: images -> (stage 3, stage 4) features, with `channels` = (C3, C4).
        num_classes: K.
        pam: position attention branch, section 3.2.
        cam: channel attention branch, section 3.3.
        cam_variant: see ChannelAttention.
        align_corners: how logits are resized to the image: True in the authors' code, False in
            MMSegmentation.
        gamma_init: first value of each branch's `gamma`.
        aux: an FCN head on stage 3 for an auxiliary loss, as in MMSegmentation.
        dropout: probability of dropping a channel before a classifier.
        losses: `all` classifies each branch beside their sum; `fused` the sum alone, the authors'
            single-loss ablation.
        channels: C, by default C4 / 4 as in the authors' code.
        reduction: C over PAM's query and key channels.

    Raises:
        ValueError: no class, or an impossible number of channels.
    """

    @checked
    def __init__(
        self,
        backbone: nn.Module,
        num_classes: PositiveInt,
        pam: bool = True,
        cam: bool = True,
        cam_variant: Literal["official", "paper"] = "official",
        align_corners: bool = True,
        gamma_init: float = 0.0,
        aux: bool = False,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1,
        losses: Literal["all", "fused"] = "all",
        channels: PositiveInt | None = None,
        reduction: PositiveInt = 8,
    ) -> None:
        super().__init__()
        stage3, stage4 = channels_of(backbone)
        width = channels or stage4 // 4
        self.backbone = backbone
        self.align_corners = align_corners
        self.branches = nn.ModuleDict()
        if pam:
            attention: nn.Module = PositionAttention(width, reduction, gamma_init)
            self.branches["position"] = _branch(stage4, width, attention)
        if cam:
            attention = ChannelAttention(cam_variant, gamma_init)
            self.branches["channel"] = _branch(stage4, width, attention)
        outputs = ["fused", *(self.branches if losses == "all" else ())]
        if not self.branches:
            self.branches["plain"] = convolution(stage4, width)
        self.classifiers = nn.ModuleDict(
            {name: classifier(width, num_classes, dropout) for name in outputs}
        )
        if aux:
            self.aux = convolution(stage3, stage3 // 4)
            self.classifiers["aux"] = classifier(stage3 // 4, num_classes, dropout)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Classify every pixel, in training and evaluation alike.

        Args:
            images: (B, 3, H, W), normalised; any size.

        Returns:
            (B, K, H, W) logits: "fused", and "position", "channel", "aux" as far as they are built.
        """
        logits = self.heads(self.backbone(images))
        return {name: self._resize(value, images) for name, value in logits.items()}

    def predict_logits(self, images: Tensor) -> Tensor:
        """Return the fused logits alone, without the work of the other heads.

        (B, 3, H, W) -> (B, K, H, W).
        """
        _, stage4 = self.backbone(images)
        contexts = self._contexts(stage4)
        return self._resize(self.classifiers["fused"](_fuse(contexts)), images)

    def heads(self, features: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """Return the same logits as `forward`, at the size of the features.

        (B, C3, h, w) and (B, C4, h, w) -> (B, K, h, w) each.
        """
        stage3, stage4 = features
        contexts = self._contexts(stage4)
        inputs = {"fused": _fuse(contexts), **contexts}
        if "aux" in self.classifiers:
            inputs["aux"] = self.aux(stage3)
        return {name: classify(inputs[name]) for name, classify in self.classifiers.items()}

    @property
    def position_attention(self) -> PositionAttention | None:
        """PAM, None when it is switched off."""
        module: PositionAttention | None = self._attention("position")
        return module

    @property
    def channel_attention(self) -> ChannelAttention | None:
        """CAM, None when it is switched off."""
        module: ChannelAttention | None = self._attention("channel")
        return module

    def _attention(self, branch: str) -> Any:
        return (
            self.get_submodule(f"branches.{branch}.attention") if branch in self.branches else None
        )

    def _contexts(self, stage4: Tensor) -> dict[str, Tensor]:
        return {name: branch(stage4) for name, branch in self.branches.items()}  # (B, C, h, w)

    def _resize(self, logits: Tensor, images: Tensor) -> Tensor:
        return F.interpolate(
            logits, images.shape[2:], mode="bilinear", align_corners=self.align_corners
        )


def _fuse(contexts: dict[str, Tensor]) -> Tensor:
    first, *others = contexts.values()
    return sum(others, start=first)  # (B, C, h, w)


def _branch(inputs: int, channels: int, attention: nn.Module) -> nn.Sequential:
    """Section 3.4: a convolution before the attention and one after it."""
    return nn.Sequential(
        OrderedDict(
            reduce=convolution(inputs, channels),
            attention=attention,
            refine=convolution(channels, channels),
        )
    )
