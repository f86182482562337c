import io
import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from attending import CLASSES, PALETTE, image, naive, segmenter
from PIL import Image

from danet_lightning.attention.figures import attention_figure, branches_figure, typical_points
from danet_lightning.attention.layout import file_of
from danet_lightning.attention.observation import Observation, observe
from danet_lightning.attention.page import color_ramp
from danet_lightning.models import dilated_resnet


@pytest.fixture(scope="module")
def seen() -> Observation:
    label = np.full((64, 96), 255, np.uint8)
    return observe(segmenter(), image(), label)


def titles(figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes if axes.images]


def test_panels_in_the_order_of_the_paper(seen: Observation) -> None:
    figure = attention_figure(seen, CLASSES, PALETTE, [(0, 0), (40, 90)], [4, 11])
    assert titles(figure) == [
        "image", "map of point 1", "map of point 2", "channel 4", "channel 11", "prediction",
        "label",
    ]  # fmt: skip
    told = r"maps: attention, in 1/N, [\d.e+]+ and more in the last color; channels: each from"
    assert re.match(told, figure.axes[-1].get_xlabel())
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert set(legend) <= {*CLASSES, "ignored"}
    assert "ignored" in legend
    assert titles(branches_figure(seen, CLASSES, PALETTE)) == [
        "image", "without\nposition attention", "without\nchannel attention", "prediction",
        "label",
    ]  # fmt: skip
    alone = attention_figure(replace(seen, branches=seen.branches[1:]), CLASSES, PALETTE, [(0, 0)])
    assert alone.axes[-1].get_xlabel() == "channels: each from its least value to its largest"
    assert [each.get_text() for each in alone.axes[-1].get_xticklabels()] == ["least", "largest"]


def test_titles_lie_beside_each_other(seen: Observation) -> None:
    figure = branches_figure(seen, CLASSES, PALETTE)
    with Image.open(io.BytesIO(file_of(figure, "png"))) as picture:
        pixels = np.asarray(picture.convert("L"))
    assert pixels[:4].min() == 255  # none is cut
    figure.draw_without_rendering()
    boxes = [axes.title.get_window_extent() for axes in figure.axes]
    assert all(one.x1 < other.x0 for one, other in itertools.pairwise(boxes))


def test_ignored_pixels_are_hatched_and_classes_that_look_alike_have_numbers(
    seen: Observation,
) -> None:
    """Of vegetation and person, as in all other pictures; black is the color of a class."""
    palette = ((0, 0, 0), (220, 20, 60), (107, 142, 35))
    prediction = np.repeat(np.array([[0, 1, 2]], np.uint8), 64, 0).repeat(32, 1)
    label = np.full_like(prediction, 255)
    figure = branches_figure(
        replace(seen, prediction=prediction, label=label, branches=[]), CLASSES, palette
    )
    legend = figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == [
        "road",
        "1 sky",
        "2 tree",
        "ignored",
    ]
    assert legend.get_patches()[-1].get_hatch()
    drawn = {axes.get_title(): axes.images[0].get_array() for axes in figure.axes}
    assert set(np.unique(drawn["label"])) == {90, 200}
    assert drawn["prediction"].shape == (384, 576, 3)
    assert (drawn["prediction"][:, 5:180] == 0).all()
    for left in (192, 384):  # white in the middle, and dark at the edge
        assert (drawn["prediction"][:, left + 60 : left + 132] == 255).all(-1).any()
        assert (drawn["prediction"][50:300, left] == 40).all()


def test_a_map_is_painted_over_the_grey_image_on_one_scale_for_all_points(
    seen: Observation,
) -> None:
    points = [(0, 0), (40, 90)]
    figure = attention_figure(seen, CLASSES, PALETTE, points, [])
    rows = naive(segmenter(), image())[0].numpy()[[0, 5 * 12 + 11]]
    most = max(np.quantile(row, 0.99, method="nearest") for row in rows)
    assert figure.axes[-1].get_xlim()[1] == pytest.approx(96 * most, rel=1e-3)
    grey = np.rint(image() @ [0.299, 0.587, 0.114])[..., None]
    for axes, row in zip(figure.axes[1:3], rows, strict=True):
        share = np.sqrt(np.minimum(1, row / most)).reshape(8, 12).repeat(8, 0).repeat(8, 1)
        expected = 0.8 * color_ramp()[np.rint(share * 255).astype(int)] + 0.2 * grey
        assert np.abs(axes.images[0].get_array() - expected).max() < 5  # a step of the ramp


def test_where_all_attention_goes_to_one_position_the_rest_is_dark() -> None:
    seg = segmenter()
    with torch.no_grad():
        seg.net.position_attention.query.weight.mul_(1e4)
    figure = attention_figure(observe(seg, image()), CLASSES, PALETTE, [(0, 0)], [])
    assert figure.axes[-1].get_xlim() == (0, 1)


def test_text_is_vector_text_and_files_are_the_same_each_time(seen: Observation) -> None:
    names = ("a $x$ $y_{", "b\x07 道路", "<c>")
    files = [file_of(branches_figure(seen, names, PALETTE), "pdf") for _ in range(2)]
    assert files[0] == files[1]
    assert b"/FontFile2" in files[0]  # TrueType; letters drawn as shapes would need none
    assert b"CreationDate" not in files[0]
    assert file_of(branches_figure(seen, names, PALETTE), "png").startswith(b"\x89PNG")


def test_typical_points_lie_deep_in_the_largest_classes() -> None:
    prediction = np.zeros((40, 60), np.uint8)
    prediction[10:31, 5:26] = 1
    prediction[0, 59] = 2
    seen = Observation((80, 60), np.zeros((40, 60, 3), np.uint8), None, prediction, [])
    (first, second) = typical_points(seen)
    assert second == (41, 15)  # row 20 of 40 is row 41 of 80
    row, column = first[0] // 2, first[1]
    assert 40 <= column <= 44
    assert 14 <= row <= 25


def test_an_image_of_one_pixel(seen: Observation) -> None:
    net = segmenter(backbone=dilated_resnet("resnet18"))
    one = observe(net, np.full((1, 1, 3), 128, np.uint8))
    for branch in one.branches:
        assert branch.before.shape == (16, 1, 1)
    assert typical_points(one) == [(0, 0)]
    torch.testing.assert_close(one.branches[0].map.rows(torch.tensor([0])).item(), 1.0)
    for figure in (
        attention_figure(one, CLASSES, PALETTE, [(0, 0)]),
        branches_figure(one, CLASSES, PALETTE),
    ):
        assert file_of(figure, "png").startswith(b"\x89PNG")
