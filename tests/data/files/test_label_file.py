"""Labels are what a person sees in a file, or the file is refused."""

import zlib
from pathlib import Path

import numpy as np
import pytest
from fake_trees import write_tiff
from PIL import Image

from danet_lightning.data.files.images import read_image
from danet_lightning.data.files.source import FileSource
from danet_lightning.errors import RequestError

IDS = np.tile(np.array([0, 1, 2, 3, 4], np.uint8), (4, 2))  # (4, 10)
BINARY = np.minimum(IDS, 1)


def masked(path: Path, classes: int = 5, ignore: int | None = 255, colors=None, ids=None):
    """The train ids of a label file, or the text of its refusal."""
    train_ids = {raw: number for number, raw in enumerate(ids or range(classes))}
    train_ids |= {} if ignore is None else {ignore: 255}
    files = [("a", path, path)]
    known = None
    if colors is not None:
        known = {tuple(color): number for number, color in enumerate(colors)}
    source = FileSource(files, train_ids, known)
    try:
        return source.read_mask(0).tolist()
    except RequestError as error:
        return str(error) if str(path) in error.fact and error.remedy else repr(error)


def write_palette(path: Path, indices: np.ndarray, greys, **options) -> Path:
    image = Image.fromarray(indices.astype(np.uint8))
    image.putpalette([part for grey in greys for part in np.broadcast_to(grey, 3).tolist()])
    image.save(path, **options)
    return path


def write_png(path: Path, rows: np.ndarray, bits: int) -> Path:
    """A grey PNG of 1, 2 or 4 bits, as optimizers write it."""
    packed = b""
    for row in rows:
        text = "".join(f"{value:0{bits}b}" for value in row)
        text += "0" * (-len(text) % 8)
        packed += b"\0" + int(text, 2).to_bytes(len(text) // 8)
    height, width = rows.shape
    head = width.to_bytes(4) + height.to_bytes(4) + bytes([bits, 0, 0, 0, 0])
    content = b"\x89PNG\r\n\x1a\n"
    for name, part in ((b"IHDR", head), (b"IDAT", zlib.compress(packed)), (b"IEND", b"")):
        content += len(part).to_bytes(4) + name + part + zlib.crc32(name + part).to_bytes(4)
    path.write_bytes(content)
    return path


# ---- palettes


def test_an_index_has_one_color_in_all_files(tmp_path: Path) -> None:
    """An optimizer numbers colors anew in each file; unused and ignored indices may be anything."""
    ids = np.array([[0, 1, 255]])
    black, red, green, white = (0, 0, 0), (200, 0, 0), (0, 200, 0), (255, 255, 255)
    rest = [white] * 253
    write_palette(tmp_path / "first.png", ids, [black, red, green, *rest])
    write_palette(tmp_path / "same.png", ids, [black, red, white, *rest[1:], black])
    write_palette(tmp_path / "other.png", ids, [black, green, red, *rest])
    files = [
        (name, path, path)
        for name in ("first", "same", "other")
        for path in [tmp_path / f"{name}.png"]
    ]
    source = FileSource(files, {0: 0, 1: 1, 2: 2, 255: 255})
    assert source.read_mask(0).tolist() == source.read_mask(1).tolist() == ids.tolist()
    with pytest.raises(
        RequestError, match=r"other\.png: index 1 .* \[0, 200, 0\], and \[200, 0, 0\]"
    ):
        source.read_mask(2)


@pytest.mark.parametrize("greys", [[0, 4, 3, 2, 1], [4, 3, 2, 1, 0], [2, 0, 1, 4, 3]])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".gif", ".bmp"])
def test_a_grey_palette_in_another_order_is_read_as_it_is_shown(tmp_path, greys, suffix):
    path = write_palette(tmp_path / f"a{suffix}", np.argsort(greys)[IDS], greys)
    with Image.open(path) as image:
        assert np.array_equal(np.asarray(image.convert("L")), IDS)
    assert masked(path) == IDS.tolist()


def test_a_grey_palette_that_leaves_out_ids_is_read_as_it_is_shown(tmp_path):
    shown = np.array([[4, 2], [255, 2]], np.uint8)
    path = write_palette(tmp_path / "a.png", np.array([[0, 2], [1, 2]]), [4, 255, 2])
    assert masked(path) == shown.tolist()
    path = write_palette(tmp_path / "constant.png", np.zeros((2, 2)), [3])
    assert masked(path) == [[3, 3], [3, 3]]


