import os
import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest
from fake_trees import write_tiff
from PIL import Image, TiffImagePlugin, features

from danet_lightning.data.files.images import orientation, read_image
from danet_lightning.data.files.label_file import read_label
from danet_lightning.errors import RequestError
from danet_lightning.predict.search import counted, find_images

GREY = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
RGB = np.stack([GREY, GREY + 20, 255 - GREY], axis=-1)
PALETTE = [(10, 20, 30), (200, 100, 50), (0, 255, 7)]
INDICES = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)


def save(folder: Path, pixels: np.ndarray, suffix: str = ".png", **options: object) -> Path:
    path = folder / f"Größe der Bäume 木{suffix}"
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return path


def palette_image() -> Image.Image:
    image = Image.fromarray(INDICES)
    image.putpalette([channel for color in PALETTE for channel in color])
    return image


def grey(values: np.ndarray) -> np.ndarray:
    return np.stack([values] * 3, axis=-1)


ALPHA = np.array([[0, 128, 255], [1, 254, 3]], np.uint8)
EIGHT_BIT = {
    "RGB": (RGB, {}, RGB),
    "grey": (GREY, {}, grey(GREY)),
    "1-bit": (INDICES > 0, {}, grey(np.where(INDICES > 0, 255, 0).astype(np.uint8))),
    # The colors under an alpha channel are those that training sees.
    "grey and alpha": (np.stack([GREY, ALPHA], -1), {}, grey(GREY)),
    "RGBA": (np.dstack([RGB, ALPHA]), {}, RGB),
    "palette": (palette_image(), {}, np.array(PALETTE, np.uint8)[INDICES]),
    "palette, one transparent": (
        palette_image(),
        {"transparency": 1},
        np.array(PALETTE, np.uint8)[INDICES],
    ),
    "palette with alpha": (
        palette_image(),
        {"transparency": b"\x00\x80\xff"},
        np.array(PALETTE, np.uint8)[INDICES],
    ),
    "grey, one transparent": (GREY, {"transparency": 40}, grey(GREY)),
}


@pytest.mark.parametrize("name", EIGHT_BIT)
def test_any_kind_of_png_is_read_as_rgb(tmp_path: Path, name: str) -> None:
    pixels, options, expected = EIGHT_BIT[name]
    read = read_image(save(tmp_path, pixels, **options))
    assert read.dtype == np.uint8
    assert read.flags.writeable  # torch.from_numpy warns otherwise
    np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 255, 256], [32768, 65280, 65535]], np.uint16)
    read = read_image(save(tmp_path, values, suffix))
    np.testing.assert_array_equal(read, grey(np.array([[0, 0, 1], [128, 255, 255]], np.uint8)))


def test_big_endian_sixteen_bit_tiff(tmp_path: Path) -> None:
    values = np.array([[0x00FF, 0xFF00, 0x8000]], ">u2")
    path = save(tmp_path, Image.frombytes("I;16B", (3, 1), values.tobytes()), ".tif")
    assert path.read_bytes()[:2] == b"MM"
    np.testing.assert_array_equal(read_image(path), grey(np.array([[0, 255, 128]], np.uint8)))


@pytest.mark.parametrize(("suffix", "channels"), [(".png", 3), (".png", 4), (".tif", 3)])
def test_sixteen_bit_color(tmp_path: Path, suffix: str, channels: int) -> None:
    path = str(tmp_path / f"deep{suffix}")
    values = np.linspace(0, 65535, 2 * 3 * channels).astype(np.uint16).reshape(2, 3, channels)
    bgr = values[..., [2, 1, 0, 3][:channels]]  # OpenCV's order; Pillow cannot write such files
    assert cv2.imwrite(path, bgr)
    np.testing.assert_array_equal(read_image(path), values[..., :3] >> 8)


def test_cmyk_jpeg(tmp_path: Path) -> None:
    cmyk = np.zeros((16, 16, 4), np.uint8)
    cmyk[..., 1:3] = 255  # magenta and yellow ink: red
    path = save(tmp_path, Image.frombytes("CMYK", (16, 16), cmyk.tobytes()), ".jpg")
    np.testing.assert_allclose(read_image(path).astype(int), [[[255, 0, 0]] * 16] * 16, atol=4)


