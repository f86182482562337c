"""Weights of other implementations, recognised by the names and shapes of their tensors."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from danet_lightning.models.backbone import dilated_resnet, imagenet_weights
from danet_lightning.models.danet import DANet
from danet_lightning.models.sources import AUTHORS, CHANNEL, MMSEGMENTATION, POSITION, Source
from danet_lightning.models.weights import load_strictly, read_file, state_dict_of

# (blocks of the four stages, three convolutions in a block) -> name
DEPTHS = {
    (2, 2, 2, 2, False): "resnet18",
    (3, 4, 6, 3, False): "resnet34",
    (3, 4, 6, 3, True): "resnet50",
    (3, 4, 23, 3, True): "resnet101",
    (3, 8, 36, 3, True): "resnet152",
}


IMAGENET_MARK = r"layer4\.0\.conv1\.weight"


def import_weights(
    path_or_state_dict: str | Path | Mapping[str, Any],
    multi_grid: Sequence[int] | Literal["source"] | None = "source",
    align_corners: bool | None = None,
    num_classes: int | None = None,
) -> DANet:
    """Build the network that a foreign checkpoint belongs to, and fill it.

    Recognised are the authors' checkpoints, MMSegmentation's (v0.x and v1.x), and ImageNet
    ResNets of torchvision and timm, which fill the backbone and leave the head at random. Depth,
    stem, widths, branches, classes and auxiliary head are read off the tensors.

    Args:
        path_or_state_dict: a file of torch.save, or what is in it.
        multi_grid: dilations of stage 4's blocks or None, see dilated_resnet; no tensor tells
            them. "source" is what the source's own configurations use: (4, 8, 16) for the
            authors, none for MMSegmentation and ImageNet.
        align_corners: see DANet; None is the source's own: True for the authors, False for
            MMSegmentation. (True for ImageNet.)
        num_classes: needed with ImageNet weights, which do not have the classes to segment.

    Returns:
        The network in eval mode.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read or would run code; nothing that is known here; or
            tensors are missing, left over or misshaped, each of which is listed.
    """
    given = path_or_state_dict
    content = given if isinstance(given, Mapping) else read_file(given)
    if "danet_lightning" in content:
        raise ValueError("This is a checkpoint of ours: read it with danet_lightning.load(path).")
    weights = state_dict_of(content)
    for source in (AUTHORS, MMSEGMENTATION):
        if (prefix := _prefix(weights, source.mark)) is not None:
            weights = _unwrapped(weights, prefix, source)
            return _import_danet(weights, source, multi_grid, align_corners, num_classes)
    if (prefix := _prefix(weights, IMAGENET_MARK)) is not None:
        weights = {name.removeprefix(prefix): value for name, value in weights.items()}
        grid = None if multi_grid == "source" else multi_grid
        return _import_imagenet(weights, grid, align_corners is not False, num_classes)
    raise ValueError(
        f"These {len(weights)} tensors ({', '.join(list(weights)[:3])}, ...) are neither the "
        "authors' DANet (head.conv5a...), nor MMSegmentation's (decode_head.pam_in_conv...), nor "
        "an ImageNet ResNet (layer4...)."
    )


def export_weights(net: DANet) -> dict[str, Tensor]:
    """The network's tensors under the authors' names; `import_weights` turns them back exactly.

    Raises:
        ValueError: the network has tensors for which the authors' code has no name: the auxiliary
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


def _import_danet(
    weights: dict[str, Tensor],
    source: Source,
    multi_grid: Sequence[int] | Literal["source"] | None,
    align_corners: bool | None,
    num_classes: int | None,
) -> DANet:
    if source is MMSEGMENTATION and not _has(weights, r"backbone\.stem\."):
        source = replace(source, names=source.names[2:])  # a 7x7 stem has torchvision's names
    ours = {source.to_ours(name): value for name, value in weights.items()}
    backbone = dilated_resnet(
        **_backbone_arguments(ours, source.title),
        multi_grid=source.multi_grid if multi_grid == "source" else multi_grid,
        dilate_second=source.dilate_second,
    )
    arguments = _head_arguments(ours)
    if num_classes not in (None, arguments["num_classes"]):
        raise ValueError(
            f"num_classes {num_classes} was asked for, but these weights classify "
            f"{arguments['num_classes']}; leave it out."
        )
    align_corners = source.align_corners if align_corners is None else align_corners
    net = DANet(backbone, align_corners=align_corners, **arguments)
    load_strictly(net, weights, f"The weights of {source.title}", source.from_ours)
    return net.eval()


