"""Networks that differ in one part, the context: features -> context -> classifier -> image size.

B: images, K: classes, H, W: size of the images, C3, C4: channels of the backbone's stages 3 and 4,
C: channels of the context (C4 / 4), h, w: size of the features.
"""

from collections.abc import Callable
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from danet_lightning.errors import checked
from danet_lightning.models.heads import channels_of, classifier, convolution

ContextBuilder = Callable[[int, int], nn.Module]  # C4, C -> (B, C4, h, w) to (B, C, h, w)


class ContextNetwork(nn.Module):
    """What the rivals of DANet have in common with it: backbone, classifier and resize.

    Everything outside `backbone` is the head, and the outputs are those of a DANet with one of
    them: "fused", and "aux" where it is built.

    Args:
        backbone: images -> (stage 3, stage 4) features, with `channels` = (C3, C4).
        num_classes: K.
        context: builds what gathers context between stage 4 and the classifier.
        align_corners: how logits are resized to the image.
        aux: an FCN head on stage 3 for an auxiliary loss, as in MMSegmentation.
        dropout: probability of dropping a channel before a classifier.
        channels: C, by default C4 / 4.

    Raises:
        ValueError: no class, or an impossible number of channels.
    """

    @checked
    def __init__(
        self,
        backbone: nn.Module,
        num_classes: PositiveInt,
        context: ContextBuilder,
        /,  # what builds a context is no option of the networks
        align_corners: bool = True,
        aux: bool = False,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1,
        channels: PositiveInt | None = None,
    ) -> None:
        super().__init__()
        stage3, stage4 = channels_of(backbone)
        width = channels or stage4 // 4
        self.backbone = backbone
        self.align_corners = align_corners
        self.context = context(stage4, width)
        self.classifiers = nn.ModuleDict({"fused": classifier(width, num_classes, dropout)})
        if aux:
            self.aux = convolution(stage3, stage3 // 4)
            self.classifiers["aux"] = classifier(stage3 // 4, num_classes, dropout)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Classify every pixel, in training and evaluation alike.

        Args:
            images: (B, 3, H, W), normalised; any size.

        Returns:
            (B, K, H, W) logits: "fused", and "aux" if it is built.
        """
        stage3, stage4 = self.backbone(images)
        outputs = {"fused": self._classify("fused", self.context(stage4), images)}
        if "aux" in self.classifiers:
            outputs["aux"] = self._classify("aux", self.aux(stage3), images)
        return outputs

    def predict_logits(self, images: Tensor) -> Tensor:
        """Return the fused logits alone, without the work of the auxiliary head.

        (B, 3, H, W) -> (B, K, H, W).
        """
        return self._classify("fused", self.context(self.backbone(images)[1]), images)

    def _classify(self, output: str, features: Tensor, images: Tensor) -> Tensor:
        logits = self.classifiers[output](features)  # (B, K, h, w)
        return F.interpolate(
            logits, images.shape[2:], mode="bilinear", align_corners=self.align_corners
        )


class AttentionContext(nn.Module):
    """An attention between two convolutions, then a third one over its result and its input.

    So both CCNet's authors and MMSegmentation's non-local head place theirs.

    Args:
        inputs: C4.
        channels: C.
        attention: (B, C, h, w) -> (B, C, h, w).
    """

    def __init__(self, inputs: int, channels: int, attention: nn.Module) -> None:
        super().__init__()
        self.reduce = convolution(inputs, channels)
        self.attention = attention
        self.refine = convolution(channels, channels)
        self.merge = convolution(inputs + channels, channels)

    def forward(self, stage4: Tensor) -> Tensor:
        """(B, C4, h, w) -> (B, C, h, w)."""
        context = self.refine(self.attention(self.reduce(stage4)))  # (B, C, h, w)
        merged: Tensor = self.merge(torch.cat((stage4, context), 1))
        return merged
