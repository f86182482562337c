"""ResNets as torchvision builds them (arXiv 1512.03385), without its 6 seconds of imports.

Names, shapes and order of all that is drawn at random are torchvision's, so that a seed gives the
same network, and its weights fit. B: images, H, W: their size, C: channels of a block.
"""

from torch import Tensor, nn

DEPTHS = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "resnet152": (3, 8, 36, 3),
}
SHALLOW = ("resnet18", "resnet34")  # of basic blocks


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside their input, figure 5 left.

    Args:
        inputs: Channels that come in.
        channels: C.
        stride: Of the first convolution.
    """

    expansion = 1

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        downsample = _shortcut(inputs, channels, stride)
        self.conv1 = _convolution(inputs, channels, 3, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = _convolution(channels, channels, 3)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, C, H / stride, W / stride)."""
        residual = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        residual += x if self.downsample is None else self.downsample(x)
        output: Tensor = self.relu(residual)
        return output


class Bottleneck(nn.Module):
    """A 3x3 convolution between two 1x1 ones, figure 5 right; the 3x3 one has the stride.

    Args:
        inputs: Channels that come in.
        channels: Of the 3x3 convolution; C is four times as many.
        stride: Of the 3x3 convolution.
    """

    expansion = 4

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        outputs = channels * self.expansion
        downsample = _shortcut(inputs, outputs, stride)
        self.conv1 = _convolution(inputs, channels, 1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _convolution(channels, channels, 3, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = _convolution(channels, outputs, 1)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, C, H / stride, W / stride)."""
        reduced = self.relu(self.bn1(self.conv1(x)))
        residual = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(reduced)))))
        residual += x if self.downsample is None else self.downsample(x)
        output: Tensor = self.relu(residual)
        return output


class ResNet(nn.Module):
    """The parts of a ResNet, table 1, under torchvision's names.

    Args:
        name: One of DEPTHS.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        block = BasicBlock if name in SHALLOW else Bottleneck
        self.conv1 = _convolution(3, 64, 7, stride=2)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        inputs, stages = 64, []
        for number, depth in enumerate(DEPTHS[name]):
            channels, stride = 64 * 2**number, min(number + 1, 2)
            blocks: list[nn.Module] = [block(inputs, channels, stride)]
            inputs = channels * block.expansion
            blocks += [block(inputs, channels, 1) for _ in range(1, depth)]
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.fc = nn.Linear(inputs, 1000)  # never used, but drawn
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(_convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


def _convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