def _import_imagenet(
    weights: dict[str, Tensor],
    multi_grid: Sequence[int] | None,
    align_corners: bool,
    num_classes: int | None,
) -> DANet:
    title = "an ImageNet ResNet"
    if num_classes is None:
        raise ValueError(
            f"These are the weights of {title}: they fill the backbone, and how many classes to "
            "segment is not in them; say num_classes=. (For the backbone alone: "
            "dilated_resnet(name, pretrained=path).)"
        )
    weights = imagenet_weights(weights)
    named = {f"backbone.{name}": value for name, value in weights.items()}
    backbone = dilated_resnet(**_backbone_arguments(named, title), multi_grid=multi_grid)
    load_strictly(backbone, weights, f"The weights of {title}")
    return DANet(backbone, num_classes, align_corners=align_corners).eval()


def _backbone_arguments(ours: Mapping[str, Tensor], title: str) -> dict[str, Any]:
    """What the names and shapes of a backbone tell, by our names."""
    blocks = {re.match(r"backbone\.layer(\d)\.(\d+)\.", name) for name in ours}
    stages = [found[1] for found in {b[0]: b for b in blocks if b}.values()]
    depth = (*(stages.count(stage) for stage in "1234"), _has(ours, r"backbone\..*\.conv3\."))
    if depth not in DEPTHS:
        raise ValueError(
            f"The weights of {title} have {depth[:4]} blocks in their stages, which is no ResNet "
            f"of {', '.join(DEPTHS.values())}."
        )
    deep = _has(ours, r"backbone\.conv1\.\d")
    stem = {"stem_width": _rows(ours, r"backbone\.conv1\.[0134]\.", 32)} if deep else {}
    return {"name": DEPTHS[depth], "deep_stem": deep, **stem}


def _head_arguments(ours: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the names and shapes of a head tell, by our names."""
    channels = _rows(ours, r"branches\.\w+\.(reduce|refine)\.0\.weight", 8)
    keys = _rows(ours, rf"{POSITION}\.attention\.(query|key)\.", max(1, channels // 8))
    return {
        "num_classes": _rows(ours, r"classifiers\.\w+\.1\.", 1),
        "pam": _has(ours, POSITION),
        "cam": _has(ours, CHANNEL),
        "aux": _has(ours, r"aux\.|classifiers\.aux"),
        "losses": "all" if _has(ours, r"classifiers\.(position|channel)") else "fused",
        "channels": channels,
        "reduction": max(1, channels // keys),
    }


def _has(weights: Mapping[str, Tensor], pattern: str) -> bool:
    return any(re.match(pattern, name) for name in weights)


def _rows(weights: Mapping[str, Tensor], pattern: str, otherwise: int) -> int:
    """Output channels of the first tensor with such a name; `otherwise` is then found missing."""
    sizes = (t.shape[0] for name, t in weights.items() if re.match(pattern, name) and t.ndim)
    return next(sizes, otherwise) or otherwise


def _prefix(weights: Mapping[str, Tensor], mark: str) -> str | None:
    """What a wrapper has put before the names, such as `module.`; None without the mark."""
    marks = (re.fullmatch(rf"(.*?){mark}", name) for name in weights)
    return next((found[1] for found in marks if found), None)


def _unwrapped(weights: Mapping[str, Tensor], prefix: str, source: Source) -> dict[str, Tensor]:
    """The source's plain names: without a wrapper's prefix, with the one of each part.

    Raises:
        ValueError: two tensors would get the same name.
    """
    plain = {}
    for name, value in weights.items():
        short = name.removeprefix(prefix)
        if source is MMSEGMENTATION:
            short = _with_part(short)
            if short.endswith("gamma.scale"):
                value = value.reshape(-1)  # 0-dim there
        if short in plain:
            raise ValueError(f"{name} and another tensor would both be {short}.")
        plain[short] = value
    return plain


def _with_part(name: str) -> str:
    """MMSegmentation's full name of a tensor that was saved from the backbone or head alone."""
    if name.startswith(("backbone.", "decode_head.", "auxiliary_head.")):
        return name
    in_backbone = re.match(r"(stem|conv1|bn1|layer\d)\.", name)
    return f"backbone.{name}" if in_backbone else f"decode_head.{name}"
