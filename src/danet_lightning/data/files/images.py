"""Tell images by their files, and read any that people have as 8-bit RGB."""

import re
import stat
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from danet_lightning.data.base import DataError
from danet_lightning.data.files.image_storage import (
    is_white_zero,
    odd_samples,
    refuse_misread_bitmap,
    refuse_pages,
    sample_bits,
    undecodable,
    unreadable,
    without_white,
)

SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm"),
    *(".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
)
# Pillow would take the small preview in them for the picture.
CAMERA_RAW = (
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".iiq", ".kdc"),
    *(".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl"),
    *(".sr2", ".srf", ".srw", ".x3f"),
)
OTHER_FORMATS = (
    *(".dcm", ".dds", ".eps", ".exr", ".hdr", ".heic", ".heics", ".heif", ".hif", ".icns", ".ico"),
    *(".jxl", ".jxr", ".pcx", ".psb", ".psd", ".qoi", ".sgi", ".svg", ".wdp", ".xcf"),
)
HEAD = 32  # bytes that tell a format
READ_HEAD = re.compile(
    rb"\xff\xd8\xff|\x89PNG|GIF8[79]a|RIFF....WEBP|BM....\0\0\0\0|II[*+]\0|MM\0[*+]"
    rb"|P[1-6]\s+(#|\d)|....ftypavi[fs]|\0\0\0\x0cjP  |\xff\x4f\xff\x51",
    re.DOTALL,
)
OTHER_HEAD = re.compile(
    rb"....ftyp(hei[cfmsx]|hev[cmsx]|mif1|msf1|crx )|II\*\0....CR|IIR[OS]|IIU\0|FUJIFILMCCD"
    rb"|\0\0\0\x0cJXL |8BPS|v/1\x01|#\?RADIANCE",
    re.DOTALL,
)
TAGS = 2**17  # bytes at the beginning and the end of a PNG that may hold an EXIF tag
DNG_VERSION = 50706  # the TIFF tag that makes a DNG of it
ORIENTATION = 0x0112  # EXIF's tag; 1 is upright, 2 to 8 are turned or mirrored
TURN = Image.Transpose
UPRIGHT = {
    **{2: TURN.FLIP_LEFT_RIGHT, 3: TURN.ROTATE_180, 4: TURN.FLIP_TOP_BOTTOM, 5: TURN.TRANSPOSE},
    **{6: TURN.ROTATE_270, 7: TURN.TRANSVERSE, 8: TURN.ROTATE_90},
}
BACK = UPRIGHT | {6: UPRIGHT[8], 8: UPRIGHT[6]}


def read_image(path: str | Path, upright: bool = True) -> NDArray[np.uint8]:
    """Read one image as 8-bit RGB.

    16-bit samples keep their high byte. An alpha channel is dropped and the colors stored under it
    are kept: training sees the same ones, and what cameras and simulators write there need not
    mean transparency.

    Args:
        path: Any file that Pillow reads.
        upright: Whether the EXIF orientation is applied, as a viewer does. Pixels that have labels
            are read as they are stored, like the labels.

    Returns:
        (H, W, 3) RGB.

    Raises:
        RequestError: The file cannot be read, or does not say which picture is meant: several
            pages or frames, signed or floating point samples, 12 bits in 16.
    """
    path = Path(path)
    try:
        if path.suffix.lower() in CAMERA_RAW:
            raise _not_read(path, "a camera's raw file")
        kind = path.stat().st_mode
        if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):  # opening a pipe might wait for ever
            raise unreadable(path, "it is no regular file.")
        # Given a path, Pillow maps a rotated TIFF into memory with width and height exchanged.
        with path.open("rb") as file, Image.open(file) as image:
            if image.format == "TIFF" and DNG_VERSION in image.tag_v2:  # type: ignore[attr-defined]
                raise _not_read(path, "a camera's raw file")
            refuse_pages(path, image)
            refuse_misread_bitmap(path, image)
            samples, bits = odd_samples(image), sample_bits(image)
            if samples:
                raise without_white(path, samples)
            stored = decode(image, upright)
            rgb = _eight_bit_rgb(path, stored, image.format)
            if bits == 16:
                _refuse_dark(path, stored, rgb)
                is_inverted = stored.mode.startswith("I;16") and is_white_zero(image)
                return 255 - rgb if is_inverted else rgb
            return rgb
    except DataError:
        raise
    # Pillow's decoders raise whatever a damaged file makes their parsers stumble over.
    except Exception as error:
        if isinstance(error, UnidentifiedImageError):
            if path.suffix.lower() in OTHER_FORMATS:
                raise _not_read(path, path.suffix[1:].upper()) from error
            if OTHER_HEAD.match(_head(path)):
                raise _not_read(path, "of another format, such as HEIC") from error
        raise undecodable(path, error) from error


