import pytest
import torch
from torch import nn

from danet_lightning.evaluate.protocols import MultiView
from danet_lightning.models.segmenter import (
    MEAN,
    STD,
    Segmenter,
    black_pixel,
    mirror,
    normalization,
    normalize,
)


class Brightest(nn.Module):
    """The logits of the two classes are the red and the green channel."""

    align_corners = False

    def forward(self, images):
        return {"fused": self.predict_logits(images)}

    def predict_logits(self, images):
        return images[:, :2]


def brightest() -> Segmenter:
    palette = [(255, 0, 0), (0, 255, 0)]
    return Segmenter(Brightest(), ["r", "g"], palette, (0.0,) * 3, (1.0,) * 3, MultiView())


def test_normalize_takes_uint8_on_the_255_scale():
    images = torch.full((1, 3, 2, 2), 128, dtype=torch.uint8)
    normalized = normalize(images, (128.0, 118.0, 138.0), (10.0, 10.0, 5.0))
    assert normalized.dtype == torch.float32
    assert normalized[0, :, 0, 0].tolist() == [0.0, 1.0, -2.0]


@pytest.mark.parametrize("size", [(5, 9), (1, 1)])
def test_segment_returns_the_argmax(size, seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8, generator=generator)
    expected = (images[:, 1] > images[:, 0]).long()
    assert torch.equal(brightest().segment(images), expected)
    one = images[0].permute(1, 2, 0)
    assert torch.equal(brightest().segment(one), expected[0])
    lent = one.numpy()
    lent.flags.writeable = False  # as of an image of Pillow; a warning would be an error here
    assert torch.equal(brightest().segment(lent), expected[0])


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(1, 3, 4, 4),
        torch.zeros(3, 4, 4, dtype=torch.uint8),
        torch.zeros(4, 4, dtype=torch.uint8),
        torch.zeros(1, 4, 4, 3, dtype=torch.uint8),
    ],
    ids=lambda images: f"{images.dtype} {tuple(images.shape)}",
)
def test_other_shapes_and_types_are_refused(images):
    with pytest.raises(ValueError, match=r"give one image as \(H, W, 3\) or a batch"):
        brightest().segment(images)


def test_its_outputs_are_those_of_the_normalised_images():
    images = torch.full((1, 3, 2, 2), 128, dtype=torch.uint8)
    segmenter = brightest()
    segmenter.mean = (28.0, 118.0, 0.0)
    assert segmenter(images)["fused"][0, :, 0, 0].tolist() == [100.0, 10.0]
    with pytest.raises(ValueError, match="images that are normalised already go to"):
        segmenter(images.float())


class OwnStatistics(nn.Module):
    mean = (127.5, 127.5, 127.5)
    std = (127.5, 127.5, 127.5)


def test_a_backbone_may_state_its_own_mean_and_std():
    net = Brightest()
    assert normalization(net) == {"mean": list(MEAN), "std": list(STD)}
    net.backbone = OwnStatistics()
    assert normalization(net) == {"mean": [127.5] * 3, "std": [127.5] * 3}


def test_mirror_exchanges_left_and_right():
    assert mirror(torch.tensor([[[[1, 2, 3]]]])).tolist() == [[[[3, 2, 1]]]]


def test_normalisation_is_imagenets_in_bytes() -> None:
    assert torch.allclose(torch.tensor(MEAN) / 255, torch.tensor([0.485, 0.456, 0.406]))
    assert torch.allclose(torch.tensor(STD) / 255, torch.tensor([0.229, 0.224, 0.225]))
    black = torch.tensor([-2.1179, -2.0357, -1.8044])
    assert torch.allclose(black_pixel(MEAN, STD), black, atol=1e-4)
