"""Dilated ResNets (arXiv 1809.02983, section 3.1).

B: images, H, W: their size, C3, C4: channels of stages 3 and 4 (layer3 and layer4),
h, w: H and W over the output stride.
"""

import re
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from danet_lightning.errors import PASSING, checked
from danet_lightning.models.resnet import ResNet
from danet_lightning.models.weights import load_strictly, read_file, state_dict_of

Dilation = Annotated[int, Field(ge=1, le=256)]  # beyond it, it leaves every image
Pretrained = Annotated[bool | str | Path, PASSING]  # a checkpoint to go on from has better ones
Name = Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]


class DilatedResNet(nn.Module):
    """A ResNet without its classifier; parameters keep torchvision's names.

    Attributes:
        channels: (C3, C4).
    """

    def __init__(self, resnet: Any) -> None:
        super().__init__()
        self.conv1 = resnet.conv1
        self.bn1 = resnet.bn1
        self.relu = resnet.relu
        self.maxpool = resnet.maxpool
        self.layer1 = resnet.layer1
        self.layer2 = resnet.layer2
        self.layer3 = resnet.layer3
        self.layer4 = resnet.layer4
        width: int = resnet.fc.in_features
        self.channels = (width // 2, width // 2 if isinstance(self.layer4, nn.Identity) else width)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, 3, H, W) to stage 3 (B, C3, h, w) and stage 4 (B, C4, h, w).

        h and w are H and W over the output stride, rounded up. (With output stride 32 stage 3 is
        twice as large as stage 4.)
        """
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))  # (B, 64, H / 4, W / 4)
        stage3 = self.layer3(self.layer2(self.layer1(x)))
        return stage3, self.layer4(stage3)


@checked
def dilated_resnet(
    name: Name,
    pretrained: Pretrained = False,
    multi_grid: Sequence[Dilation] | None = None,
    deep_stem: bool = False,
    output_stride: Literal[8, 16, 32] = 8,
    stem_width: PositiveInt = 32,
    dilate_second: bool = True,
    stages: Literal[3, 4] = 4,
) -> DilatedResNet:
    """Build a ResNet whose last stages keep their resolution by dilation.

    Args:
        name: resnet18, resnet34, resnet50, resnet101 or resnet152.
        pretrained: True for torchvision's ImageNet weights (downloaded once), or a local file with
            the ImageNet weights of a ResNet under torchvision's or timm's names.
        multi_grid: Dilations of stage 4's blocks, as they are (not multiples); the authors use
            (4, 8, 16). ResNet-18 has two such blocks and takes the first two, as in their code.
        deep_stem: Three 3x3 convolutions in place of the 7x7 one.
        output_stride: H / h.
        stem_width: Channels of the deep stem's first two convolutions, half of the third's:
            32 in MMSegmentation's ResNetV1c, 64 in the authors' code.
        dilate_second: Whether the second 3x3 convolution of ResNet-18's and 34's blocks is dilated
            as well: so in the authors' code, not in MMSegmentation.
        stages: 3 leaves stage 4 out, and stage 3's features are returned in its place: a third of
            a ResNet-18's work at output stride 8, for a CPU.

    Raises:
        ValueError: An argument is none of these, or the file does not fit.
        FileNotFoundError: There is no such file.
        ConnectionError: The weights could not be downloaded.
    """
    if deep_stem and pretrained is True:
        raise ValueError(
            "torchvision has no ImageNet weights for deep_stem=true; give pretrained the path of a "
            "file that has, or choose pretrained=false or deep_stem=false."
        )
    resnet: Any = ResNet(name)
    if deep_stem:
        _deepen_stem(resnet, stem_width)
    third, fourth = max(1, 16 // output_stride), 32 // output_stride  # dilations of stages 3 and 4
    _dilate(resnet.layer3, third, _grid(resnet.layer3, 1, third), dilate_second)
    grid = _grid(resnet.layer4, third, fourth)
    if multi_grid is not None:
        grid = _checked(multi_grid, name, 0 if stages == 3 else len(resnet.layer4))
    _dilate(resnet.layer4, fourth, grid, dilate_second)
    if stages == 3:
        resnet.layer4 = nn.Identity()
    net = DilatedResNet(resnet)
    if pretrained is not False:
        weights = _downloaded(name) if pretrained is True else _from_file(Path(pretrained))
        if stages == 3:
            weights = {n: w for n, w in weights.items() if not n.startswith("layer4.")}
        load_strictly(net, weights, f"The ImageNet weights for {name}")
    return net


def _deepen_stem(resnet: Any, width: int) -> None:
    resnet.conv1 = nn.Sequential(
        _convolution(3, width, 3, stride=2),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        _convolution(width, width, 3),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        _convolution(width, 2 * width, 3),
    )
    resnet.bn1 = nn.BatchNorm2d(2 * width)
    first = resnet.layer1[0]
    if 2 * width == first.conv1.in_channels:
        return
    first.conv1 = _convolution(2 * width, first.conv1.out_channels, first.conv1.kernel_size[0])
    # ResNet-18 and 34 have no shortcut convolution here, but need one for the change of width
    outputs = first.downsample[0].out_channels if first.downsample else first.conv2.out_channels
    first.downsample = nn.Sequential(_convolution(2 * width, outputs, 1), nn.BatchNorm2d(outputs))


def _convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    convolution = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
    # as torchvision starts its own
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution


def _grid(stage: nn.Sequential, previous: int, dilation: int) -> list[int]:
    """Return the dilation of each block of a stage; the first one keeps the previous stage's."""
    return [previous] + [dilation] * (len(stage) - 1)


def _checked(multi_grid: Sequence[int], name: str, blocks: int) -> list[int]:
    grid = list(multi_grid)
    if not blocks:
        raise ValueError(f"multi_grid {tuple(grid)} is for stage 4, which stages=3 leaves out.")
    if len(grid) not in (blocks, 3) or min(grid) < 1:
        raise ValueError(
            f"multi_grid {tuple(grid)} does not fit {name}: it wants {blocks} dilations, 1 or "
            "more, one for each block of stage 4 (the authors': 4, 8, 16), or null for none."
        )
    return grid[:blocks]


def _dilate(stage: nn.Sequential, dilation: int, grid: list[int], dilate_second: bool) -> None:
    """Give the 3x3 convolutions of a stage their dilations, and take the stride of dilated ones."""
    first: Any = stage[0]
    if dilation > 1:
        for convolution in (first.conv1, first.conv2, *(first.downsample or ())):
            convolution.stride = (1, 1)
    for block, block_dilation in zip(stage, grid, strict=True):
        if hasattr(block, "conv3"):  # bottleneck: 1x1, 3x3, 1x1
            _set_dilation(block.conv2, block_dilation)
        else:  # the authors' basic block: the stage's dilation in the second one, multi-grid or not
            _set_dilation(block.conv1, block_dilation)
            _set_dilation(block.conv2, dilation if dilate_second else 1)


def _set_dilation(convolution: Any, dilation: int) -> None:
    convolution.dilation = convolution.padding = (dilation, dilation)


def imagenet_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a ResNet's weights without its classifier, under torchvision's names.

    timm has the same names; of MMSegmentation's ResNetV1c, only the stem is called otherwise.
    """
    kept = {name: value for name, value in weights.items() if not name.startswith("fc.")}
    stem = {"stem.7.": "bn1.", "stem.": "conv1."}
    for old, new in stem.items():
        kept = {re.sub(f"^{re.escape(old)}", new, name): value for name, value in kept.items()}
    return kept


def _downloaded(name: str) -> dict[str, Tensor]:
    import torchvision.models  # for 6 s

    # V1: what the paper's and torchvision's own segmentation networks start from
    weights = torchvision.models.get_model_weights(name).IMAGENET1K_V1
    try:
        return imagenet_weights(weights.get_state_dict(progress=False, check_hash=True))
    except (OSError, HTTPException) as error:
        raise ConnectionError(
            f"The ImageNet weights of {name} could not be downloaded from {weights.url} ({error}). "
            "Start from random weights with backbone.pretrained=false, or fetch that file "
            "elsewhere and give its path: backbone.pretrained=<path>."
        ) from error


def _from_file(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"pretrained={path}: no such file; give the path of one, or false.")
    return imagenet_weights(state_dict_of(read_file(path)))