def decode(image: Image.Image, upright: bool = False) -> Image.Image:
    """Decode an image that Pillow has opened: as it is stored, or as a viewer shows it.

    Pillow turns a TIFF by its orientation while it decodes it, and no other format.
    """
    orientation = _orientation(image)
    image.load()
    if upright == (image.format == "TIFF") or orientation == 1:
        return image
    return image.transpose((UPRIGHT if upright else BACK)[orientation])


def orientation(path: Path) -> int:
    """Return the EXIF orientation by which a viewer turns an image; 1 if by none."""
    try:
        with path.open("rb") as file:
            if file.read(4) == b"\x89PNG":  # without the tag, a PNG would be decoded to the end
                file.seek(0)
                head = file.read(TAGS)
                file.seek(max(0, path.stat().st_size - TAGS))
                ends = head + file.read(TAGS)
                if not any(tag in ends for tag in (b"eXIf", b"type exif", b"XML:com.adobe.xmp")):
                    return 1
            file.seek(0)
            with Image.open(file) as image:
                return _orientation(image)
    except Exception:  # reading the pixels says what is wrong
        return 1


def _orientation(image: Image.Image) -> int:
    try:
        stated = image.getexif().get(ORIENTATION)
    except Exception:  # a damaged tag turns nothing
        return 1
    return stated if stated in UPRIGHT else 1


def _refuse_dark(path: Path, image: Image.Image, rgb: NDArray[np.uint8]) -> None:
    """Refuse 16-bit samples that use 12 bits or less, and would become almost black."""
    if rgb.max() >= 16 or (image.mode.startswith("I") and not np.asarray(image).any()):
        return  # a grey image that is all black is black in whatever bits
    raise DataError(
        f"{path} has 16-bit samples that all stay below 4096, as those of 12 bits do: it would be "
        "almost black.",
        "unreadable",
        "Save it with 8 bits: gdal_translate -ot Byte -scale 0 4095 0 255 IN OUT",
        [path],
    )


def _eight_bit_rgb(path: Path, image: Image.Image, file_format: str | None) -> NDArray[np.uint8]:
    # Mode I holds 32 bits; from PNG (older Pillows) and PPM (rescaled by Pillow) they are 16.
    if image.mode.startswith("I;16") or (image.mode == "I" and file_format in ("PNG", "PPM")):
        # The high byte, as Pillow itself does for 16-bit RGB; its convert("L") would clip.
        grey = (np.asarray(image).astype(np.int32) >> 8).astype(np.uint8)  # (H, W)
        return np.stack([grey] * 3, axis=-1)  # (H, W, 3)
    if image.mode in ("I", "F"):
        raise without_white(path, "floating point 32-bit" if image.mode == "F" else "32-bit")
    if image.mode in ("P", "PA", "RGBa"):  # transparent palette entries, premultiplied colors
        image = image.convert("RGBA")
    image.load()  # numpy might take a damaged image for an object without pixels
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))  # convert copies


def _not_read(path: Path, kind: str) -> DataError:
    return unreadable(path, f"it is {kind}, which is not read; save it as JPEG or PNG", remedy="")


def looks(path: Path) -> Literal["read", "not read", "other"]:
    """Tell by its suffix, or else its first bytes, whether a file is an image, and is read."""
    suffix = path.suffix.lower()
    if suffix in CAMERA_RAW:
        return "not read"
    if suffix in SUFFIXES:
        return "read"
    head = _head(path)
    if READ_HEAD.match(head) and not OTHER_HEAD.match(head):
        return "read"
    return "not read" if OTHER_HEAD.match(head) or suffix in OTHER_FORMATS else "other"


def _head(path: Path) -> bytes:
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(HEAD)
    except OSError:
        return b""