@pytest.mark.parametrize("greys", [range(256), range(5), [*range(5), 0, 0, 0]])
def test_a_grey_palette_in_order_holds_ids(tmp_path, greys):
    assert masked(write_palette(tmp_path / "a.png", IDS, greys)) == IDS.tolist()


@pytest.mark.parametrize(
    "colors",
    [
        [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128)],  # VOC's
        [(128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (0, 0, 192)],  # CamVid's
        [(4, 4, 4), (3, 3, 3), (2, 2, 2), (1, 1, 1), (0, 0, 1)],
    ],
)
def test_a_palette_of_colors_names_classes_by_its_indices(tmp_path, colors):
    assert masked(write_palette(tmp_path / "a.png", IDS, colors)) == IDS.tolist()
    path = write_palette(tmp_path / "grey ones.png", BINARY * 3, colors)
    assert masked(path) == (BINARY * 3).tolist()
    path = write_palette(tmp_path / "clear.png", IDS, colors, transparency=b"\x00\xff\x80")
    assert masked(path) == IDS.tolist()


def test_greys_that_are_no_ids_or_tell_none_are_refused(tmp_path):
    stretched = write_palette(tmp_path / "stretched.png", np.minimum(IDS, 2), [0, 127, 254])
    assert "label 127, 254 (32 pixels, as shown by its palette)" in masked(stretched)
    assert masked(stretched, ids=[0, 127, 254]) == np.minimum(IDS, 2).tolist()
    twice = write_palette(tmp_path / "twice.png", IDS, [0, 1, 1, 3, 4])
    assert "indices 1 and 2 of the palette are the same grey" in masked(twice)
    black = write_palette(tmp_path / "black.tif", IDS, [0] * 256)
    assert "indices 0 and 1 of the palette are the same grey" in masked(black)


def test_a_whole_grey_palette_is_read_by_what_is_legal(tmp_path):
    """All 256 greys upside down: stored ids that are shown dark on white, or the other way."""
    down = range(255, -1, -1)
    stored = write_palette(tmp_path / "stored.png", IDS, down)
    assert masked(stored) == IDS.tolist()
    shown = write_palette(tmp_path / "shown.png", 255 - IDS, down)
    assert masked(shown) == IDS.tolist()
    both = write_palette(tmp_path / "both.png", BINARY * 255, down)
    assert "0 as stored, which is class 0, counted from 0 or 255 as shown" in masked(both)


# ---- few bits


@pytest.mark.parametrize("kind", ["1 bit", "palette", "white first"])
def test_black_and_white_is_refused_where_white_may_be_1_or_255(tmp_path, kind):
    path = tmp_path / "a.png"
    if kind == "1 bit":
        Image.fromarray(BINARY.astype(bool)).save(path)
    elif kind == "palette":
        write_palette(path, BINARY, [0, 255])
    else:
        write_palette(path, 1 - BINARY, [255, 0])
    told = masked(path)
    assert "can be read in two ways: 32 pixels are 1 as" in told
    assert "or 255 as shown, which is ignored" in told
    assert masked(path, ignore=None) == BINARY.tolist()
    assert masked(path, ids=[0, 255], ignore=None) == BINARY.tolist()
    assert masked(path, ids=[255, 0], ignore=None) == (1 - BINARY).tolist()


def test_black_alone_is_black(tmp_path):
    Image.new("1", (3, 2)).save(tmp_path / "a.png")
    assert masked(tmp_path / "a.png") == [[0, 0, 0]] * 2


@pytest.mark.parametrize(("bits", "step"), [(2, 85), (4, 17)])
def test_2_and_4_bits_are_read_by_what_is_legal(tmp_path, bits, step):
    path = write_png(tmp_path / "a.png", np.minimum(IDS, 3), bits)
    assert masked(path) == np.minimum(IDS, 3).tolist()
    shown = [0, step, 2 * step, 3 * step]
    assert masked(path, ids=shown, ignore=None) == np.minimum(IDS, 3).tolist()
    white = write_png(tmp_path / "white.png", BINARY * (2**bits - 1), bits)
    assert "as stored" in masked(white, classes=16)
    assert masked(white, classes=16, ignore=None) == (BINARY * (2**bits - 1)).tolist()


# ---- a table of colors