UPRIGHT = {  # the EXIF orientations: where row 0 and column 0 of the stored image belong
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],  # row 0 top, column 0 right
    3: lambda stored: stored[::-1, ::-1],  # bottom, right
    4: lambda stored: stored[::-1],  # bottom, left
    5: lambda stored: stored.swapaxes(0, 1),  # left, top
    6: lambda stored: stored.swapaxes(0, 1)[:, ::-1],  # right, top
    7: lambda stored: stored.swapaxes(0, 1)[::-1, ::-1],  # right, bottom
    8: lambda stored: stored.swapaxes(0, 1)[::-1],  # left, bottom
}


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    sixteen = (GREY.astype(np.uint16) << 8) + 77
    for pixels, expected in ((RGB, RGB), (GREY, grey(GREY)), (sixteen, grey(GREY))):
        read = read_image(save(tmp_path, pixels, suffix, exif=exif))
        np.testing.assert_array_equal(read, UPRIGHT[orientation](expected))


@pytest.mark.parametrize("orientation", [6, 8])
def test_exif_orientation_of_a_jpeg(tmp_path: Path, orientation: int) -> None:
    stored = np.zeros((16, 32, 3), np.uint8)
    stored[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    read = read_image(save(tmp_path, stored, ".jpg", exif=exif, quality=100))
    np.testing.assert_array_equal(read, UPRIGHT[orientation](stored))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp"])
def test_a_truncated_file_is_never_taken_for_whole(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    path = save(tmp_path, noise, suffix)
    content, whole = path.read_bytes(), read_image(path)
    for size in (0, 1, 10, len(content) // 10, len(content) // 2, len(content) - 100):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"木\.\w+ cannot be read as an image: \w"):
            read_image(path)
    path.write_bytes(content)
    np.testing.assert_array_equal(read_image(path), whole)


def test_the_reason_is_told(tmp_path: Path) -> None:
    text = tmp_path / "notes.png"
    text.write_text("not a picture")
    floats = save(tmp_path, np.zeros((2, 2), np.float32), ".tif")
    for path, reason in (
        (text, "no format known"),
        (floats, "32-bit samples have no fixed white"),
        (tmp_path / "gone.png", "No such file"),
        (tmp_path, "Is a directory"),
    ):
        with pytest.raises(ValueError, match=reason):
            read_image(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif"])
@pytest.mark.parametrize("turn", [3, 6, 8])
def test_pixels_that_have_labels_are_read_as_stored(tmp_path: Path, suffix: str, turn: int) -> None:
    """Pillow turns a TIFF by itself, and it alone."""
    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    stored = np.zeros((16, 32, 3), np.uint8)
    stored[:8, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = turn
    path = save(tmp_path, stored, suffix, exif=exif)
    assert orientation(path) == turn
    for upright, expected in ((False, stored), (True, UPRIGHT[turn](stored))):
        read = read_image(path, upright)
        assert read.shape == expected.shape
        assert ((read > 127) == (expected > 127)).all()
    labels = save(tmp_path, (stored[..., 0] > 0).astype(np.uint8), ".tif", exif=exif)
    assert (read_label(labels).values == (stored[..., 0] > 0)).all()


def test_the_orientation_behind_the_pixels_of_a_png_is_seen(tmp_path: Path) -> None:
    """Where exiftool writes it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    plain, tagged = save(tmp_path, RGB).read_bytes(), save(tmp_path, RGB, exif=exif).read_bytes()
    start = tagged.index(b"eXIf") - 4
    chunk = tagged[start : start + 12 + int.from_bytes(tagged[start : start + 4])]
    end = plain.index(b"IEND") - 4
    path = tmp_path / "late.png"
    path.write_bytes(plain[:end] + chunk + plain[end:])
    assert orientation(path) == 6
    assert read_image(path).shape == (3, 2, 3)
    assert orientation(save(tmp_path, RGB)) == 1
    assert orientation(tmp_path / "gone.png") == 1


def test_previews_of_raw_files_and_pipes_are_not_read(tmp_path: Path) -> None:
    raw = TiffImagePlugin.ImageFileDirectory_v2()
    raw[50706] = b"\1\4\0\0"
    dng = save(tmp_path, RGB, ".tif", tiffinfo=raw)
    renamed = dng.rename(tmp_path / "renamed.NEF")
    Image.fromarray(RGB).save(tmp_path / "a.tif", tiffinfo=raw)
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "liar.jpg").write_bytes(b"\0\0\0\x18ftypheic")
    for path, reason in (
        (renamed, "a camera's raw file, which is not read; save it as JPEG or PNG"),
        (tmp_path / "a.tif", "a camera's raw file"),
        (tmp_path / "pipe.png", "no regular file"),
        (tmp_path / "liar.jpg", "another format, such as HEIC"),
    ):
        with pytest.raises(ValueError, match=reason):
            read_image(path)


@pytest.mark.parametrize("values", [[[0, 4095]], [[1, 2]], [[300, 1023]]])
def test_twelve_bits_in_sixteen_are_refused(tmp_path: Path, values: list) -> None:
    deep = np.array(values, np.uint16)
    for suffix in (".png", ".tif", ".pgm"):
        with pytest.raises(RequestError, match=r"below 4096.*-scale 0 4095 0 255"):
            read_image(save(tmp_path, deep, suffix))
    for suffix in (".png", ".tif"):
        path = tmp_path / f"colors{suffix}"
        assert cv2.imwrite(str(path), np.dstack([deep] * 3))
        with pytest.raises(RequestError, match="below 4096"):
            read_image(path)
    np.testing.assert_array_equal(read_image(save(tmp_path, deep * 0)), grey(deep * 0))  # black
    eight = save(tmp_path, np.array([[0, 15]], np.uint8))
    assert read_image(eight).max() == 15


def test_several_pages_are_refused(tmp_path: Path) -> None:
    first, second = Image.fromarray(RGB), Image.fromarray(255 - RGB)
    for suffix in (".tif", ".gif", ".png", ".webp"):
        path = save(tmp_path, first, suffix, save_all=True, append_images=[second])
        with pytest.raises(RequestError, match=r"holds 2 pages or frames.*magick"):
            read_image(path)
    preview = save(tmp_path, first, ".jpg", format="MPO", save_all=True, append_images=[second])
    assert read_image(preview).shape == RGB.shape


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("int8", "signed 8-bit samples"),
        ("int16", "signed 16-bit samples"),
        ("int32", "signed 32-bit samples"),
        ("uint32", "unsigned 32-bit samples"),
        ("float32", "floating point 32-bit samples"),
        ("float64", "floating point 64-bit samples"),
    ],
)
def test_samples_without_a_white_are_named(tmp_path: Path, kind: str, told: str) -> None:
    path = write_tiff(tmp_path / "a.tif", GREY.astype(kind))
    with pytest.raises(RequestError, match=rf"its {told} have no fixed white.*gdal_translate"):
        read_image(path)


def test_sixteen_bits_counted_from_white_are_turned_round(tmp_path: Path) -> None:
    deep = np.array([[0, 0x1234, 0xFFFF]], np.uint16)
    path = write_tiff(tmp_path / "a.tif", deep, photometric=0)
    np.testing.assert_array_equal(read_image(path), grey(np.array([[255, 0xED, 0]], np.uint8)))


def test_too_many_pixels_are_told_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path, RGB)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2)
    with pytest.raises(RequestError, match=r"million pixels, and up to .*gdal_retile"):
        read_image(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "Fotos [alt]"
    for name in ("b.JPG", "ä b.png", "a[1].png", "a1.png", "sub/c.tiff", "notes.txt", ".x.png"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (folder / "folder.png").mkdir()
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "d.png").touch()
    return folder


def test_a_folder_gives_its_images_with_those_below(photos: Path) -> None:
    root, images, *_ = find_images(str(photos))
    assert root == photos
    assert [str(image) for image in images] == [
        "a1.png",
        "a[1].png",
        "b.JPG",
        os.path.join("sub", "c.tiff"),  # noqa: PTH118
        "ä b.png",
    ]


def test_images_are_known_by_suffix_or_content_and_the_rest_is_counted(photos: Path) -> None:
    contents = {
        "none": b"\x89PNG\r\n\x1a\n",
        "IMG.2024": b"\xff\xd8\xff\xe0",
        "x.heic": b"\xff\xd8\xff\xe1",  # a JPEG, as telephones export it
        "y.HEIC": b"\0\0\0\x18ftypmif1",
        "live": b"\0\0\0\x18ftypheic",
        "r.DNG": b"II*\0",
        "film.mp4": b"\0\0\0\x18ftypisom",
        "Thumbs.db": b"\xd0\xcf",
        "BMW": b"BMW and P5",
    }
    for name in ("d.psd", "b.xml", "c.xml", "empty", "._a1.png", ".DS_Store"):
        contents[name] = b""
    for name, content in contents.items():
        (photos / name).write_bytes(content)
    for request in (str(photos), f"{photos}/**/*", f"{photos}/**"):
        root, images, unread, others = find_images(request)
        assert root == photos
        assert {*map(str, images)} == {
            "a1.png", "a[1].png", "b.JPG", "sub/c.tiff", "ä b.png", "none", "IMG.2024", "x.heic",
        }  # fmt: skip
        assert {*map(str, unread)} == {"y.HEIC", "live", "r.DNG", "d.psd"}
        assert others == {".xml": 2, "no suffix": 2, ".txt": 1, ".db": 1, ".mp4": 1}
    assert counted(others).startswith("2 ")
    assert find_images(f"{photos}/*.HEIC")[1:3] == ([], [Path("y.HEIC")])


@pytest.mark.parametrize(
    "request_", ["{}", "{}/**", "{}/*/*.png", "{}/**/1.png", "{}/[a-z]*/1.png"]
)
def test_links_in_circles_end_and_images_are_found_once(tmp_path: Path, request_: str) -> None:
    for name in ("b/1.png", "c/2.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    for link, target in {"a": "b", "b/c": "../c", "c/b": "../b", "b/up": "../.."}.items():
        (tmp_path / link).symlink_to(target)
    expected = [Path("b/1.png"), Path("c/2.png")] if "1.png" not in request_ else [Path("b/1.png")]
    assert find_images(request_.format(tmp_path))[1] == expected


def test_a_pattern_that_only_a_link_fits_finds_what_lies_there(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "1.png").touch()
    (tmp_path / "a1").symlink_to("b")
    assert find_images(f"{tmp_path}/a?/*.png")[1] == [Path("a1/1.png")]
    assert find_images(f"{tmp_path}/a?/**/*.png")[1] == [Path("a1/1.png")]


@pytest.mark.parametrize(
    "request_", ["Größe.png", "Gr*ß*.png", "Größ?/**/ä.png", "Größe", "Größe/ä.png"]
)
def test_input_is_found_in_any_unicode_form(tmp_path: Path, request_: str) -> None:
    for name in ("Größe.png", "Größe/ä.png"):
        path = tmp_path / unicodedata.normalize("NFD", name)
        path.parent.mkdir(exist_ok=True)
        path.touch()
    for form in ("NFC", "NFD"):
        found = find_images(f"{tmp_path}/{unicodedata.normalize(form, request_)}")
        assert len(found.images) == 1


def test_an_image_is_taken_literally_whatever_its_name(photos: Path) -> None:
    for name in ("a[1].png", "ä b.png"):
        assert find_images(str(photos / name))[:2] == (photos, [Path(name)])
    with pytest.raises(RequestError, match=r"notes\.txt: no image, by its suffix and its first"):
        find_images(str(photos / "notes.txt"))


def test_patterns(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_images(f"{photos}/a[0-9].png")[:2] == (photos, [Path("a1.png")])
    assert find_images(f"{photos}/*.png")[1] == [Path(n) for n in ("a1.png", "a[1].png", "ä b.png")]
    assert find_images(f"{photos}/**/*.tif?")[1] == [Path("sub/c.tiff")]
    assert find_images(f"{photos}/s*/*")[:2] == (photos, [Path("sub/c.tiff")])
    monkeypatch.chdir(photos)
    assert find_images("?.JPG")[:2] == (Path(), [Path("b.JPG")])


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ("{}/" + 300 * "x", "File name too long"),
        ("{}/*.txt", r"no image below .* first bytes\. Other files: 1 \.txt\."),
        ("{}/gone.png", r"input=.*gone\.png: no such file or folder, looked for .*Fotos"),
        ("{}/*.webp", r"no image below .*Fotos \[alt\] matches this pattern; looked for .avif"),
        ("{}/.hidden/../folder.png", r"no image in .*folder\.png or below it"),
        ("gone/*.png", "no image below"),
        (" ", "input is empty"),
    ],
)
def test_nothing_found_says_what_was_looked_for(photos: Path, request_: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        find_images(request_.format(photos))
