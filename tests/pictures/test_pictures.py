import io
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from danet_lightning.data.camvid import CamVid
from danet_lightning.data.scenes import Scenes
from danet_lightning.pictures.color_vision import color_distances, look_alike
from danet_lightning.pictures.confusion import (
    class_bars,
    confusion_figure,
    rendered,
    row_shares,
    worst_confusions,
)
from danet_lightning.pictures.curves import curves
from danet_lightning.pictures.masks import colorize, explained_overlay, overlay
from danet_lightning.pictures.panels import contact_sheet, strip

PALETTE = [[70, 130, 180], [128, 64, 128], [220, 20, 60]]
CLASSES = ["sky", "road", "person"]


def test_colorize() -> None:
    mask = np.array([[0, 2], [255, 1]], np.uint8)
    expected = [[PALETTE[0], PALETTE[2]], [[0, 0, 0], PALETTE[1]]]
    np.testing.assert_array_equal(colorize(mask, PALETTE), expected)
    np.testing.assert_array_equal(colorize(mask.astype(np.int64), PALETTE), expected)


@pytest.mark.parametrize("value", [3, 254, -1, 256])
def test_an_index_outside_the_palette_is_refused(value: int) -> None:
    with pytest.raises(
        ValueError, match=rf"holds {value}, but the palette has 3 colors: only 0 to 2"
    ):
        colorize(np.array([[0, value]]), PALETTE)


def test_a_name_with_control_characters_is_drawn() -> None:
    image, mask = np.zeros((8, 9, 3), np.uint8), np.zeros((8, 9), np.uint8)
    explained_overlay(image, mask, PALETTE, ["a\nb\x1b[31m", "road", "person"])


def test_overlay_of_pixels_computed_by_hand() -> None:
    image = np.array([[[100, 100, 101], [9, 8, 7]]], np.uint8)
    mask = np.array([[0, 255]], np.uint8)
    # 0.6 * (100, 100, 101) + 0.4 * (70, 130, 180) = (88, 112, 132.6); 255 shows the image
    blend = overlay(image, mask, PALETTE, opacity=0.4)
    assert blend.dtype == np.uint8
    assert blend.tolist() == [[[88, 112, 133], [9, 8, 7]]]
    assert overlay(image, mask, PALETTE, opacity=1)[0, 0].tolist() == PALETTE[0]
    assert overlay(image, mask, PALETTE, opacity=0)[0, 0].tolist() == [100, 100, 101]


def test_overlay_refuses_what_does_not_fit() -> None:
    image = np.zeros((2, 3, 3), np.uint8)
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(3, 2\)"):
        overlay(image, np.zeros((3, 2), np.uint8), PALETTE)
    with pytest.raises(ValueError, match="must be less than or equal to 1"):
        overlay(image, np.zeros((2, 3), np.uint8), PALETTE, opacity=2)


def colors_of(picture: Image.Image) -> set[tuple[int, ...]]:
    return {color for _, color in picture.getcolors(picture.width * picture.height)}


def test_distances_as_deuteranopes_see_them() -> None:
    """Greys keep their distance in lightness; L* of grey 119 is 50 in every table."""
    greys = color_distances([(0, 0, 0), (119, 119, 119), (255, 255, 255)])
    np.testing.assert_allclose(greys, [[0, 50, 100], [50, 0, 50], [100, 50, 0]], atol=0.1)
    for dataset, one, other in [
        (Scenes(1, 1, 1, (64, 128)), "vegetation", "person"),
        (CamVid("nowhere"), "building", "pedestrian"),
    ]:  # measured by a color-blind reader's tool
        pair = [dataset.palette[dataset.classes.index(name)] for name in (one, other)]
        assert color_distances(pair)[0, 1] == pytest.approx(6, abs=1)


def test_classes_that_look_alike_have_outlines_and_numbers() -> None:
    palette = [*PALETTE, (107, 142, 35)]  # vegetation and person
    classes = [*CLASSES, "vegetation"]
    assert look_alike(palette, [0, 2, 3, 255]) == {2, 3}
    assert look_alike(palette, [0, 1, 2, 255]) == set()
    mask = np.zeros((100, 300), np.uint8)
    mask[:, 100:200], mask[:, 200:] = 2, 3
    image = np.full((100, 300, 3), 255, np.uint8)
    drawn = np.asarray(explained_overlay(image, mask, palette, classes, opacity=1))
    assert (drawn[:100, :100] == palette[0]).all()
    edge = drawn[10:90, [100, 199, 200, 299]]
    assert (edge == 40).all()
    for left in (100, 200):  # white letters in the middle
        assert (drawn[45:55, left + 40 : left + 60] == 255).all(-1).any()
    plain = np.asarray(explained_overlay(image, mask % 3, palette, classes, opacity=1))
    np.testing.assert_array_equal(plain[:100, :300], overlay(image, mask % 3, palette, 1))
    assert {tuple(color) for color in palette[:3:2]} <= {
        tuple(color) for color in plain[100:].reshape(-1, 3)
    }


