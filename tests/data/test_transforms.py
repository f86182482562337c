"""H, W: size of the source; every source here is an image of its own coordinates."""

import os
import random
import subprocess
import sys

import cv2
import numpy as np
import pytest

from danet_lightning.data.transforms import RandomScaleCrop, training_transform


def coordinates(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """An image whose channels are row + 1, column + 1 and 1, and the mask row * W + column."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    return np.stack([rows + 1, columns + 1, np.ones_like(rows)], axis=-1), rows * width + columns


def apply(transform, seed: int, image: np.ndarray, mask: np.ndarray):
    transform.set_random_state(np.random.default_rng(seed), random.Random(seed))
    changed = transform(image=image, mask=mask)
    return changed["image"], changed["mask"]


@pytest.mark.parametrize("scale", [0.25, 0.37, 0.5, 0.77, 1.0, 1.31, 2.0])
@pytest.mark.parametrize(("height", "width"), [(97, 131), (200, 64)])
def test_mask_and_image_show_the_same_place(scale, height, width, seed):
    image, mask = coordinates(height, width)
    crop = RandomScaleCrop((61, 57), (scale, scale), fill_mask=0)
    for draw in range(20):
        got, labels = apply(crop, seed + draw, image, mask)
        inside = got[..., 2] == 1
        for shown, labelled in (
            (got[..., 0] - 1, labels // width),
            (got[..., 1] - 1, labels % width),
        ):
            apart = (shown - labelled)[inside]
            assert np.abs(apart).max() <= 0.5 + 1e-3, (scale, draw)  # the nearest source pixel


@pytest.mark.parametrize("scale", [0.3, 0.8, 1.0, 1.7])
def test_no_label_is_invented(scale, seed):
    mask = np.random.default_rng(seed).choice(np.uint8([3, 9, 17]), (50, 70))
    image = np.zeros((50, 70, 3), np.uint8)
    _, labels = apply(RandomScaleCrop((40, 40), (scale, scale)), seed, image, mask)
    assert labels.dtype == np.uint8
    assert set(np.unique(labels)) <= {3, 9, 17, 255}


def test_doubling_repeats_each_label_and_quartering_averages_sixteen_pixels(seed):
    generator = np.random.default_rng(seed)
    image = generator.integers(0, 256, (40, 60, 3), np.uint8)
    mask = generator.integers(0, 19, (40, 60), np.uint8)

    doubled = RandomScaleCrop((32, 48), (2.0, 2.0))
    _, labels = apply(doubled, seed, image, mask)
    (top, bottom, _), (left, right, _) = doubled.params["rows"], doubled.params["columns"]
    assert np.array_equal(labels, np.kron(mask[top:bottom, left:right], np.ones((2, 2), np.uint8)))

    quartered = RandomScaleCrop((8, 12), (0.25, 0.25))
    got, _ = apply(quartered, seed, image, mask)
    (top, bottom, _), (left, right, _) = quartered.params["rows"], quartered.params["columns"]
    window = image[top:bottom, left:right].reshape(8, 4, 12, 4, 3).astype(float)
    assert np.abs(got - window.mean(axis=(1, 3))).max() <= 0.5


def test_a_small_image_is_kept_whole_and_padded_right_and_below():
    image, mask = np.full((20, 30, 3), 200, np.uint8), np.full((20, 30), 4, np.uint8)
    got, labels = apply(RandomScaleCrop((40, 50), (1.5, 1.5)), 0, image, mask)
    assert got.shape == (40, 50, 3)
    assert (got[:30, :45] == 200).all()
    assert (labels[:30, :45] == 4).all()
    assert (got[30:] == 0).all()
    assert (got[:, 45:] == 0).all()
    assert (labels[30:] == 255).all()
    assert (labels[:, 45:] == 255).all()


def resize_then_crop(generator: random.Random, crop: tuple[int, int], image: np.ndarray):
    """The textbook order: scale the whole image, pad it, then cut."""
    scale = generator.uniform(0.5, 2.0)
    height, width = (round(length * scale) for length in image.shape[:2])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    scaled = cv2.resize(image, (width, height), interpolation=method)
    below, right = max(0, crop[0] - height), max(0, crop[1] - width)
    scaled = np.pad(scaled, ((0, below), (0, right), (0, 0)))
    top = generator.randint(0, scaled.shape[0] - crop[0])
    left = generator.randint(0, scaled.shape[1] - crop[1])
    return scaled[top : top + crop[0], left : left + crop[1]]


def test_cropping_first_is_resizing_first_in_distribution(seed):
    image, mask = coordinates(60, 80)
    draws, crop = 3000, RandomScaleCrop((48, 48), (0.5, 2.0))
    generator = random.Random(seed + 1)
    places = np.ix_([0, 12, 24, 47], [0, 12, 24, 47])
    ours = np.stack([apply(crop, seed + draw, image, mask)[0][places] for draw in range(draws)])
    theirs = np.stack([resize_then_crop(generator, (48, 48), image)[places] for _ in range(draws)])
    for moment in (1, 2):
        first, second = ours.astype(float) ** moment, theirs.astype(float) ** moment
        error = np.sqrt((first.var(axis=0) + second.var(axis=0)) / draws) + 1e-9
        # the windows' rounding to whole pixels is 0.25 of a pixel at most
        slack = 0.1 if moment == 1 else 0.1 * 2 * 80
        assert (np.abs(first.mean(axis=0) - second.mean(axis=0)) < 5 * error + slack).all()


def test_scales_are_uniform(seed):
    image, mask = coordinates(400, 400)
    crop = RandomScaleCrop((64, 64), (0.5, 2.0))
    scales = []
    for draw in range(1000):
        got, _ = apply(crop, seed + draw, image, mask)
        scales.append(40 / (got[52, 32, 0] - got[12, 32, 0]))  # pixels shown for each source pixel
    found = np.quantile(scales, [0.1, 0.25, 0.5, 0.75, 0.9])
    assert np.allclose(found, [0.65, 0.875, 1.25, 1.625, 1.85], atol=0.12), found
    assert min(scales) > 0.48
    assert max(scales) < 2.05


def test_positions_are_uniform_up_to_the_borders(seed):
    crop, draws = RandomScaleCrop((10, 10), (1.0, 1.0)), 4000
    image, mask = coordinates(17, 14)
    tops, lefts = np.zeros(8), np.zeros(5)
    for draw in range(draws):
        got, _ = apply(crop, seed + draw, image, mask)
        tops[int(got[0, 0, 0]) - 1] += 1
        lefts[int(got[0, 0, 1]) - 1] += 1
    for counts in (tops, lefts):
        share = 1 / len(counts)
        assert np.abs(counts / draws - share).max() < 5 * (share / draws) ** 0.5, counts


def drawn_parameters(seed: int, draws: int) -> np.ndarray:
    """(draws, 6): scale, top, left, flip, brightness, blur."""
    transform = training_transform((32, 32), (1.0, 2.0), flip=0.5, color_jitter=0.5, blur=0.5)
    crop, flip, jitter, blur = transform.transforms
    image, mask = np.full((64, 64, 3), 90, np.uint8), np.zeros((64, 64), np.uint8)
    table = []
    for draw in range(draws):
        apply(transform, seed + draw, image, mask)
        rows, columns = crop.params["rows"], crop.params["columns"]
        window = rows.stop - rows.start
        table.append(
            [
                window,
                rows.start / (64 - window),
                columns.start / (64 - window),
                bool(flip.params),
                jitter.params["brightness"],
                bool(blur.params),
            ]
        )
    return np.array(table, float)


def test_parameters_are_correlated_neither_with_each_other_nor_with_the_next_sample(seed):
    table = drawn_parameters(seed, 2000)
    both = np.hstack([table[:-1], table[1:]])
    off_diagonal = np.corrcoef(both, rowvar=False)[~np.eye(12, dtype=bool)]
    assert np.abs(off_diagonal).max() < 0.12  # 5 standard errors
    assert 0.44 < table[:, 3].mean() < 0.56
    assert 0.44 < table[:, 5].mean() < 0.56


def test_flip_mirrors_both_and_colour_changes_the_image_alone():
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (40, 40, 3), np.uint8)
    mask = generator.integers(0, 9, (40, 40), np.uint8)
    plain, _ = apply(training_transform((40, 40), (1.0, 1.0), flip=0.0), 3, image, mask)
    assert np.array_equal(plain, image)

    got, labels = apply(training_transform((40, 40), (1.0, 1.0), flip=1.0), 3, image, mask)
    assert np.array_equal(got, image[:, ::-1])
    assert np.array_equal(labels, mask[:, ::-1])

    for option in ("color_jitter", "blur"):
        transform = training_transform((40, 40), (1.0, 1.0), flip=0.0, **{option: 1.0})
        got, labels = apply(transform, 3, image, mask)
        assert not np.array_equal(got, image), option
        assert np.array_equal(labels, mask), option


def test_importing_it_stays_off_the_network():
    spy = (
        "import sys\n"
        "def watch(event, args):\n"
        "    if event in ('socket.connect', 'socket.getaddrinfo'): print('went online')\n"
        "sys.addaudithook(watch)\n"
        "import danet_lightning.data.transforms, albumentations\n"
        "print('imported')\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "NO_ALBUMENTATIONS_UPDATE"}
    done = subprocess.run(
        [sys.executable, "-c", spy], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["imported"]
