"""The evaluation protocols against golden scores and against plain loops over windows."""

import math

import pytest
import torch
import torch.nn.functional as F
from recipe import golden_input, golden_outputs, golden_weights
from torch import Tensor, nn

from danet_lightning.evaluate.protocols import TEST_SCALES, MultiView, OfficialEvaluation
from danet_lightning.models import import_weights
from danet_lightning.models.segmenter import EvaluationProtocol

BLACK = torch.tensor([-2.1179, -2.0357, -1.8044])  # of ImageNet's normalization


class Small(nn.Module):
    """A network whose answer depends on place, surroundings and the size of what it sees."""

    def __init__(self, align_corners: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.align_corners = align_corners
        self.convolution = nn.Conv2d(3, 4, 5, stride=4, padding=2)
        self.seen: list[tuple[int, ...]] = []

    def predict_logits(self, images: Tensor) -> Tensor:
        self.seen.append(tuple(images.shape))
        features = self.convolution(images)
        features = features - features.mean((2, 3), keepdim=True)
        size = images.shape[-2:]
        return F.interpolate(features, size, mode="bilinear", align_corners=self.align_corners)


@pytest.mark.parametrize(("size", "warned"), [((64, 96), True), ((600, 400), False)])
def test_images_far_from_the_base_size_are_told(size, warned, caplog) -> None:
    protocol = OfficialEvaluation(480, 96, scales=[0.2, 0.4], flip=False)
    for _ in range(2):
        protocol(Small(), noise(0, *size), BLACK)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == warned
    assert not warned or "base_size=480 resizes this image of 64 x 96 pixels 5 times" in told[0]


def noise(seed: int, *size: int, batch: int = 1) -> Tensor:
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(seed))


def close(own: Tensor, reference: Tensor, tolerance: float = 1e-5) -> None:
    assert own.shape == reference.shape
    assert (own - reference).abs().max() <= tolerance * reference.abs().max()


@torch.no_grad()
@pytest.mark.parametrize("window_batch", [1, 2])
def test_the_authors_single_scale_scores(window_batch: int) -> None:
    net = import_weights(golden_weights("official_danet_r50"), multi_grid=(4, 8, 16))
    protocol = OfficialEvaluation(160, 96, scales=[1.0], window_batch=window_batch)
    scores = protocol(net, golden_input(80, 160, seed=11), BLACK)
    close(scores[0, :, ::2, ::2], golden_outputs("official_eval_ss")["scores"], 1e-4)


@torch.no_grad()
@pytest.mark.parametrize("size", [(40, 80), (81, 47), (33, 33), (50, 200), (1, 3)])
@pytest.mark.parametrize("flip", [True, False])
def test_the_authors_multi_scale_scores(size: tuple[int, int], flip: bool, seed: int) -> None:
    net, images = Small(align_corners=True), noise(seed, *size)
    own = OfficialEvaluation(64, 25, flip=flip)(net, images, BLACK)
    close(own, plain_official(net, images, 64, 25, flip), 1e-4)


def plain_official(net: Small, images: Tensor, base: int, crop: int, flip: bool) -> Tensor:
    """One window after the other, each cut at the border and padded by itself."""
    height, width = images.shape[-2:]
    total = torch.zeros(1, 4, height, width)
    for scale in TEST_SCALES:
        factor = math.ceil(base * scale) / max(height, width)
        size = [int(side * factor + 0.5) for side in (height, width)]
        scaled = F.interpolate(images, size, mode="bilinear", align_corners=True)
        scores, count = torch.zeros(1, 4, *size), torch.zeros(size)
        step = int(crop * 2 / 3)
        for y in range(0, max(size[0] - crop, 0) + step, step):
            for x in range(0, max(size[1] - crop, 0) + step, step):
                part = scaled[..., y : y + crop, x : x + crop]
                h, w = part.shape[-2:]
                if h == 0 or w == 0:
                    continue
                window = BLACK.view(1, 3, 1, 1).repeat(1, 1, crop, crop)
                window[..., :h, :w] = part
                logits = net.predict_logits(window)
                if flip:
                    logits = logits + net.predict_logits(window.flip(3)).flip(3)
                scores[..., y : y + h, x : x + w] += logits.exp()[..., :h, :w]
                count[y : y + h, x : x + w] += 1
        total += F.interpolate(scores / count, (height, width), mode="bilinear", align_corners=True)
    return total


