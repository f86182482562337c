"""What the heads of all networks are put together from.

B: images, C3, C4: channels of the backbone's stages 3 and 4, h, w: size of the features.
"""

from torch import nn


def convolution(inputs: int, outputs: int, size: int = 3) -> nn.Sequential:
    """Build a convolution that keeps h and w, its batch norm and a ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def classifier(inputs: int, num_classes: int, dropout: float) -> nn.Sequential:
    """Build a 1x1 convolution to the classes, behind a dropout of whole channels."""
    return nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(inputs, num_classes, 1))


def channels_of(backbone: nn.Module) -> tuple[int, int]:
    """Read (C3, C4) off a backbone.

    Raises:
        ValueError: It does not state them.
    """
    channels = getattr(backbone, "channels", None)
    if not isinstance(channels, tuple | list) or len(channels) != 2:
        raise ValueError(
            f"backbone {type(backbone).__name__} has channels {channels!r}; wanted is a pair, the "
            "channels of the (stage 3, stage 4) features that it returns."
        )
    return channels[0], channels[1]
