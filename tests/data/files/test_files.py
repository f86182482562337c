from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from danet_lightning.data.files import images
from danet_lightning.data.files.label_file import read_label
from danet_lightning.data.files.source import FileSource
from danet_lightning.errors import RequestError

RED, GREEN = (255, 0, 0), (0, 255, 0)
read_image = partial(images.read_image, upright=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "my photos é"
    path.mkdir()
    return path


def pair(folder: Path, labels: np.ndarray, image: np.ndarray | None = None):
    """A source of one pair of files, with the labels 0..3 and 11."""
    if image is None:
        image = np.zeros((*labels.shape[:2], 3), np.uint8)
    Image.fromarray(image).save(folder / "photo.png")
    Image.fromarray(labels).save(folder / "labels.png")
    files = [("photo", folder / "photo.png", folder / "labels.png")]
    return FileSource(files, {0: 0, 1: 1, 2: 2, 3: 3, 11: 255})


def test_ids_become_train_ids(folder):
    labels = np.array([[0, 1, 2], [3, 11, 0]], np.uint8)
    source = pair(folder, labels)
    image, mask = source.read(0)
    assert mask.tolist() == [[0, 1, 2], [3, 255, 0]]
    assert mask.dtype == image.dtype == np.uint8
    assert (len(source), source.name(0), image.shape) == (1, "photo", (2, 3, 3))


@pytest.mark.parametrize("illegal", [[4], [255], [12, 200]])
def test_an_id_out_of_range_names_file_ids_range_and_causes(folder, illegal):
    labels = np.zeros((4, 5), np.uint8)
    labels[1, : len(illegal)] = illegal
    with pytest.raises(RequestError) as raised:
        pair(folder, labels).read(0)
    text = str(raised.value)
    assert str(folder / "labels.png") in text
    assert f"label {', '.join(map(str, illegal))} ({len(illegal)} pixel" in text
    assert "allowed 0-3, 11." in text
    for cause in ("0/255 mask", "RGB mask", "subtract 1"):
        assert cause in text


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_a_label_file_of_colors_says_so(folder, mode):
    source = pair(folder, np.zeros((4, 5), np.uint8))
    Image.new(mode, (5, 4)).save(folder / "labels.png")
    with pytest.raises(RequestError, match=rf"labels\.png: .*channels \({mode}\).*class indices"):
        source.read(0)


def test_image_and_label_of_different_size_name_both(folder):
    source = pair(folder, np.zeros((4, 5), np.uint8), np.zeros((5, 4, 3), np.uint8))
    with pytest.raises(RequestError, match=r"photo\.png is 4 x 5, .*labels\.png is 5 x 4"):
        source.read(0)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("kept", [0, 0.02, 0.5, 0.9])
def test_a_truncated_file_is_named(folder, suffix, kept):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    path = folder / f"cut.{suffix}"
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    for read in (read_image, read_label):
        with pytest.raises(RequestError, match=rf"cut\.{suffix} cannot be read"):
            read(path)


def test_what_is_no_image_or_not_there_is_named(folder):
    (folder / "text.png").write_text("not an image")
    with pytest.raises(RequestError, match=r"text\.png cannot be read"):
        read_image(folder / "text.png")
    with pytest.raises(RequestError, match=r"gone\.png cannot be read as an image: No such file"):
        read_image(folder / "gone.png")


def test_a_palette_label_is_read_as_indices(folder):
    image = Image.fromarray(np.array([[0, 1, 15]], np.uint8), mode=None).convert("P")
    image.putdata([0, 1, 15])
    image.putpalette([value for index in range(256) for value in (index, 255 - index, 7)])
    image.save(folder / "palette.png")
    assert read_label(folder / "palette.png").values.tolist() == [[0, 1, 15]]


def test_16_bit_and_1_bit_labels_keep_their_ids(folder):
    Image.fromarray(np.array([[0, 300, 65535]], np.uint16)).save(folder / "deep.png")
    assert read_label(folder / "deep.png").values.tolist() == [[0, 300, 65535]]
    Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1").save(folder / "bits.png")
    assert read_label(folder / "bits.png").values.tolist() == [[0, 1]]


def test_images_of_any_kind_become_rgb(folder):
    rgb = Image.new("RGB", (2, 1), RED)
    rgb.putpixel((1, 0), GREEN)
    transparent = rgb.convert("RGBA")
    transparent.putalpha(Image.fromarray(np.array([[255, 10]], np.uint8)))
    palette = rgb.quantize(2)
    kinds = {
        "rgb.png": rgb,
        "rgba.png": transparent,
        "palette.png": palette,
    }
    for name, image in kinds.items():
        image.save(folder / name)
        assert read_image(folder / name).tolist() == [[list(RED), list(GREEN)]], name
    palette.save(folder / "clear.png", transparency=b"\x80\xff")
    assert read_image(folder / "clear.png").tolist() == [[list(RED), list(GREEN)]]


def test_grey_images_keep_their_brightness_at_any_depth(folder):
    Image.fromarray(np.array([[0, 100, 255]], np.uint8)).save(folder / "grey.png")
    Image.fromarray(np.array([[0, 100 * 257, 65535]], np.uint16)).save(folder / "deep.png")
    for name in ("grey.png", "deep.png"):
        expected = [[[0] * 3, [100] * 3, [255] * 3]]
        assert read_image(folder / name).tolist() == expected, name


def test_an_exif_rotation_turns_neither_image_nor_label(folder):
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees to look at it
    Image.new("RGB", (5, 4)).save(folder / "turned.jpg", exif=exif)
    Image.new("L", (5, 4)).save(folder / "turned.png", exif=exif)
    assert read_image(folder / "turned.jpg").shape == (4, 5, 3)
    assert read_label(folder / "turned.png").values.shape == (4, 5)


@pytest.mark.parametrize("train_ids", [{0: 254}, {0: -1}, {-1: 0}, {70000: 0}, {0: 300}])
def test_a_label_table_outside_the_train_ids_is_refused(train_ids):
    with pytest.raises(ValueError, match="train_ids"):
        FileSource([], train_ids)