@torch.no_grad()
@pytest.mark.parametrize(("size", "windows"), [((40, 70), 3 * 5), ((24, 70), 5), ((41, 25), 3 * 2)])
def test_sliding_windows_are_averaged_inside_the_image(
    size: tuple[int, int], windows: int, seed: int
) -> None:
    net, images = Small(), noise(seed, *size)
    own = MultiView(crop=(24, 24), stride=(10, 12))(net, images, BLACK)
    assert net.seen == [(1, 3, 24, 24)] * windows
    total, count = torch.zeros(1, 4, *size), torch.zeros(size)
    for y in {min(i * 10, size[0] - 24) for i in range(9)}:
        for x in {min(i * 12, size[1] - 24) for i in range(9)}:
            window = images[..., y : y + 24, x : x + 24]
            total[..., y : y + 24, x : x + 24] += net.predict_logits(window)
            count[y : y + 24, x : x + 24] += 1
    close(own, total / count)


@torch.no_grad()
@pytest.mark.parametrize("crop", [(30, 50), (31, 60), (1000, 1000)])
def test_windows_as_large_as_the_image_are_the_whole_image(
    crop: tuple[int, int], seed: int
) -> None:
    net, images = Small(), noise(seed, 30, 50)
    whole = MultiView()(net, images, BLACK)
    assert torch.equal(MultiView(crop=crop, stride=(20, 20))(net, images, BLACK), whole)
    assert torch.equal(whole, net.predict_logits(images))


@torch.no_grad()
@pytest.mark.parametrize("align_corners", [False, True])
def test_scales_and_mirroring_are_averaged_after_a_softmax(align_corners: bool, seed: int) -> None:
    net, images = Small(align_corners), noise(seed, 29, 42)
    own = MultiView(scales=(0.5, 1.25), flip=True)(net, images, BLACK)
    views = []
    for size in ((15, 21), (36, 53)):  # 14.5 is rounded up, as theirs
        scaled = F.interpolate(images, size, mode="bilinear", align_corners=False)
        straight = net.predict_logits(scaled)
        mirrored = net.predict_logits(scaled.flip(3)).flip(3)
        for logits in (straight, mirrored):
            back = F.interpolate(logits, (29, 42), mode="bilinear", align_corners=align_corners)
            views.append(back.softmax(1))
    close(own, torch.stack(views).mean(0))


@torch.no_grad()
@pytest.mark.parametrize(
    "protocol",
    [
        MultiView(flip=True),
        MultiView(scales=TEST_SCALES, flip=True),
        MultiView(scales=(0.5, 1.0), flip=True, crop=(16, 20), stride=(9, 11)),
        OfficialEvaluation(46, 28, scales=[1.0]),  # windows at 0 and 18: mirroring exchanges them
    ],
    ids=lambda protocol: f"{protocol.describe()['name']}, crop {protocol.describe()['crop']}",
)
def test_mirroring_the_image_mirrors_the_scores(protocol: EvaluationProtocol, seed: int) -> None:
    net, images = Small(), noise(seed, 28, 40)
    close(protocol(net, images.flip(3), BLACK).flip(3), protocol(net, images, BLACK))


@torch.no_grad()
@pytest.mark.parametrize("window_batch", [2, 3, 100])
@pytest.mark.parametrize("batch", [1, 2])
def test_window_batching_changes_nothing(window_batch: int, batch: int, seed: int) -> None:
    net, images = Small(), noise(seed, 45, 62, batch=batch)
    for protocol in (
        MultiView(scales=(0.5, 1.0), flip=True, crop=(20, 24), stride=(13, 11)),
        OfficialEvaluation(60, 24),
    ):
        one_by_one = protocol(net, images, BLACK)
        protocol.window_batch = window_batch
        close(protocol(net, images, BLACK), one_by_one, 1e-6)


