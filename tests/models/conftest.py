import pytest
import torch
from torch import Tensor, nn


class TinyBackbone(nn.Module):
    """Stands in for a ResNet where only the head matters; also what a user's backbone must be."""

    channels = (16, 64)

    def __init__(self) -> None:
        super().__init__()
        self.stage3 = nn.Conv2d(3, 16, 3, stride=4, padding=1)
        self.stage4 = nn.Conv2d(16, 64, 3, padding=1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        stage3 = self.stage3(images)
        return stage3, self.stage4(stage3)


@pytest.fixture
def tiny(seed: int) -> TinyBackbone:
    torch.manual_seed(seed)
    return TinyBackbone()
