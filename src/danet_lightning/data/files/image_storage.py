"""Tell how an image file stores its samples, and refuse files that no one can read rightly."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from danet_lightning.data.base import DataError

SUBFILE, BITS, PHOTOMETRIC, SAMPLE_FORMAT = 254, 258, 262, 339  # tags of a TIFF
REMEDY = "Copy the file again if it is damaged, remove it if it is no image."
SAMPLE_KINDS = {2: "signed", 3: "floating point", 5: "complex", 6: "complex"}


def unreadable(path: Path, reason: str, remedy: str = REMEDY) -> DataError:
    """Build the error that says why a file cannot be read as an image."""
    text = f"{path} cannot be read as an image: {reason}"
    return DataError(text, "unreadable", remedy, [path])


def without_white(path: Path, samples: str) -> DataError:
    """Build the error that says that samples of a kind cannot become 8-bit RGB."""
    remedy = "Save it with 8 bits: gdal_translate -ot Byte -scale LOWEST HIGHEST 0 255 IN OUT"
    return unreadable(path, f"its {samples} samples have no fixed white.", remedy)


def undecodable(path: Path, error: Exception) -> DataError:
    """Build the error that says why Pillow could not decode a file."""
    if isinstance(error, Image.DecompressionBombError):
        pixels, most = (int(number) / 1e6 for number in re.findall(r"\d+", str(error))[:2])
        remedy = (
            "Cut image and label alike into tiles: gdal_retile.py -ps 2048 2048 -targetDir TILES IN"
        )
        reason = f"it has {pixels:.0f} million pixels, and up to {most:.0f} million are read."
        return unreadable(path, reason, remedy)
    if isinstance(error, UnidentifiedImageError):
        samples = undecoded_samples(path)
        if samples:
            return without_white(path, samples)
        return unreadable(
            path, "it is damaged from its first bytes on, or of no format known to Pillow."
        )
    if isinstance(error, OSError) and error.strerror:
        return unreadable(path, f"{error.strerror}.")
    return unreadable(path, f"{str(error) or type(error).__name__}.")


def refuse_pages(path: Path, image: Image.Image) -> None:
    """Refuse a file of several pictures: no one can tell which of them is meant.

    The smaller copies and transparency masks in a TIFF, and the previews in a camera's JPEG, are
    no pages of their own.

    Raises:
        RequestError: There is more than one.
    """
    count = 1 if image.format in ("JPEG", "MPO") else getattr(image, "n_frames", 1)
    if count > 1 and image.format == "TIFF":
        kinds = []
        for page in range(count):
            image.seek(page)
            kinds.append(tiff_tags(image).get(SUBFILE, 0))
        image.seek(0)
        count = sum(not kind & 5 for kind in kinds)  # 1: a smaller copy, 4: transparency
    if count > 1:
        raise DataError(
            f"{path} holds {count} pages or frames, and one picture is read from a file.",
            "unreadable",
            "Save each as a file of its own: magick IN page-%d.png",
            [path],
        )


def refuse_misread_bitmap(path: Path, image: Image.Image) -> None:
    """Refuse a BMP of fewer greys than its bits have room for: Pillow then decodes other bits.

    It takes a palette of black and white alone for 1 bit a pixel, and one of the first greys in
    order for 8, whatever the header says.

    Raises:
        RequestError: The header says otherwise.
    """
    bits_read = {"1": 1, "L": 8}.get(image.mode)
    if image.format != "BMP" or bits_read is None:
        return
    with path.open("rb") as file:
        head = file.read(30)
    place = 24 if head[14] == 12 else 28  # the header of OS/2 is the shorter one
    bits = int.from_bytes(head[place : place + 2], "little")
    if bits != bits_read:
        reason = (
            f"a BMP of {bits} bits whose palette is of few greys is taken for one of {bits_read}."
        )
        raise unreadable(path, reason, "Save it as PNG: magick IN OUT.png")


def tiff_tags(image: Image.Image) -> Mapping[int, Any]:
    """Return the tags of a TIFF's current page; of any other file none."""
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    return tags


def odd_samples(image: Image.Image) -> str:
    """Return what a TIFF's samples are, unless they are unsigned ones of at most 16 bits."""
    return _odd(tiff_tags(image))


def sample_bits(image: Image.Image) -> int:
    """Return the bits of one sample as the file stores it; to be asked before it is loaded.

    Pillow's mode does not tell: it stretches 2 and 4 bits to 8, and cuts 16-bit RGB to 8.
    """
    if image.format == "TIFF":
        return int(_first(tiff_tags(image).get(BITS), 1))
    if image.mode == "1":
        return 1
    tiles: Any = getattr(image, "tile", None)
    stored = tiles[0][3] if tiles else ""
    stored = str(stored[0] if isinstance(stored, tuple) and stored else stored)  # L;4, RGB;16B
    bits = re.match(r"(?!BGR)\w+;(\d+)", stored)  # not BGR;16: three colors in 16 bits, in a BMP
    return int(bits[1]) if bits else 8


def is_white_zero(image: Image.Image) -> bool:
    """Tell whether a TIFF counts from white, which Pillow turns round up to 8 bits only."""
    return tiff_tags(image).get(PHOTOMETRIC) == 0


def undecoded_samples(path: Path) -> str:
    """Return, as `odd_samples`, what a TIFF holds that Pillow does not open."""
    try:
        with path.open("rb") as file:
            head = file.read(8)
            head += file.read(8) if head[2] == 43 else b""  # BigTIFF
            tags = TiffImagePlugin.ImageFileDirectory_v2(head)
            file.seek(tags.next)
            tags.load(file)
            return _odd(tags)
    except Exception:  # no TIFF, or a damaged one: its tags tell nothing
        return ""


def _odd(tags: Mapping[int, Any]) -> str:
    bits, kind = (_first(tags.get(tag), 1) for tag in (BITS, SAMPLE_FORMAT))
    if kind in (1, 4) and bits <= 16:
        return ""
    return f"{SAMPLE_KINDS.get(kind, 'unsigned')} {bits}-bit"


def _first(value: Any, default: int) -> Any:
    """Return a tag's value, which counts for each channel or once for all."""
    return (value[0] if isinstance(value, tuple) else value) or default
