import pytest
import torch
import torch.nn.functional as F
from torch import nn

from danet_lightning.inference import EvaluationProtocol, Whole, normalize, segment


class Gradient(nn.Module):
    """Logits that say where they are: class 0 is the column, class 1 the row."""

    align_corners = False
    mean = (0.0, 0.0, 0.0)
    std = (1.0, 1.0, 1.0)
    protocol = Whole()

    def __init__(self):
        super().__init__()
        self.seen = []

    def predict_logits(self, images):
        self.seen.append(tuple(images.shape))
        return torch.stack([images[:, 0], images[:, 1]], dim=1)


def ramp(height: int, width: int) -> torch.Tensor:
    """Columns in red, rows in green."""
    columns = torch.arange(width).expand(height, width)
    rows = torch.arange(height)[:, None].expand(height, width)
    return torch.stack([columns, rows, rows])[None].to(torch.uint8)


def test_whole_hands_the_image_over_untouched():
    net = Gradient()
    images = ramp(7, 13).float()
    assert torch.equal(Whole()(net, images), images[:, :2])


@pytest.mark.parametrize("size", [(8, 12), (7, 13), (1, 1)])
@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_a_scale_changes_what_the_net_sees_never_what_is_scored(size, scale):
    net = Gradient()
    scores = Whole(scale)(net, ramp(*size).float())
    assert scores.shape == (1, 2, *size)
    assert net.seen == [(1, 3, *(max(1, round(side * scale)) for side in size))]


def test_scaling_is_geometrically_centred():
    """Half the size and back: a ramp stays the same ramp away from the borders."""
    images = ramp(16, 32).float()
    scores = Whole(0.5)(Gradient(), images)
    torch.testing.assert_close(scores[..., 4:-4, 4:-4], images[:, :2, 4:-4, 4:-4])


def test_normalize_takes_uint8_on_the_255_scale():
    images = torch.full((1, 3, 2, 2), 128, dtype=torch.uint8)
    normalized = normalize(images, (128.0, 118.0, 138.0), (10.0, 10.0, 5.0))
    assert normalized.dtype == torch.float32
    assert normalized[0, :, 0, 0].tolist() == [0.0, 1.0, -2.0]


def test_segment_returns_the_argmax():
    expected = (ramp(5, 9)[:, 1] > ramp(5, 9)[:, 0]).long()
    assert torch.equal(segment(Gradient(), ramp(5, 9)), expected)


def test_every_protocol_describes_itself():
    assert isinstance(Whole(), EvaluationProtocol)
    assert Whole(0.5).describe() == {"name": "whole", "scales": [0.5], "flip": False}


def test_a_scaled_image_is_antialiased():
    """A one-pixel checkerboard halves to grey, not to black or white."""
    board = (torch.arange(16)[:, None] + torch.arange(16)) % 2 * 255.0
    images = board.expand(1, 3, 16, 16)
    scores = Whole(0.5)(Gradient(), images)
    assert F.avg_pool2d(scores, 2)[..., 2:-2, 2:-2].sub(127.5).abs().max() < 15