def test_strip_shows_the_four_side_by_side() -> None:
    image = np.full((96, 192, 3), (1, 2, 3), np.uint8)
    label, prediction = np.zeros((96, 192), np.uint8), np.ones((96, 192), np.uint8)
    label[:48] = 255
    prediction[:, 96:] = 0  # right
    picture = strip(image, label, prediction, PALETTE, CLASSES)
    # Twice as large, 12 pixels apart, under a line of titles; the legend lies below.
    assert picture.width == 4 * 2 * 192 + 5 * 12
    pixels = np.asarray(picture)
    left = [12 + column * (2 * 192 + 12) for column in range(4)]
    rows = slice(40, 40 + 150)
    assert (pixels[rows, left[0] : left[0] + 384] == (1, 2, 3)).all()
    assert (pixels[rows, left[2] : left[2] + 190] == PALETTE[1]).all()
    wrong = pixels[150:220, left[3] : left[3] + 384]
    assert (wrong[:, :190] == (213, 94, 0)).all()
    assert len(np.unique(wrong[:, 194:])) == 1  # gray, as the photo is
    shown = pixels[40:220, left[1] : left[1] + 384]
    assert (shown[100:] == PALETTE[0]).all()
    for ignored in (shown, pixels[40:220, left[3] : left[3] + 384]):
        assert {tuple(color) for color in ignored[:80].reshape(-1, 3)} == {(90,) * 3, (200,) * 3}


def test_the_legend_names_the_classes_that_are_there() -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    sky, road = np.zeros((20, 30), np.uint8), np.ones((20, 30), np.uint8)
    picture = strip(image, sky, road, PALETTE, CLASSES)
    legend = picture.crop((0, picture.height - 30, picture.width, picture.height))
    assert {tuple(PALETTE[0]), tuple(PALETTE[1])} <= colors_of(legend)
    assert tuple(PALETTE[2]) not in colors_of(picture)
    alone = strip(image, sky, sky, PALETTE, CLASSES)
    assert np.any(np.asarray(legend) != np.asarray(alone.crop((0, alone.height - 30, *alone.size))))


