"""Weights of other implementations, recognized by the names and shapes of their tensors."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from danet_lightning.models.backbone import dilated_resnet, imagenet_weights
from danet_lightning.models.danet import DANet
from danet_lightning.models.sources import AUTHORS, MMSEGMENTATION, Source
from danet_lightning.models.tensors import backbone_arguments, has, head_arguments
from danet_lightning.models.weights import (
    load_strictly,
    read_file,
    refuse_larger,
    state_dict_of,
)

MultiGrid = Sequence[int] | Literal["source"] | None

IMAGENET_MARK = r"layer4\.0\.conv1\.weight"


@dataclass(frozen=True)
class Recognized:
    """A foreign checkpoint and the network that its tensors belong to.

    Attributes:
        title: Whose it is, for messages.
        backbone: Arguments of dilated_resnet.
        head: Arguments of DANet, the backbone aside.
        weights: Tensors by the source's names.
        name_in_source: Our name of a tensor -> the source's.
    """

    title: str
    backbone: dict[str, Any]
    head: dict[str, Any]
    weights: dict[str, Tensor]
    name_in_source: Callable[[str], str] = str

    @property
    def num_classes(self) -> int | None:
        """Return the network's number of classes; None where the weights are a backbone's alone."""
        return self.head.get("num_classes")

    def build(self, num_classes: int | None = None) -> DANet:
        """Return the network, filled, in eval mode.

        Raises:
            ValueError: A tensor does not fit, or `num_classes` is missing or another one.
        """
        if self.num_classes is None and num_classes is None:
            raise ValueError(
                f"These are the weights of {self.title}: they fill the backbone, and how many "
                "classes to segment is not in them; say num_classes=. (For the backbone alone: "
                "dilated_resnet(name, pretrained=path).)"
            )
        if num_classes and self.num_classes not in (None, num_classes):
            raise ValueError(
                f"num_classes {num_classes} was asked for, but these weights classify "
                f"{self.num_classes}; leave it out."
            )
        head = {"num_classes": num_classes, **self.head}
        with torch.device("meta"):
            refuse_larger(DANet(dilated_resnet(**self.backbone), **head), self.weights)
        backbone = dilated_resnet(**self.backbone)
        net = DANet(backbone, **head)
        filled: nn.Module = backbone if self.num_classes is None else net
        load_strictly(filled, self.weights, f"The weights of {self.title}", self.name_in_source)
        return net.eval()


def import_weights(
    path_or_state_dict: str | Path | Mapping[str, Any],
    multi_grid: MultiGrid = "source",
    align_corners: bool | None = None,
    num_classes: int | None = None,
) -> DANet:
    """Build the network that a foreign checkpoint belongs to, and fill it.

    Recognized are the authors' checkpoints, MMSegmentation's (v0.x and v1.x), and ImageNet
    ResNets of torchvision and timm, which fill the backbone and leave the head at random. Depth,
    stem, widths, branches, classes and auxiliary head are read off the tensors.

    Args:
        path_or_state_dict: A file of torch.save, or what is in it.
        multi_grid: Dilations of stage 4's blocks or None, see dilated_resnet; no tensor tells
            them. "source" is what the source's own configurations use: (4, 8, 16) for the
            authors, none for MMSegmentation and ImageNet.
        align_corners: See DANet; None is the source's own: True for the authors, False for
            MMSegmentation. (True for ImageNet.)
        num_classes: Needed with ImageNet weights, which do not have the classes to segment.

    Returns:
        The network in eval mode.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file cannot be read or would run code; nothing that is known here; or
            tensors are missing, left over or misshaped, each of which is listed.
    """
    return recognize(path_or_state_dict, multi_grid, align_corners).build(num_classes)


def recognize(
    path_or_state_dict: str | Path | Mapping[str, Any],
    multi_grid: MultiGrid = "source",
    align_corners: bool | None = None,
) -> Recognized:
    """Tell what `import_weights` would build; same arguments and errors."""
    source_file = path_or_state_dict
    content = source_file if isinstance(source_file, Mapping) else read_file(source_file)
    if "danet_lightning" in content:
        raise ValueError("This is a checkpoint of ours: read it with danet_lightning.load(path).")
    weights = state_dict_of(content)
    for source in (AUTHORS, MMSEGMENTATION):
        if (prefix := _prefix(weights, source.mark)) is not None:
            recognized = _recognize_danet(_unwrapped(weights, prefix, source), source)
            break
    else:
        recognized = _recognize_imagenet(weights)
    if multi_grid != "source":
        recognized.backbone["multi_grid"] = multi_grid
    if align_corners is not None:
        recognized.head["align_corners"] = align_corners
    return recognized


def export_weights(net: DANet) -> dict[str, Tensor]:
    """Return the network's tensors under the authors' names; `import_weights` turns them back
    exactly.

    Raises:
        ValueError: The network has tensors for which the authors' code has no name: the auxiliary
            head, the baseline without branches.
    """
    weights = net.state_dict()
    nameless = [name for name in weights if AUTHORS.from_ours(name) == name]
    if nameless or not (net.position_attention or net.channel_attention):
        raise ValueError(
            "The authors' DANet has no auxiliary head and no baseline without branches, so these "
            f"have no name there: {', '.join(nameless)}."
        )
    return {AUTHORS.from_ours(name): value for name, value in weights.items()}


def _recognize_danet(weights: dict[str, Tensor], source: Source) -> Recognized:
    if source is MMSEGMENTATION and not has(weights, r"backbone\.stem\."):
        source = replace(source, names=source.names[2:])  # a 7x7 stem has torchvision's names
    ours = {source.to_ours(name): value for name, value in weights.items()}
    backbone = {
        **backbone_arguments(ours, source.title),
        "multi_grid": source.multi_grid,
        "dilate_second": source.dilate_second,
    }
    head = {**head_arguments(ours), "align_corners": source.align_corners}
    return Recognized(source.title, backbone, head, weights, source.from_ours)


def _recognize_imagenet(weights: dict[str, Tensor]) -> Recognized:
    prefix, title = _prefix(weights, IMAGENET_MARK), "an ImageNet ResNet"
    if prefix is None:
        raise ValueError(
            f"These {len(weights)} tensors ({', '.join(list(weights)[:3])}, ...) are neither the "
            "authors' DANet (head.conv5a...), nor MMSegmentation's (decode_head.pam_in_conv...), "
            "nor an ImageNet ResNet (layer4...)."
        )
    plain = imagenet_weights({name.removeprefix(prefix): t for name, t in weights.items()})
    named = {f"backbone.{name}": value for name, value in plain.items()}
    return Recognized(title, backbone_arguments(named, title), {"align_corners": True}, plain)


def _prefix(weights: Mapping[str, Tensor], mark: str) -> str | None:
    """Return what a wrapper like DataParallel has put before the names; None without the mark."""
    matches = (re.fullmatch(rf"(.*?){mark}", name) for name in weights)
    return next((match[1] for match in matches if match), None)


def _unwrapped(weights: Mapping[str, Tensor], prefix: str, source: Source) -> dict[str, Tensor]:
    """Return the source's plain names: without a wrapper's prefix, with the one of each part.

    Raises:
        ValueError: Two tensors would get the same name.
    """
    plain = {}
    for name, value in weights.items():
        short = name.removeprefix(prefix)
        if short.startswith(source.unused):
            continue
        if source is MMSEGMENTATION:
            short = _with_part(short)
            if short.endswith("gamma.scale"):
                value = value.reshape(-1)  # 0-dim there
        if short in plain:
            raise ValueError(f"{name} and another tensor would both be {short}.")
        plain[short] = value
    return plain


def _with_part(name: str) -> str:
    """Return MMSegmentation's full name of a tensor saved from the backbone or head alone."""
    if name.startswith(("backbone.", "decode_head.", "auxiliary_head.")):
        return name
    in_backbone = re.match(r"(stem|conv1|bn1|layer\d)\.", name)
    return f"backbone.{name}" if in_backbone else f"decode_head.{name}"
