"""Networks that differ in one part, the context: features -> context -> classifiers -> image size.

B: images, K: classes, H, W: size of the images, C3, C4: channels of the backbone's stages 3 and 4,
C: channels of the context (C4 / 4), h, w: size of the features.
"""

from collections.abc import Callable, Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from danet_lightning.errors import checked
from danet_lightning.models.heads import channels_of, classifier, convolution

ContextBuilder = Callable[[int, int], nn.Module]  # C4, C -> (B, C4, h, w) to (B, C, h, w)


class ContextNetwork(nn.Module):
    """What DANet and its rivals have in common: backbone, classifiers, auxiliary head and resize.

    Everything outside `backbone` is the head.

    Args:
        backbone: Images -> (stage 3, stage 4) features, with `channels` = (C3, C4).
        num_classes: K.
        context: Builds what gathers context between stage 4 and the classifiers.
        outputs: Names of what is classified, see `contexts`.
        align_corners: How logits are resized to the image: True in the authors' code, False in
            MMSegmentation.
        aux: An FCN head on stage 3 for an auxiliary loss, as in MMSegmentation.
        dropout: Probability of dropping a channel before a classifier.
        channels: C, by default C4 / 4 as in the authors' code.

    Attributes:
        context_name: What a checkpoint calls the context.

    Raises:
        ValueError: No class, or an impossible number of channels.
    """

    context_name = "context"

    @checked
    def __init__(
        self,
        backbone: nn.Module,
        num_classes: PositiveInt,
        context: ContextBuilder,
        outputs: Sequence[str] = ("fused",),
        /,  # what a network is made of is no option of it
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
        self.add_module(self.context_name, context(stage4, width))
        self.classifiers = nn.ModuleDict(
            {name: classifier(width, num_classes, dropout) for name in outputs}
        )
        if aux:
            self.aux = convolution(stage3, stage3 // 4)
            self.classifiers["aux"] = classifier(stage3 // 4, num_classes, dropout)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Classify every pixel, in training and evaluation alike.

        Args:
            images: (B, 3, H, W), normalized; any size.

        Returns:
            (B, K, H, W) logits: "fused", a DANet's "position" and "channel", and "aux", as far as
            they are built.
        """
        logits = self.heads(self.backbone(images))
        return {name: self._resize(value, images) for name, value in logits.items()}

    def predict_logits(self, images: Tensor) -> Tensor:
        """Return the fused logits alone, without the work of the other heads.

        (B, 3, H, W) -> (B, K, H, W).
        """
        _, stage4 = self.backbone(images)
        return self._resize(self.classifiers["fused"](self.contexts(stage4)["fused"]), images)

    def heads(self, features: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """Return the same logits as `forward`, at the size of the features.

        (B, C3, h, w) and (B, C4, h, w) -> (B, K, h, w) each.
        """
        stage3, stage4 = features
        inputs = self.contexts(stage4)
        if "aux" in self.classifiers:
            inputs["aux"] = self.aux(stage3)
        return {name: classify(inputs[name]) for name, classify in self.classifiers.items()}

    def contexts(self, stage4: Tensor) -> dict[str, Tensor]:
        """Return what the classifiers look at: (B, C4, h, w) -> (B, C, h, w) for each output."""
        return {"fused": self.get_submodule(self.context_name)(stage4)}

    def _resize(self, logits: Tensor, images: Tensor) -> Tensor:
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
        """Map (B, C4, h, w) to (B, C, h, w)."""
        context = self.refine(self.attention(self.reduce(stage4)))  # (B, C, h, w)
        merged: Tensor = self.merge(torch.cat((stage4, context), 1))
        return merged
