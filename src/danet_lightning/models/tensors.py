"""What the names and shapes of tensors tell of the network they belong to."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from danet_lightning.models.sources import CHANNEL, POSITION

# (blocks of the four stages, three convolutions in a block) -> name
DEPTHS = {
    (2, 2, 2, 2, False): "resnet18",
    (3, 4, 6, 3, False): "resnet34",
    (3, 4, 6, 3, True): "resnet50",
    (3, 4, 23, 3, True): "resnet101",
    (3, 8, 36, 3, True): "resnet152",
}


def backbone_arguments(ours: Mapping[str, Tensor], title: str) -> dict[str, Any]:
    """Read the arguments of `dilated_resnet` off a backbone's tensors, under our names."""
    blocks = {re.match(r"backbone\.layer(\d)\.(\d+)\.", name) for name in ours}
    stages = [block[1] for block in {b[0]: b for b in blocks if b}.values()]
    depth = (*(stages.count(stage) for stage in "1234"), has(ours, r"backbone\..*\.conv3\."))
    if depth not in DEPTHS:
        raise ValueError(
            f"The weights of {title} have {depth[:4]} blocks in their stages, which is no ResNet "
            f"of {', '.join(DEPTHS.values())}."
        )
    deep = has(ours, r"backbone\.conv1\.\d")
    stem = {"stem_width": _rows(ours, r"backbone\.conv1\.[0134]\.", 32)} if deep else {}
    return {"name": DEPTHS[depth], "deep_stem": deep, **stem}


def head_arguments(ours: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read the arguments of `DANet` off a head's tensors, under our names."""
    channels = _rows(ours, r"branches\.\w+\.(reduce|refine)\.0\.weight", 8)
    keys = _rows(ours, rf"{POSITION}\.attention\.(query|key)\.", max(1, channels // 8))
    return {
        "num_classes": _rows(ours, r"classifiers\.\w+\.1\.", 1),
        "pam": has(ours, POSITION),
        "cam": has(ours, CHANNEL),
        "aux": has(ours, r"aux\.|classifiers\.aux"),
        "losses": "all" if has(ours, r"classifiers\.(position|channel)") else "fused",
        "channels": channels,
        "reduction": max(1, channels // keys),
    }


def has(weights: Mapping[str, Tensor], pattern: str) -> bool:
    """Tell whether a name begins with the pattern."""
    return any(re.match(pattern, name) for name in weights)


def _rows(weights: Mapping[str, Tensor], pattern: str, otherwise: int) -> int:
    """Return the output channels of the first tensor with such a name, else `otherwise`."""
    sizes = (t.shape[0] for name, t in weights.items() if re.match(pattern, name) and t.ndim)
    return next(sizes, otherwise) or otherwise
