"""The drawn scenes: reproducible, legal, and not to be read off colors."""

import subprocess
import sys
import zlib

import numpy as np
import pytest

from danet_lightning.data.drawing import CLASSES, PALETTE, draw_scene

SIZE = (96, 192)
DIGEST = """
import zlib
from danet_lightning.data.drawing import draw_scene
scenes = [draw_scene(3, "val", index, 96, 192) for index in (9, 2)]
print([[zlib.crc32(part.tobytes()) for part in scene] for scene in scenes])
"""


def digest(index: int) -> list[int]:
    return [zlib.crc32(part.tobytes()) for part in draw_scene(3, "val", index, *SIZE)]


@pytest.fixture(scope="module")
def scenes() -> list[tuple[np.ndarray, np.ndarray]]:
    return [draw_scene(0, "train", index, *SIZE) for index in range(240)]


def test_a_scene_is_the_same_in_any_order_and_in_a_fresh_process() -> None:
    forward = [digest(2), digest(9)]
    fresh = subprocess.run(
        [sys.executable, "-c", DIGEST], capture_output=True, text=True, check=True
    )
    assert [digest(9), digest(2)] == forward[::-1]
    assert fresh.stdout.strip() == str(forward[::-1])


def test_seed_split_and_index_each_choose_another_scene() -> None:
    chosen = [(0, "train", 0), (0, "val", 0), (0, "test", 0), (1, "train", 0), (0, "train", 1)]
    labels = [draw_scene(*scene, *SIZE)[1] for scene in chosen]
    for i, one in enumerate(labels):
        for other in labels[:i]:
            assert (one != other).mean() > 0.05


def test_content_does_not_depend_on_the_size() -> None:
    for index in range(10):
        small = draw_scene(0, "train", index, 96, 192)[1]
        large = draw_scene(0, "train", index, 192, 384)[1][::2, ::2]
        sure = (small != 255) & (large != 255)
        assert (small == large)[sure].mean() > 0.97, f"scene {index}"


@pytest.mark.parametrize("size", [(96, 192), (33, 65), (128, 256), (100, 60)])
def test_shapes_types_and_ids(size: tuple[int, int], seed: int) -> None:
    image, labels = draw_scene(seed, "test", 5, *size)
    assert image.shape == (*size, 3)
    assert labels.shape == size
    assert image.dtype == labels.dtype == np.uint8
    assert set(np.unique(labels)) <= {*range(len(CLASSES)), 255}, f"seed {seed}"


def test_names_and_colors_belong_together() -> None:
    assert 10 <= len(CLASSES) <= 12
    assert len(set(CLASSES)) == len(set(PALETTE)) == len(CLASSES) == len(PALETTE)


@pytest.mark.slow
def test_every_class_is_frequent_and_some_pixels_have_none(scenes) -> None:
    for number, name in enumerate(CLASSES):
        frequency = np.mean([(labels == number).sum() > 20 for _, labels in scenes])
        assert frequency > 0.3, name
    unlabelled = np.mean([labels == 255 for _, labels in scenes])
    assert 0.01 < unlabelled < 0.2


@pytest.mark.slow
def test_two_classes_never_touch(scenes) -> None:
    for index, (_, labels) in enumerate(scenes):
        for one, other in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
            legal = (one != 255) & (other != 255)
            assert (one == other)[legal].all(), f"scene {index}"


@pytest.mark.slow
def test_objects_come_in_a_wide_range_of_scales(scenes) -> None:
    for name, least, most in (("person", 50, 500), ("car", 60, 1500), ("large vehicle", 100, 5000)):
        sizes = [(labels == CLASSES.index(name)).sum() for _, labels in scenes]
        present = [size for size in sizes if size]
        assert min(present) < least, name
        assert max(present) > most, name


@pytest.mark.slow
def test_light_varies(scenes) -> None:
    brightness = [image.mean() for image, _ in scenes]
    warmth = [image[..., 0].mean() / image[..., 2].mean() for image, _ in scenes]
    assert np.percentile(brightness, 95) > 1.5 * np.percentile(brightness, 5)
    assert np.percentile(warmth, 95) > 1.2 * np.percentile(warmth, 5)


def color_accuracy(scenes, first: str, second: str) -> float:
    """Mean recall, on held-out scenes, of a color histogram that tells two classes apart."""
    counts = np.ones((2, 512))
    hits = np.zeros((2, 2))
    pair = [CLASSES.index(first), CLASSES.index(second)]
    for number, (image, labels) in enumerate(scenes):
        bins = (image.astype(int) // 32) @ [64, 8, 1]
        for row, label in enumerate(pair):
            found = np.bincount(bins[labels == label], minlength=512)
            if number < len(scenes) * 2 // 3:
                counts[row] += found / max(1, found.sum())
            else:
                winner = counts.argmax(0)
                hits[row] += [found[winner == row].sum(), found.sum()]
    return float((hits[:, 0] / hits[:, 1]).mean())


@pytest.mark.parametrize(
    ("first", "second", "limit"),
    [("grass", "field", 0.6), ("building", "large vehicle", 0.65), ("road", "sidewalk", 0.75)],
)
def test_colors_hardly_tell_confusable_classes_apart(
    scenes, first: str, second: str, limit: float
) -> None:
    assert color_accuracy(scenes, first, second) < limit


@pytest.mark.slow
def test_the_color_measure_does_tell_distinct_classes_apart(scenes) -> None:
    assert color_accuracy(scenes, "sky", "vegetation") > 0.8


@pytest.mark.slow
def test_fields_and_lawns_are_told_apart_by_the_rest_of_the_scene(scenes) -> None:
    numbers = [CLASSES.index(name) for name in ("grass", "field", "building")]
    for index, (_, labels) in enumerate(scenes):
        grass, field, building = ((labels == number).any() for number in numbers)
        assert not (grass and field), f"scene {index}"
        assert not (field and building), f"scene {index}"


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ((0, "train", 0, 16, 192), "height is 16.*at least 32"),
        ((0, "train", 0, 96, 31), "width is 31.*at least 32"),
        ((-1, "train", 0, 96, 192), "seed is -1.*at least 0"),
        ((0, "train", -2, 96, 192), "index is -2.*at least 0"),
        ((0, "trian", 0, 96, 192), "split is 'trian'.*train, val, test"),
    ],
)
def test_impossible_requests_are_named(request_: tuple, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        draw_scene(*request_)
