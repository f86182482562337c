"""Colors are RGB bytes; the reference knows neither OpenCV nor look-up tables."""

import colorsys
import random

import numpy as np
import pytest

from danet_lightning.data.samples.photometric import PhotometricDistortion
from danet_lightning.data.samples.transforms import Augmentation

NOTHING = {
    "brightness": None,
    "contrast": None,
    "contrast_first": False,
    "saturation": None,
    "hue": None,
}


def stored(values: np.ndarray) -> np.ndarray:
    """To bytes as MMSegmentation stores them: clipped, then cut off."""
    return np.trunc(np.clip(values, 0, 255))


def recolor(image: np.ndarray, saturation: float = 1.0, hue: int = 0) -> np.ndarray:
    """One step in HSV, pixel by pixel, with hue in 0..179 and saturation in 0..255."""
    colors = []
    for color in image.reshape(-1, 3) / 255:
        h, s, v = colorsys.rgb_to_hsv(*color)
        h, s = (round(h * 180) + hue) % 180, stored(np.round(s * 255) * saturation)
        colors.append(np.round(np.multiply(colorsys.hsv_to_rgb(h / 180, s / 255, v), 255)))
    return np.reshape(colors, image.shape).astype(np.float32)


def distort_slowly(image: np.ndarray, given: dict) -> np.ndarray:
    def contrast(image: np.ndarray) -> np.ndarray:
        return image if given["contrast"] is None else stored(image * given["contrast"])

    image = image.astype(np.float32)  # as there: the cut turns a last bit into a whole level
    if given["brightness"] is not None:
        image = stored(image + given["brightness"])
    if given["contrast_first"]:
        image = contrast(image)
    if given["saturation"] is not None:
        image = recolor(image, saturation=given["saturation"])
    if given["hue"] is not None:
        image = recolor(image, hue=given["hue"])
    return image if given["contrast_first"] else contrast(image)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"brightness": 31.4},
        {"brightness": -17.7},
        {"contrast": 1.47},
        {"contrast": 0.52, "contrast_first": True},
        {"brightness": 20.2, "contrast": 1.3, "contrast_first": True},
        {"brightness": -20.2, "contrast": 1.3},
        {"saturation": 0.55},
        {"saturation": 1.45},
        {"hue": 17},
        {"hue": -18},
        {"saturation": 1.2, "hue": 9},
        {"brightness": 9.5, "contrast": 1.4, "saturation": 0.7, "hue": -5},
        {**NOTHING, "contrast": 1.4, "contrast_first": True, "saturation": 1.3, "hue": 5},
    ],
)
def test_each_step_is_that_of_a_slow_reference(given, seed):
    image = np.random.default_rng(seed).integers(0, 256, (24, 40, 3), np.uint8)
    image[0] = image[0, :, :1]  # some greys
    image[1] = np.random.default_rng(seed).choice(np.uint8([0, 255]), (40, 3))  # pure colors
    before = image.copy()
    given = {**NOTHING, **given}
    got = PhotometricDistortion().apply(image, **given)
    apart = np.abs(got - distort_slowly(image, given))
    assert (got.dtype, got.shape) == (np.uint8, image.shape)
    assert np.array_equal(image, before)
    if given["saturation"] is None and given["hue"] is None:
        assert apart.max() == 0
    else:
        # OpenCV computes HSV in fixed point: where a hue or a saturation lies between two whole
        # numbers it may choose the other one, and one hue is worth 255 / 30 levels.
        assert apart.max() <= 20
        assert np.mean(apart > 3) < 0.03
        assert apart.mean() < 1


def test_known_colors_turn_the_known_way():
    """Red towards yellow, not towards blue as if the channels were in OpenCV's own order."""
    red = np.full((2, 2, 3), (200, 0, 0), np.uint8)
    distort = PhotometricDistortion().apply
    assert distort(red, **{**NOTHING, "hue": 15})[0, 0].tolist() == [200, 100, 0]
    assert distort(red, **{**NOTHING, "hue": -15})[0, 0].tolist() == [200, 0, 100]
    # S = 255 becomes 127, which leaves 200 * (1 - 127 / 255) = 100.4 of the other channels
    assert distort(red, **{**NOTHING, "saturation": 0.5})[0, 0].tolist() == [200, 100, 100]


def drawn(transform: PhotometricDistortion, seed: int) -> dict:
    transform.set_random_state(np.random.default_rng(seed), random.Random(seed))
    return transform.get_params()


def test_steps_happen_half_the_time_in_their_ranges_and_on_their_own(seed):
    table = [drawn(PhotometricDistortion(), seed + draw) for draw in range(2000)]
    names = ["brightness", "contrast", "saturation", "hue"]
    happened = np.array(
        [[row[name] is not None for name in names] + [row["contrast_first"]] for row in table]
    )
    error = (0.25 / 2000) ** 0.5
    assert np.abs(happened.mean(axis=0) - 0.5).max() < 5 * error, happened.mean(axis=0)
    between = np.corrcoef(happened, rowvar=False)[~np.eye(5, dtype=bool)]
    assert np.abs(between).max() < 5 / 2000**0.5

    limits = {"brightness": (-32, 32), "contrast": (0.5, 1.5), "saturation": (0.5, 1.5)}
    for name, (least, greatest) in limits.items():
        values = np.array([row[name] for row in table if row[name] is not None])
        assert least <= values.min() <= values.max() <= greatest, name
        share = (values - least) / (greatest - least)
        found = np.quantile(share, [0.01, 0.25, 0.5, 0.75, 0.99])
        assert np.allclose(found, [0.01, 0.25, 0.5, 0.75, 0.99], atol=0.09), name
    hues = {row["hue"] for row in table} - {None}
    assert hues == set(range(-18, 18))  # numpy's randint(-18, 18) in theirs leaves 18 out


def noise(seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    image = generator.integers(0, 256, (20, 30, 3), np.uint8)
    return image, generator.integers(0, 19, (20, 30), np.uint8)


def test_the_same_state_gives_the_same_image_and_the_mask_is_left_alone(seed):
    image, mask = noise(seed)
    first, second = (
        Augmentation((20, 30), (1.0, 1.0), 0.0, photometric=True).transform() for _ in "ab"
    )
    changed = 0
    for draw in range(40):
        results = []
        for transform in (first, second):
            random.seed(len(results))  # the global generators decide nothing
            np.random.seed(len(results))
            transform.set_random_state(
                np.random.default_rng(seed + draw), random.Random(seed + draw)
            )
            results.append(transform(image=image, mask=mask))
        assert np.array_equal(results[0]["image"], results[1]["image"]), seed + draw
        assert results[0]["image"].dtype == np.uint8
        assert results[0]["mask"].dtype == np.uint8
        assert np.array_equal(results[0]["mask"], mask), seed + draw
        changed += not np.array_equal(results[0]["image"], image)
        second(image=image, mask=mask)  # earlier draws do not matter either
    assert changed > 25  # one in sixteen stays as it is


def test_grey_stays_grey(seed):
    grey = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(16, 16, 3)
    transform = PhotometricDistortion()
    for draw in range(200):
        got = transform.apply(grey, **drawn(transform, seed + draw))
        assert np.array_equal(got, np.repeat(got[..., :1], 3, axis=-1)), seed + draw


def test_images_of_another_kind_are_refused():
    transform = PhotometricDistortion()
    for image in (np.zeros((4, 5, 3), np.float32), np.zeros((4, 5), np.uint8)):
        with pytest.raises(ValueError, match=r"\(4, 5.*Convert to RGB bytes"):
            transform(image=image)