BLACK, GREY, WHITE, RED = (0, 0, 0), (100, 100, 100), (255, 255, 255), (255, 0, 0)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "PA", "P"])
def test_colors_are_read_from_files_without_hue(tmp_path, mode):
    """As editors and optimizers store masks in which only black, grey and white occur."""
    places = np.minimum(IDS, 2)
    greys = Image.fromarray(np.array([0, 100, 255], np.uint8)[places])
    image = greys.convert("LA" if mode == "PA" else mode).convert(mode)
    image.save(tmp_path / "a.tif")
    colors, expected = [WHITE, RED, BLACK, GREY], np.array([2, 3, 0])[places].tolist()
    assert masked(tmp_path / "a.tif", colors=colors) == expected


def test_greys_that_are_ids_and_colors_are_refused_where_the_two_differ(tmp_path):
    Image.fromarray(BINARY * 255).save(tmp_path / "a.png")
    told = masked(tmp_path / "a.png", classes=2, colors=[BLACK, WHITE])
    assert "255 as stored, which is ignored or [255,255,255] as a color, which is class 1" in told
    assert "dataset.ignore=null" in told
    kept = masked(tmp_path / "a.png", classes=2, ignore=None, colors=[BLACK, WHITE])
    assert kept == BINARY.tolist()
    Image.new("L", (2, 2)).save(tmp_path / "black.png")
    assert "[0,0,0] as a color" in masked(tmp_path / "black.png", colors=[RED, BLACK])
    assert masked(tmp_path / "black.png", colors=[BLACK, RED]) == [[0, 0]] * 2
    Image.fromarray(IDS).save(tmp_path / "ids.png")
    assert masked(tmp_path / "ids.png", colors=[RED, BLACK]) == IDS.tolist()


def test_1_bit_of_a_table_of_colors(tmp_path):
    Image.fromarray(BINARY.astype(bool)).save(tmp_path / "a.png")
    assert masked(tmp_path / "a.png", colors=[BLACK, WHITE]) == BINARY.tolist()
    told = masked(tmp_path / "a.png", colors=[BLACK, RED, WHITE])
    assert "1 as stored, which is class 1" in told
    assert "[255,255,255] as a color, which is class 2" in told


def test_a_palette_whose_indices_are_no_ids_is_read_by_its_colors(tmp_path):
    path = write_palette(tmp_path / "a.png", BINARY + 10, [*[(9, 9, 8)] * 10, RED, GREY])
    assert masked(path, classes=2, colors=[GREY, RED]) == (1 - BINARY).tolist()
    assert "label 10, 11" in masked(path, classes=2, colors=[GREY, BLACK])


# ---- numbers


