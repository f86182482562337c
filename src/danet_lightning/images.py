"""Images as people have them: finding the files, and reading any of them as 8-bit RGB."""

import glob
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from danet_lightning.errors import RequestError
from danet_lightning.image_storage import (
    is_white_zero,
    odd_samples,
    refuse_pages,
    sample_bits,
    unfixed_white,
    unreadable,
)

SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm"),
    *(".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
)


def read_image(path: str | Path, upright: bool = True) -> NDArray[np.uint8]:
    """Read one image as 8-bit RGB.

    16-bit samples keep their high byte. An alpha channel is
    dropped and the colours stored under it are kept: training sees the same ones, and what
    cameras and simulators write there need not mean transparency.

    Args:
        path: any file that Pillow reads.
        upright: apply the EXIF orientation, as a viewer does. Pixels that have labels are read as
            they are stored, like the labels.

    Returns:
        (H, W, 3) RGB.

    Raises:
        RequestError: the file cannot be read, or does not say which picture is meant: several
            pages or frames, signed or floating point samples, 12 bits in 16.
    """
    try:
        # Given a path, Pillow maps a rotated TIFF into memory with width and height exchanged.
        with Path(path).open("rb") as file, Image.open(file) as image:
            refuse_pages(path, image)
            samples, bits = odd_samples(image), sample_bits(image)
            if samples:
                raise unfixed_white(path, samples)
            stored = ImageOps.exif_transpose(image) if upright else image
            rgb = _eight_bit_rgb(path, stored, image.format)
            if bits == 16:
                _refuse_dark(path, stored, rgb)
                is_inverted = stored.mode.startswith("I;16") and is_white_zero(image)
                return 255 - rgb if is_inverted else rgb
            return rgb
    except RequestError:
        raise
    # Pillow's decoders raise whatever a damaged file makes their parsers stumble over.
    except Exception as error:
        raise unreadable(path, error) from error


def _refuse_dark(path: str | Path, image: Image.Image, rgb: NDArray[np.uint8]) -> None:
    """Refuse 16-bit samples that are those of 12 bits or less, which would be almost black."""
    if rgb.max() >= 16 or (image.mode.startswith("I") and not np.asarray(image).any()):
        return  # a grey image that is all black is black in whatever bits
    raise RequestError(
        f"{path} has 16-bit samples that all stay below 4096, as those of 12 bits do: it would be "
        "almost black.",
        "unreadable",
        "Save it with 8 bits: gdal_translate -ot Byte -scale 0 4095 0 255 IN OUT",
        [Path(path)],
    )


def _eight_bit_rgb(
    path: str | Path, image: Image.Image, file_format: str | None
) -> NDArray[np.uint8]:
    # Mode I holds 32 bits; from PNG (older Pillows) and PPM (rescaled by Pillow) they are 16.
    if image.mode.startswith("I;16") or (image.mode == "I" and file_format in ("PNG", "PPM")):
        # The high byte, as Pillow itself does for 16-bit RGB; its convert("L") would clip.
        grey = (np.asarray(image).astype(np.int32) >> 8).astype(np.uint8)  # (H, W)
        return np.stack([grey] * 3, axis=-1)  # (H, W, 3)
    if image.mode in ("I", "F"):
        raise unfixed_white(path, "floating point 32-bit" if image.mode == "F" else "32-bit")
    if image.mode in ("P", "PA", "RGBa"):  # transparent palette entries, premultiplied colours
        image = image.convert("RGBA")
    image.load()  # numpy might take a damaged image for an object without pixels
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))  # convert copies


def find_images(request: str) -> tuple[Path, list[Path]]:
    """Find the images a person means.

    Args:
        request: an image, a folder (searched with its sub-folders), or a glob pattern, in which
            `**` stands for any sub-folders. What exists is taken literally, so names with
            brackets need no escaping. Folders and patterns find files by their suffix and pass
            over hidden ones.

    Returns:
        The folder everything was found below, and the sorted paths relative to it.

    Raises:
        RequestError: nothing was found; says what was looked for, and where.
    """
    if not request.strip():
        raise RequestError("input is empty. Give an image, a folder, or a glob pattern in quotes.")
    path = Path(request).expanduser()
    if path.is_file():
        return path.parent, [Path(path.name)]
    root = path if path.is_dir() else _fixed_part(path)
    pattern = "**/*" if path.is_dir() else str(path.relative_to(root))
    # not Path.glob, which finds hidden files, and whose ** depends on the Python version
    found = map(Path, glob.iglob(pattern, root_dir=root, recursive=True))  # noqa: PTH207
    images = {name for name in found if name.suffix.lower() in SUFFIXES and (root / name).is_file()}
    if not images:
        raise RequestError(f"input={request}: {_nothing_found(path, root)}")
    return root, sorted(images)


def _fixed_part(pattern: Path) -> Path:
    """The leading folders of a pattern that exist as they are written."""
    fixed = Path(pattern.anchor)
    for part in pattern.relative_to(fixed).parts[:-1]:
        if not (fixed / part).is_dir():
            break
        fixed /= part
    return fixed


def _nothing_found(path: Path, root: Path) -> str:
    suffixes = " ".join(SUFFIXES)
    if path.is_dir():
        return f"no image in {path.absolute()} or below it; looked for {suffixes}."
    if glob.has_magic(str(path.relative_to(root))):
        return (
            f"no image below {root.absolute()} matches this pattern; looked for {suffixes}. "
            "** stands for any sub-folders."
        )
    return (
        f"no such file or folder, looked for {path.absolute()}. Give an image, a folder, or a "
        "glob pattern in quotes."
    )
