"""H, W: size of the source; every source here is an image of its own coordinates."""

import os
import random
import subprocess
import sys
from collections import Counter

import cv2
import numpy as np
import pytest

from danet_lightning.data.samples.transforms import Augmentation, RandomScaleCrop


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
    crop = RandomScaleCrop((61, 57), (scale, scale))
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


def windows(crop: RandomScaleCrop) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(start, stop, size) of the rows and of the columns of the latest crop."""
    return tuple(crop.params["rows"]), tuple(crop.params["columns"])


@pytest.mark.parametrize(
    ("shape", "seed", "rows", "columns", "next_draw"),
    [
        ((97, 131), 0, (48, 83, 61), (53, 85, 57), 0.04048437818077755),
        ((97, 131), 1, (1, 88, 61), (16, 97, 57), 0.11791870367106105),
        ((30, 200), 0, (0, 30, 53), (107, 139, 57), 0.04048437818077755),
        ((30, 200), 1, (0, 30, 21), (108, 189, 57), 0.8022650611681835),
    ],
)
@pytest.mark.parametrize("options", [{}, {"base_size": None, "max_category_share": 1.0}])
def test_a_seed_crops_what_it_did_in_earlier_versions(
    shape, seed, rows, columns, next_draw, options
):
    """What version 0.1 drew, and that flip and colors find the stream where they did."""
    crop = RandomScaleCrop((61, 57), (0.5, 2.0), **options)
    apply(crop, seed, np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.uint8))
    assert windows(crop) == (rows, columns)
    assert crop.py_random.random() == next_draw


@pytest.mark.parametrize("scaled_short", [260, 400, 520, 775, 1040])
@pytest.mark.parametrize("shape", [(375, 500), (500, 375), (333, 500), (281, 500), (400, 400)])
def test_base_size_scales_the_short_side_as_the_authors_do(shape, scaled_short):
    scale = scaled_short / 520
    height, width = shape
    image, mask = np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.uint8)

    roomy = RandomScaleCrop((2000, 2000), (scale, scale), base_size=520)
    apply(roomy, 0, image, mask)
    (top, bottom, rows), (left, right, columns) = windows(roomy)
    assert (top, bottom, left, right) == (0, height, 0, width)
    assert min(rows, columns) == scaled_short
    if height > width:
        assert 0 <= rows - int(1.0 * height * scaled_short / width) <= 1  # theirs is truncated
    else:
        assert 0 <= columns - int(1.0 * width * scaled_short / height) <= 1

    tight = RandomScaleCrop((200, 240), (scale, scale), base_size=520)
    apply(tight, 0, image, mask)
    factor = scaled_short / min(shape)
    for (start, stop, size), crop in zip(windows(tight), (200, 240), strict=True):
        assert size == crop
        assert abs((stop - start) * factor - crop) <= factor / 2 + 1e-6  # a whole source pixel


def test_base_size_gives_images_of_any_size_the_same_short_sides(seed):
    draws, shapes = 1000, [(20, 30), (30, 20), (60, 60), (25, 90)]
    crop = RandomScaleCrop((300, 300), (0.5, 2.0), base_size=40)
    found = []
    for draw in range(draws):
        shorts = set()
        for shape in shapes:
            crop.set_random_state(np.random.default_rng(0), random.Random(seed + draw))
            drawn = crop.get_params_dependent_on_data({"shape": (*shape, 3)}, {})
            shorts.add(min(drawn["rows"].size, drawn["columns"].size))
        assert len(shorts) == 1, (seed + draw, shorts)
        found.append(shorts.pop())
    assert 20 <= min(found) <= 21
    assert 79 <= max(found) <= 80
    # the authors' whole number of int(0.5 * 40)..int(2 * 40), uniform
    assert np.allclose(np.quantile(found, [0.25, 0.5, 0.75]), [35, 50, 65], atol=5)


def patches(seed: int, shape: tuple[int, int], size: int = 20) -> np.ndarray:
    """Labels 0, 1, 2 and 255 in patches of size x size, none of them writable."""
    grid = [side // size + 1 for side in shape]
    classes = np.random.default_rng(seed).choice(np.uint8([0, 0, 0, 1, 2, 255]), grid)
    labels = np.kron(classes, np.ones((size, size), np.uint8))[: shape[0], : shape[1]].copy()
    labels.flags.writeable = False  # as from a memory map
    return labels


def place_plainly(generator: random.Random, mask: np.ndarray, window: int, share: float):
    """The rule pixel by pixel: (top, left) and how many places were drawn."""
    generator.uniform(1.0, 1.0)  # the scale

    def place() -> tuple[int, int]:
        top = generator.randint(0, mask.shape[0] - window)
        return top, generator.randint(0, mask.shape[1] - window)

    top, left = place()
    for drawn in range(1, 11):
        counts = Counter(mask[top : top + window, left : left + window].ravel().tolist())
        del counts[255]
        if len(counts) > 1 and max(counts.values()) / counts.total() < share:
            return (top, left), drawn
        top, left = place()
    return (top, left), 11


@pytest.mark.parametrize("share", [0.4, 0.6, 0.75])
@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_a_crop_is_placed_again_until_no_class_has_the_share(scale, share, seed):
    window, places_drawn = round(24 / scale), Counter()
    for draw in range(150):
        mask = patches(seed + draw, (90, 110), min(20, 2 * window // 3))
        generator = random.Random(seed + draw)
        (top, left), drawn = place_plainly(generator, mask, window, share)
        places_drawn[drawn] += 1
        crop = RandomScaleCrop((24, 24), (scale, scale), max_category_share=share)
        apply(crop, seed + draw, np.zeros((90, 110, 3), np.uint8), mask)
        assert windows(crop) == ((top, top + window, 24), (left, left + window, 24)), seed + draw
        assert crop.py_random.random() == generator.random()  # as many draws, not one more
    assert len(places_drawn) > 1, places_drawn  # else the masks did not put the rule to the test


def test_crops_of_one_class_become_rare(seed):
    mask = np.repeat(np.uint8([0, 1]), 32)[None].repeat(64, axis=0)  # left half, right half
    image, draws = np.zeros((64, 64, 3), np.uint8), 500

    def alone(share: float) -> float:
        crop = RandomScaleCrop((24, 24), (1.0, 1.0), max_category_share=share)
        return np.mean([np.ptp(apply(crop, seed + n, image, mask)[1]) == 0 for n in range(draws)])

    assert alone(1.0) > 0.3  # 18 of the 41 places show one class
    assert alone(0.75) < 0.05  # 11 places are accepted: 30 in 41 to the power 11 for 11 failures


@pytest.mark.parametrize("stripes", [[0, 0, 0, 0], [255, 255, 255, 255], [0, 0, 0, 1], [255, 4]])
def test_a_mask_that_cannot_do_ends_after_ten_more_places(stripes):
    """One class, none, exactly the share in each crop, and one class beside ignored pixels."""
    mask = np.tile(np.uint8(stripes), (20, 24 // len(stripes)))
    generator = random.Random(4)
    (top, left), drawn = place_plainly(generator, mask, 8, 0.75)
    assert drawn == 11
    crop = RandomScaleCrop((8, 8), (1.0, 1.0), max_category_share=0.75)
    apply(crop, 4, np.zeros((20, 24, 3), np.uint8), mask)
    assert windows(crop) == ((top, top + 8, 8), (left, left + 8, 8))


@pytest.mark.parametrize(
    "options", [{"base_size": 0}, {"max_category_share": 0.0}, {"max_category_share": 1.1}]
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Augmentation((8, 8), **options)


def drawn_parameters(seed: int, draws: int) -> np.ndarray:
    """(draws, 6): scale, top, left, flip, brightness, blur."""
    transform = Augmentation((32, 32), (1.0, 2.0), flip=0.5, color_jitter=0.5, blur=0.5).transform()
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


def test_flip_mirrors_both_and_color_changes_the_image_alone():
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (40, 40, 3), np.uint8)
    mask = generator.integers(0, 9, (40, 40), np.uint8)
    plain, _ = apply(Augmentation((40, 40), (1.0, 1.0), flip=0.0).transform(), 3, image, mask)
    assert np.array_equal(plain, image)

    got, labels = apply(Augmentation((40, 40), (1.0, 1.0), flip=1.0).transform(), 3, image, mask)
    assert np.array_equal(got, image[:, ::-1])
    assert np.array_equal(labels, mask[:, ::-1])

    for option, value in {"color_jitter": 1, "blur": 1, "photometric": True}.items():
        transform = Augmentation((40, 40), (1.0, 1.0), flip=0.0, **{option: value}).transform()
        got, labels = apply(transform, 3, image, mask)
        assert not np.array_equal(got, image), option
        assert np.array_equal(labels, mask), option


def test_the_steps_come_in_the_order_of_mmsegmentation():
    everything = Augmentation((8, 8), (1.0, 1.0), 0.5, 0.3, 0.5, 12, 0.75, True).transform()
    assert [type(step).__name__ for step in everything.transforms] == [
        "RandomScaleCrop",
        "HorizontalFlip",
        "PhotometricDistortion",
        "ColorJitter",
        "GaussianBlur",
    ]
    crop = everything.transforms[0]
    assert (crop.base_size, crop.max_category_share) == (12, 0.75)


@pytest.mark.slow
def test_importing_it_stays_off_the_network():
    spy = (
        "import sys\n"
        "def watch(event, args):\n"
        "    if event in ('socket.connect', 'socket.getaddrinfo'): print('went online')\n"
        "sys.addaudithook(watch)\n"
        "from danet_lightning.data.samples import photometric, transforms\n"
        "import albumentations\n"
        "print('imported')\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "NO_ALBUMENTATIONS_UPDATE"}
    done = subprocess.run(
        [sys.executable, "-c", spy], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["imported"]