@pytest.mark.parametrize(
    ("kind", "bad", "told"),
    [
        ("int8", -1, "signed 8-bit file holds numbers that are no ids: -1 (8 pixels)"),
        ("int16", -9999, "signed 16-bit file holds numbers that are no ids: -9999 (8 pixels)"),
        ("int32", -1, "signed 32-bit file holds numbers that are no ids: -1 (8 pixels)"),
        ("int32", 70000, "no ids: 70000"),
        ("uint32", 2**32 - 1, "no ids: 4.29497e+09"),
        ("float32", 1.5, "floating point 32-bit numbers such as 1.5"),
        ("float32", np.nan, "floating point 32-bit numbers such as nan"),
        ("float32", -9999, "floating point 32-bit numbers such as -9999"),
        ("float32", 3, "floating point 32-bit numbers, and ids are whole ones"),
        ("float64", 3, "floating point 64-bit numbers"),
        ("float16", 3, "floating point 16-bit numbers"),
        ("int64", 3, "signed 64-bit numbers"),
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_numbers_that_are_no_ids_are_named(tmp_path, kind, bad, told, order):
    numbers = IDS.astype(kind)
    numbers[IDS == 4] = bad
    order = "<" if kind == "uint32" else order  # Pillow does not open the other
    text = masked(write_tiff(tmp_path / "a.tif", numbers, order=order))
    assert told in text
    assert "gdal_translate -ot Byte" in text


@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16", "int16", "int32"])
def test_whole_numbers_of_any_type_are_ids(tmp_path, kind):
    assert masked(write_tiff(tmp_path / "a.tif", IDS.astype(kind))) == IDS.tolist()


def test_a_legal_id_is_not_taken_for_an_ignored_color(tmp_path):
    Image.fromarray(np.full((2, 2), 65535, np.uint16)).save(tmp_path / "a.png")
    assert "label 65535" in masked(tmp_path / "a.png", colors=[RED, GREY])


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
def test_greys_counted_from_white_are_refused(tmp_path, kind):
    path = write_tiff(tmp_path / "a.tif", np.zeros((2, 2), kind), photometric=0)
    assert "WhiteIsZero" in masked(path)


@pytest.mark.parametrize("header", [b"P5 10 4 4\n", b"P5 10 4 300\n"])
def test_a_graymap_that_is_shown_stretched_is_refused(tmp_path, header):
    size = 1 if b" 4\n" in header[-3:] else 2
    (tmp_path / "a.pgm").write_bytes(header + IDS.astype(f">u{size}").tobytes())
    assert "is white, and is shown with stretched greys" in masked(tmp_path / "a.pgm")
    (tmp_path / "a.pgm").write_bytes(b"P5 10 4 255\n" + IDS.tobytes())
    assert masked(tmp_path / "a.pgm") == IDS.tolist()


# ---- formats


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.jpg", {}),
        ("a.JFIF", {"format": "JPEG"}),
        ("a.png", {"format": "JPEG"}),
        ("a.webp", {}),
        ("a.jp2", {}),
        ("a.avif", {}),
        ("a.tif", {"compression": "jpeg"}),
    ],
)
def test_a_format_with_loss_is_refused_whatever_its_name(tmp_path, name, options):
    Image.fromarray(np.repeat(IDS[..., None], 3, axis=2)).save(tmp_path / name, **options)
    assert "loss invents labels along every edge" in masked(tmp_path / name)
    assert "loss invents" in masked(tmp_path / name, colors=[(k, k, k) for k in range(5)])


@pytest.mark.parametrize("name", ["a.webp", "a.tif", "a.png", "a.bmp", "a.tga"])
def test_formats_without_loss_keep_the_colors(tmp_path, name):
    options = {"a.webp": {"lossless": True}, "a.tif": {"compression": "tiff_lzw"}}.get(name, {})
    colors = [RED, GREY, WHITE, BLACK, (1, 2, 3)]
    Image.fromarray(np.array(colors, np.uint8)[IDS]).save(tmp_path / name, **options)
    assert masked(tmp_path / name, colors=colors) == IDS.tolist()


@pytest.mark.parametrize("count", [2, 3, 256])
def test_a_bitmap_whose_bits_pillow_takes_for_others_is_refused(tmp_path, count):
    greys = [0, 255] if count == 2 else [*range(count)]
    path = write_palette(tmp_path / "a.bmp", BINARY, greys)
    # Pillow itself may write all 256 entries of a palette; other writers count those there are.
    with Image.open(path) as image:
        is_misread = image.mode == "1"
    answer = masked(path, 2, None)
    assert is_misread == (count == 2)
    if is_misread:
        assert "BMP of 8 bits" in answer
        with pytest.raises(RequestError, match="BMP of 8 bits"):
            read_image(path)
    else:
        assert answer == BINARY.tolist()


def test_pages_are_refused_and_smaller_copies_are_not_pages(tmp_path):
    path = write_tiff(tmp_path / "a.tif", IDS, IDS[::2, ::2], subfiles=(0, 1))
    assert masked(path) == IDS.tolist()
    assert "holds 2 pages" in masked(write_tiff(tmp_path / "stack.tif", IDS, IDS))
    first, second = Image.fromarray(IDS), Image.fromarray(4 - IDS)
    for suffix in (".gif", ".png", ".tif"):
        path = tmp_path / f"moving{suffix}"
        first.save(path, save_all=True, append_images=[second])
        assert "holds 2 pages" in masked(path)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB"])
def test_colors_of_another_kind_than_rgb_are_refused(tmp_path, mode):
    Image.new(mode, (2, 2)).save(tmp_path / "a.tif")
    for colors in (None, [BLACK, WHITE]):
        assert f"channels ({mode})" in masked(tmp_path / "a.tif", colors=colors)


def test_an_image_of_too_many_pixels_is_told_with_its_size(tmp_path, monkeypatch):
    Image.fromarray(IDS).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    text = masked(tmp_path / "a.png")
    assert "million pixels, and up to" in text
    assert "gdal_retile" in text
    assert "damaged" not in text