@torch.no_grad()
def test_an_image_does_not_depend_on_its_neighbours_in_a_batch(seed: int) -> None:
    net, images = Small(), noise(seed, 45, 62, batch=2)
    for protocol in (
        MultiView(flip=True, crop=(20, 24), stride=(9, 9)),
        OfficialEvaluation(60, 24),
    ):
        close(protocol(net, images, BLACK)[1:], protocol(net, images[1:], BLACK), 1e-6)


@torch.no_grad()
def test_confident_networks_do_not_overflow(seed: int) -> None:
    """exp(200) is infinite in float32, and a resized infinity is no number."""
    net, images = Small(), noise(seed, 30, 44)
    net.convolution.weight.mul_(1e4)
    scores = OfficialEvaluation(60, 24)(net, images, BLACK)
    assert scores.isfinite().all()


@pytest.mark.parametrize(("factor", "expected"), [(0.5, 127.5), (1.0, None)])
def test_a_shrunk_image_is_smoothed_if_asked(factor: float, expected: float | None) -> None:
    """A one-pixel checkerboard halves to grey, not to black or white."""
    board = ((torch.arange(16)[:, None] + torch.arange(16)) % 2 * 255.0).expand(1, 3, 16, 16)
    net = Passing()
    MultiView(scales=(factor,), antialias=True)(net, board, BLACK)
    if expected is None:
        assert torch.equal(net.seen, board)
    else:
        assert (net.seen[..., 1:-1, 1:-1] - expected).abs().max() < 15


@pytest.mark.parametrize("size", [(8, 12), (7, 13), (1, 1)])
@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_a_scale_changes_what_the_net_sees_never_what_is_scored(
    size: tuple[int, int], scale: float
) -> None:
    net = Passing()
    scores = MultiView(scales=(scale,), antialias=True)(net, torch.ones(1, 3, *size), BLACK)
    assert scores.shape == (1, 2, *size)
    assert net.seen.shape[-2:] == tuple(max(1, int(side * scale + 0.5)) for side in size)


class Passing(nn.Module):
    """Logits are the first two channels of what is seen."""

    align_corners = False
    seen: Tensor

    def predict_logits(self, images: Tensor) -> Tensor:
        self.seen = images
        return images[:, :2]


def test_every_protocol_describes_itself() -> None:
    nothing = {"crop": None, "stride": None, "antialias": False}
    assert MultiView((0.5,)).describe() == {
        "name": "whole", "scales": [0.5], "flip": False, **nothing,
    }  # fmt: skip
    assert MultiView(TEST_SCALES, flip=True).describe() == {
        "name": "ms_flip", "scales": [0.5, 0.75, 1.0, 1.25, 1.5, 1.75], "flip": True, **nothing,
    }  # fmt: skip
    sliding = MultiView(crop=(769, 769), stride=(513, 513)).describe()
    assert (sliding["name"], sliding["crop"], sliding["stride"]) == ("slide", [769] * 2, [513] * 2)
    assert OfficialEvaluation(2048, 768, scales=[1.0]).describe() == {
        "name": "official_ss", "base_size": 2048, "crop": [768, 768], "stride": [512, 512],
        "scales": [1.0], "flip": True,
    }  # fmt: skip
    assert OfficialEvaluation(2048, 1024).describe()["name"] == "official_ms"
    assert all(isinstance(p, EvaluationProtocol) for p in (MultiView(), OfficialEvaluation(9, 9)))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"crop": (8, 8)}, "give both or neither"),
        ({"stride": (8, 8)}, "give both or neither"),
        ({"crop": (8, 8), "stride": (8, 9)}, r"stride \(8, 9\) is larger than crop \(8, 8\)"),
        ({"scales": ()}, "\\[\\]: must have at least 1 item"),
        ({"scales": (1.0, 0.0)}, r"entry 1 must be greater than 0"),
    ],
)
def test_impossible_protocols_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MultiView(**options)  # type: ignore[arg-type]


def test_impossible_official_evaluations_are_refused() -> None:
    with pytest.raises(ValueError, match="must have at least 1 item"):
        OfficialEvaluation(64, 32, scales=[])
    with pytest.raises(ValueError, match="crop_size 1 is too small"):
        OfficialEvaluation(64, 1)
