import re

import numpy as np
import pytest
import torch
from PIL import Image
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


def test_segment_takes_images_of_any_kind_and_size_in_one_list(seed):
    array = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), np.uint8)
    kinds = [
        array,
        array[::-1],
        array[:, ::-1, ::-1],
        np.asfortranarray(array)[1:3, ::2],
        Image.fromarray(array),
        torch.from_numpy(array)[:2],
    ]
    maps = brightest().segment(kinds)
    for kind, classes in zip(kinds, maps, strict=True):
        pixels = np.asarray(kind)
        np.testing.assert_array_equal(classes, pixels[..., 1] > pixels[..., 0])
        assert torch.equal(brightest().segment(kind), classes)
    assert len(brightest().segment(tuple(kinds[:2]))) == 2


@pytest.mark.parametrize(
    ("images", "value"),
    [
        (torch.zeros(1, 3, 4, 4), "images of shape (1, 3, 4, 4) and type torch.float32"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), "(3, 4, 4) and type torch.uint8"),
        (torch.zeros(4, 4, dtype=torch.uint8), "(4, 4) and type torch.uint8"),
        (torch.zeros(1, 4, 4, 3, dtype=torch.uint8), "(1, 4, 4, 3) and type torch.uint8"),
        (np.zeros((0, 5, 3), np.uint8), "images of shape (0, 5, 3) and type uint8"),
        (np.zeros((4, 5, 3), np.uint16), "type uint16"),
        (np.full((4, 5, 3), "a"), "type <U1"),
        ([np.zeros((4, 5, 3), np.uint8), None], "and type NoneType"),
        (Image.new("L", (4, 5)), "shape (5, 4) and type mode L"),
        (Image.new("HSV", (4, 5)), "type mode HSV"),
        ("street.jpg", "type str"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_images_are_refused(images, value):
    rule = r": give one image as \(H, W, 3\) or a batch as \(B, 3, H, W\), RGB in uint8.*convert"
    with pytest.raises(ValueError, match=re.escape(value) + rule):
        brightest().segment(images)


def test_its_outputs_are_those_of_the_normalized_images():
    images = torch.full((1, 3, 2, 2), 128, dtype=torch.uint8)
    segmenter = brightest()
    segmenter.mean = (28.0, 118.0, 0.0)
    assert segmenter(images)["fused"][0, :, 0, 0].tolist() == [100.0, 10.0]
    as_array = segmenter(images[0].permute(1, 2, 0).numpy())["fused"]
    assert torch.equal(as_array, segmenter(images)["fused"])
    with pytest.raises(ValueError, match=r"Images that are normalized already go to \.net"):
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


def test_normalization_is_imagenets_in_bytes() -> None:
    assert torch.allclose(torch.tensor(MEAN) / 255, torch.tensor([0.485, 0.456, 0.406]))
    assert torch.allclose(torch.tensor(STD) / 255, torch.tensor([0.229, 0.224, 0.225]))
    black = torch.tensor([-2.1179, -2.0357, -1.8044])
    assert torch.allclose(black_pixel(MEAN, STD), black, atol=1e-4)
