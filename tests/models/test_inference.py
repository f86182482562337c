import pytest
import torch
from torch import nn

from danet_lightning.evaluate.protocols import MultiView
from danet_lightning.models.segmenter import MEAN, STD, mirror, normalize, segment


class Brightest(nn.Module):
    """The logits of the two classes are the red and the green channel."""

    align_corners = False
    mean = (0.0, 0.0, 0.0)
    std = (1.0, 1.0, 1.0)
    protocol = MultiView()

    def predict_logits(self, images):
        return images[:, :2]


def test_normalize_takes_uint8_on_the_255_scale():
    images = torch.full((1, 3, 2, 2), 128, dtype=torch.uint8)
    normalized = normalize(images, (128.0, 118.0, 138.0), (10.0, 10.0, 5.0))
    assert normalized.dtype == torch.float32
    assert normalized[0, :, 0, 0].tolist() == [0.0, 1.0, -2.0]


@pytest.mark.parametrize("size", [(5, 9), (1, 1)])
def test_segment_returns_the_argmax(size, seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8, generator=generator)
    assert torch.equal(segment(Brightest(), images), (images[:, 1] > images[:, 0]).long())


def test_mirror_exchanges_left_and_right():
    assert mirror(torch.tensor([[[[1, 2, 3]]]])).tolist() == [[[[3, 2, 1]]]]


def test_normalisation_is_imagenets_in_bytes() -> None:
    assert torch.allclose(torch.tensor(MEAN) / 255, torch.tensor([0.485, 0.456, 0.406]))
    assert torch.allclose(torch.tensor(STD) / 255, torch.tensor([0.229, 0.224, 0.225]))
