"""Read label files: what each stores for a pixel, and as what a viewer shows it.

H, W: height and width of a label file in pixels.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    tiff_tags,
    undecodable,
    undecoded_samples,
)
from danet_lightning.data.files.images import decode

LOSSLESS = ("PNG", "BMP", "GIF", "TIFF", "PPM", "TGA")
LOSSY_TIFF = (6, 7, 34676, 34677, 34887, 50001)  # JPEG twice, SGI LogLuv twice, LERC, WebP
GREY_MODES = ("1", "L", "LA", "I;16", "I;16B", "I", "F")
COLOR_MODES = ("RGB", "RGBA", "PA")  # what lies under transparency counts, as in images
WHOLE = (
    "Save it with 8 bits: gdal_translate -ot Byte IN OUT. That turns numbers below 0 and NaN into "
    "0; into 255, which is ignored, they are turned by gdal_calc.py -A IN --outfile=OUT "
    '--type=Byte --calc="where(A>=0,A,255)"'
)


@dataclass(frozen=True)
class LabelFile:
    """What a label file holds.

    Attributes:
        values: (H, W) what is stored for each pixel: a grey value, the index of a palette, or, in
            a file of colors, the color as 0xRRGGBB.
        mode: Pillow's name for this.
        shown: (n, 3) the color that each stored value below n is shown as, where it is another
            one than the grey of that value.
    """

    values: NDArray[Any]
    mode: str = "L"
    shown: NDArray[np.uint8] | None = None


def read_label(path: Path) -> LabelFile:
    """Read a label file, as it is stored: an orientation is not applied.

    Raises:
        RequestError: It is missing, damaged, of a lossy format or of several pages, or its numbers
            are no ids.
    """
    try:
        with path.open("rb") as file, Image.open(file) as image:
            _refuse_lossy(path, image)
            refuse_pages(path, image)
            refuse_misread_bitmap(path, image)
            bits = sample_bits(image)
            _refuse_scaled(path, image, bits)
            kind = odd_samples(image)
            stored = decode(image)  # everything, so a truncated file is found here
    except DataError:
        raise
    except Exception as error:  # a damaged file makes decoders fail in every possible way
        samples = undecoded_samples(path) if isinstance(error, UnidentifiedImageError) else ""
        if samples:
            text = f"{path} holds {samples} numbers, and ids are whole ones from 0 to 65535."
            raise DataError(text, "illegal_label", WHOLE, [path]) from error
        raise undecodable(path, error) from error
    if stored.mode in COLOR_MODES:
        colors = stored.convert("RGBA") if stored.mode == "PA" else stored
        red, green, blue, *_ = np.moveaxis(np.asarray(colors).astype(np.int32), -1, 0)
        return LabelFile(red << 16 | green << 8 | blue, stored.mode)
    if stored.mode == "P":
        palette = np.array(stored.getpalette(), np.uint8).reshape(-1, 3)
        return LabelFile(np.asarray(stored), "P", palette)
    if stored.mode not in GREY_MODES:
        raise colors_instead_of_ids(path, stored.mode)
    return _grey(path, stored, kind, bits)


def colors_instead_of_ids(path: Path, mode: str) -> DataError:
    """Build the error about a label file that is of colors or has an alpha channel."""
    return DataError(
        f"{path}: a label file holds one class index for each pixel, and this is an image of "
        f"{Image.getmodebands(mode)} channels ({mode}).",
        "color_mask",
        "Convert its colors to class indices and save them as an 8-bit grey or palette PNG.",
        [path],
    )


def ids_of_numbers(path: Path, what: str, numbers: NDArray[Any], remedy: str) -> NDArray[np.uint16]:
    """Convert the numbers of a label map to ids.

    Args:
        path: The file.
        what: What holds the numbers, for the message.
        numbers: (H, W) of any type.
        remedy: What to do about numbers that are no ids.

    Raises:
        RequestError: One of them is negative, above 65535, NaN or not whole; names it.
    """
    # Not by astype: it makes 0 of NaN, and a table gives at -1 what it has at 0 or at its end.
    legal = (numbers >= 0) & (numbers < 2**16)
    if numbers.dtype.kind == "f":
        legal &= numbers == np.floor(numbers)
    if not legal.all():
        illegal = np.unique(numbers[~legal])
        shown = ", ".join(f"{value:.6g}" for value in illegal[:8]) + ", ..." * (len(illegal) > 8)
        raise DataError(
            f"{path}: {what} holds numbers that are no ids: {shown} ({(~legal).sum()} pixels); ids "
            "are whole, from 0 to 65535.",
            "illegal_label",
            remedy,
            [path],
        )
    return numbers.astype(np.uint16)


def _grey(path: Path, image: Image.Image, samples: str, bits: int) -> LabelFile:
    """Turn an image of one channel into what its file stores.

    Args:
        path: Its file.
        image: The decoded image.
        samples: What its samples are, as `odd_samples` says.
        bits: The bits of one sample in the file.

    Raises:
        RequestError: Its numbers are no ids.
    """
    values: NDArray[Any] = np.asarray(image.getchannel("L") if image.mode == "LA" else image)
    if samples == "signed 8-bit":  # Pillow knows no such mode
        values = values.view(np.int8)
    elif samples == "unsigned 32-bit":
        values = values.view(np.uint32)
    elif "floating" in samples or image.mode == "F":
        bad = values[~((values >= 0) & (values == np.floor(values)))]
        example = f" such as {bad[0]:.6g}" if bad.size else ""
        text = f"{path} holds floating point 32-bit numbers{example}, and ids are whole ones."
        raise DataError(text, "illegal_label", WHOLE, [path])
    if values.dtype not in (np.uint8, np.bool_):
        values = ids_of_numbers(path, f"the {samples or '16-bit'} file", values, WHOLE)
        values = values.astype(np.uint8) if values.max(initial=0) < 256 else values
    if bits >= 8:
        return LabelFile(values, image.mode)
    step = 255 // (2**bits - 1)  # Pillow gives the greys that are shown, but of 1 bit the bit
    shown = np.repeat(np.arange(0, 256, step, dtype=np.uint8)[:, None], 3, axis=1)
    values = values.astype(np.uint8) if bits == 1 else values // step
    return LabelFile(values, image.mode, shown)


def _refuse_lossy(path: Path, image: Image.Image) -> None:
    """Refuse a label file of a format that does not keep every number."""
    kind = str(image.format)
    compression = tiff_tags(image).get(259, 1)
    if kind in LOSSLESS and compression not in LOSSY_TIFF:
        return
    if kind == "WEBP":
        with path.open("rb") as file:
            if file.read(16)[12:] == b"VP8L":
                return
    lossy = "TIFF file that is compressed with loss" if kind == "TIFF" else f"{kind} file"
    raise DataError(
        f"{path} cannot be read as labels: it is a {lossy}, and loss invents labels along every "
        "edge.",
        "lossy_label",
        "Export the labels again, as PNG; what was lost does not come back by converting them.",
        [path],
    )


def _refuse_scaled(path: Path, image: Any, bits: int) -> None:
    """Refuse a file whose numbers Pillow changes while it reads them."""
    white = 255
    if image.format == "PPM":
        decoder, _, _, arguments = image.tile[0]
        is_scaled = decoder != "raw" and not isinstance(arguments, str)
        white = arguments[-1] if is_scaled else 255
    if is_white_zero(image) and bits > 1:
        fact = "counts its greys down from white (WhiteIsZero)"
    elif white not in (255, 65535):
        fact = f"says that {white} is white, and is shown with stretched greys"
    elif image.mode in COLOR_MODES and bits == 16:
        fact = "has colors of 16 bits, of which 8 would be dropped"
    else:
        return
    remedy = "Save the labels as an 8-bit PNG."
    raise DataError(f"{path} {fact}.", "illegal_label", remedy, [path])