@pytest.mark.parametrize("size", [(17, 23), (601, 1203)])
def test_masks_are_resized_without_new_colors(size: tuple[int, int]) -> None:
    mask = np.indices(size).sum(0) // 3 % 2 * 2
    panel = strip(np.zeros((*size, 3), np.uint8), mask, mask, PALETTE, CLASSES)
    middle = panel.crop((panel.width * 3 // 8 - 40, 100, panel.width * 3 // 8 + 40, 200))
    assert colors_of(middle) == {tuple(PALETTE[0]), tuple(PALETTE[2])}


@pytest.mark.parametrize("size", [(1, 1), (8, 600), (600, 8), (1024, 2048)])
def test_strip_of_any_size_is_readable(size: tuple[int, int]) -> None:
    mask = np.zeros(size, np.uint8)
    picture = strip(np.zeros((*size, 3), np.uint8), mask, mask, PALETTE, CLASSES)
    assert 300 <= picture.width <= 2000
    assert picture.height <= 600


def test_many_long_names_take_several_lines_and_none_is_cut() -> None:
    classes = [f"a class called {number}" for number in range(40)]
    palette = [[number, 100, 200] for number in range(40)]
    mask = np.arange(40, dtype=np.uint8).reshape(5, 8)
    picture = strip(np.zeros((5, 8, 3), np.uint8), mask, mask, palette, classes)
    right = np.asarray(picture)[320:, -12:]  # the legend's margin
    assert (right == 255).all()
    swatches = picture.crop((0, 330, *picture.size))
    assert {tuple(color) for color in palette} <= colors_of(swatches)


def test_strip_refuses_different_sizes() -> None:
    image, mask = np.zeros((4, 6, 3), np.uint8), np.zeros((4, 6), np.uint8)
    with pytest.raises(ValueError, match=r"\(4, 6\) and \(6, 4\)"):
        strip(image, mask, mask.T, PALETTE, CLASSES)


def test_contact_sheet() -> None:
    colors = ["red", "green", "blue"]
    pictures = [Image.new("RGB", (10 + 5 * n, 20), color) for n, color in enumerate(colors)]
    sheet = contact_sheet(pictures, "step 12, epoch 3: mIoU 0.4567")
    assert sheet.width > 200  # the title is whole
    top = sheet.height - 60
    for number, color in enumerate(colors):
        for x, wanted in ((0, color), (9 + 5 * number, color), (10 + 5 * number, "white")):
            found = sheet.getpixel((x, top + 20 * number + 10))
            assert found == Image.new("RGB", (1, 1), wanted).getpixel((0, 0))
    assert (np.asarray(sheet)[:top] == 40).any()
    with pytest.raises(ValueError, match="there is no picture"):
        contact_sheet([], "")


HEADER = "epoch,lr/backbone,step,train/loss,val/miou\n"
METRICS = {
    "usual": HEADER + "0,0.1,9,2.5,\n0,0.05,19,2.0,\n0,,19,,0.25\n1,0.01,39,1.0,\n1,,39,,0.5\n",
    "one point": HEADER + "0,0.1,0,2.5,\n0,,0,,0.25\n",
    "no validation": HEADER + "0,0.1,9,2.5,\n0,0.05,19,2.0,\n",
    "other columns": "epoch,step,val/pixel_accuracy\n0,9,0.5\n",
    "not a number": HEADER + "0,0.1,9,nan,\n0,,9,,nan\n1,0.1,19,inf,\n",
    "header alone": HEADER,
    "cut": HEADER + "0,0.1,9,2.5,\n0,0.1,19",
    "empty": "",
}


@pytest.mark.parametrize("name", METRICS)
def test_curves_of_whatever_was_logged(tmp_path: Path, name: str) -> None:
    metrics = tmp_path / "metrics.csv"
    metrics.write_text(METRICS[name])
    curves(metrics, tmp_path / "Kurven ä.png")
    with Image.open(tmp_path / "Kurven ä.png") as picture:
        picture.load()
        assert picture.size == (960, 720)


def test_curves_show_what_was_logged(tmp_path: Path) -> None:
    drawn = {}
    for name in ("usual", "no validation", "header alone"):
        (tmp_path / "metrics.csv").write_text(METRICS[name])
        curves(tmp_path / "metrics.csv", tmp_path / "curves.png")
        with Image.open(tmp_path / "curves.png") as picture:
            drawn[name] = colors_of(picture.convert("RGB"))
    loss, miou = (31, 119, 180), (44, 160, 44)  # matplotlib's tab:blue and tab:green
    assert {loss, miou} <= drawn["usual"]
    assert loss in drawn["no validation"]
    assert miou not in drawn["no validation"]
    assert not {loss, miou} & drawn["header alone"]


def test_what_is_not_a_number_is_as_if_not_logged(tmp_path: Path) -> None:
    first = "0,,19,,0.25\n"
    pictures = []
    for replacement in ("", "0,nan,19,inf,nan\n"):
        (tmp_path / "metrics.csv").write_text(METRICS["usual"].replace(first, replacement))
        curves(tmp_path / "metrics.csv", tmp_path / "curves.png")
        with Image.open(tmp_path / "curves.png") as picture:
            pictures.append(np.asarray(picture))
    np.testing.assert_array_equal(*pictures)


def test_confusions_are_shares_of_a_label_and_the_worst_are_named() -> None:
    matrix = np.array([[8, 2, 0], [6, 3, 1], [0, 0, 0]])
    np.testing.assert_allclose(row_shares(matrix), [[0.8, 0.2, 0], [0.6, 0.3, 0.1], [0, 0, 0]])
    assert worst_confusions(matrix, CLASSES) == [
        ("road", "sky", 0.6), ("sky", "road", 0.2), ("road", "person", 0.1),
    ]  # fmt: skip
    assert worst_confusions(np.eye(3), CLASSES) == []
    axes, bar = confusion_figure(matrix, CLASSES).axes
    assert [text.get_text() for text in axes.texts] == ["80", "20", "60", "30", "10"]
    assert bar.get_ylim() == (0, 100)  # one unit for cells and colors


@pytest.mark.parametrize("count", [1, 3, 61])  # from 61 on the names are small
def test_figures_of_any_number_of_classes_with_any_names(count: int) -> None:
    """Names in which matplotlib would see a formula, signs that no font has, and long ones."""
    odd = ["a$b_$c^", "路\x00\x1b[31m", "a name of more than twenty-four signs"]
    classes = [f"{odd[number % 3]} {number}" for number in range(count)]
    matrix = np.full((count, count), 3)
    matrix[-1] = 0  # a class without a label
    iou = [None, *np.linspace(0, 1, count - 1)]
    for figure in (confusion_figure(matrix, classes), class_bars(iou, classes)):
        svg = ET.fromstring(rendered(figure, "svg"))
        assert float(svg.attrib["width"].removesuffix("pt")) > 150
        with Image.open(io.BytesIO(rendered(figure, "png"))) as picture:
            assert max(picture.size) < 5000
            assert picture.convert("L").getextrema()[0] < 100  # there is ink


def test_figures_of_171_classes_are_no_larger_than_a_viewer_shows() -> None:
    classes = [f"class {number}" for number in range(171)]
    for figure in (confusion_figure(np.eye(171), classes), class_bars([0.5] * 171, classes)):
        assert max(figure.get_size_inches()) * figure.get_dpi() < 5000
