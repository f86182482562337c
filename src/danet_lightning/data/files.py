"""Image and label files: pairing, reading and checking them.

H, W: height and width of an image in pixels.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from danet_lightning import images
from danet_lightning.data.dataset import Pixels
from danet_lightning.data.release import read_mat
from danet_lightning.errors import RequestError

log = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
LABEL_SUFFIXES = (".png",)  # JPEG would invent labels along every edge
LABEL_MODES = ("1", "L", "P", "I;16", "I;16B", "I")
REMEDY = "Copy the file again if it is damaged, remove it from the data set if it is no image."
UNMAPPED = 254  # marks, inside a label table, the ids that the data set does not have


class FileSource:
    """Image and label files, checked whenever they are read.

    Args:
        files: One (id, image, label) triple for each image.
        train_ids: The train id (0..253, or 255 for ignored pixels) of every id that a label file
            may hold. Any other id is an error, which is why 255 is not ignored by itself.
        variable: The name of the labels inside label files of MATLAB (.mat).

    Raises:
        ValueError: `train_ids` maps to something that is no train id.
    """

    def __init__(
        self,
        files: Sequence[tuple[str, Path, Path]],
        train_ids: Mapping[int, int],
        variable: str = "",
    ) -> None:
        self.files = files
        self.variable = variable
        self.allowed = sorted(train_ids)
        self.table = np.full(2**16, UNMAPPED, np.uint8)
        for raw, train_id in train_ids.items():
            if not 0 <= raw < 2**16 or not (0 <= train_id < UNMAPPED or train_id == 255):
                raise ValueError(f"train_ids[{raw}]={train_id}: ids are 0..65535 -> 0..253 or 255")
            self.table[raw] = train_id

    def __len__(self) -> int:
        return len(self.files)

    def name(self, index: int) -> str:
        """Return the id of an image."""
        return self.files[index][0]

    def read(self, index: int) -> tuple[Pixels, Pixels]:
        """Return the RGB image (H, W, 3) and its train ids (H, W).

        Raises:
            RequestError: A file is missing, damaged, of the wrong kind or size, or holds an
                id outside `train_ids`.
        """
        _, image_path, label_path = self.files[index]
        image, labels = read_image(image_path), self._labels(label_path)
        if image.shape[:2] != labels.shape:
            raise RequestError(
                f"Image and label differ in size: {image_path} is {_size(image)}, {label_path} is "
                f"{_size(labels)}. Export the labels at the image's stored size (an EXIF rotation "
                "is applied to neither)."
            )
        mask = self.table.take(labels, mode="clip")
        if (mask == UNMAPPED).any():
            raise RequestError(self._illegal(label_path, labels[mask == UNMAPPED]))
        return image, mask

    def _labels(self, path: Path) -> NDArray[Any]:
        return read_mat(path, self.variable) if path.suffix == ".mat" else read_labels(path)

    def _illegal(self, path: Path, found: NDArray[Any]) -> str:
        ids = np.unique(found)
        shown = ", ".join(str(value) for value in ids[:8]) + (", ..." if len(ids) > 8 else "")
        share = f"{found.size} {'pixel' if found.size == 1 else 'pixels'}"
        return (
            f"{path}: label {shown} ({share}) is outside the allowed {_ranges(self.allowed)}. "
            "Usual causes: a 0/255 mask (write class indices, 0 and 1), an RGB mask saved as grey "
            "(write class indices instead of colours), labels counted from 1 (subtract 1), or "
            "the labels of another data set."
        )


def read_image(path: Path) -> Pixels:
    """Read an image as RGB (H, W, 3), as stored: an EXIF rotation is not applied.

    Raises:
        RequestError: The file is missing, damaged or of an unsupported kind.
    """
    try:
        return images.read_image(path, upright=False)
    except ValueError as error:
        raise RequestError(f"{error}. {REMEDY}") from error


def read_labels(path: Path) -> NDArray[Any]:
    """Read the class ids (H, W) of a label file; of a palette image the indices.

    Raises:
        RequestError: The file is missing, damaged, or holds colours instead of ids.
    """
    image = _open(path)
    if image.mode not in LABEL_MODES:
        raise RequestError(
            f"{path}: a label file holds one class index for each pixel, and this is an image of "
            f"{len(image.getbands())} channels ({image.mode}). Convert its colours to class "
            "indices and save them as an 8-bit grey or palette PNG."
        )
    labels = np.asarray(image)
    return labels.astype(np.uint8) if labels.dtype == bool else labels


def pair_by_name(image_folder: Path, label_folder: Path) -> list[tuple[str, Path, Path]]:
    """Pair the files of two folders by their names without suffix, in the order of the names.

    Returns:
        (name, image, label) triples; none if both folders hold nothing.

    Raises:
        RequestError: A file has no partner, or two images share a name.
    """
    image_files = _by_name(image_folder, IMAGE_SUFFIXES)
    label_files = _by_name(label_folder, LABEL_SUFFIXES)
    for names, here, there in (
        (sorted(image_files.keys() - label_files.keys()), image_folder, label_folder),
        (sorted(label_files.keys() - image_files.keys()), label_folder, image_folder),
    ):
        if names:
            suffixes = "/".join(LABEL_SUFFIXES if there == label_folder else IMAGE_SUFFIXES)
            raise RequestError(
                f"{len(names)} of the files in {here.absolute()} have no partner of the same name "
                f"({suffixes}) in {there.absolute()}: {_shown(names)}. Add or remove them."
            )
    return [(name, image_files[name], label_files[name]) for name in sorted(image_files)]


def pair_listed(
    names: Sequence[str], images: Sequence[Path], labels: Sequence[Path], layout: str
) -> list[tuple[str, Path, Path]]:
    """Pair the image and the label of every name of a list, in its order.

    Args:
        names: Names of the images; of one in a folder of its own, "folder/name".
        images: Where an image may lie, the first place that has it counts: paths whose `*` stands
            for the name.
        labels: Where a label may lie, likewise.
        layout: What belongs there and where to get it, for the message.

    Returns:
        (name, image, label) triples, the names without folders.

    Raises:
        RequestError: Images or labels are missing; names the first five.
    """
    found_images = _find_all("image", names, images, layout)
    found_labels = _find_all("label", names, labels, layout)
    ids = [name.rpartition("/")[2] for name in names]
    return list(zip(ids, found_images, found_labels, strict=True))


def check_count(dataset: str, split: str, found: int, published: Mapping[str, int]) -> None:
    """Warn when a split is not as large as published: another release, or part of it is missing."""
    if split in published and found != published[split]:
        log.warning(
            "%s: %s holds %d images here, %d as published; a number measured on it compares with "
            "no other. Complete the data set, unless you chose a part of it.",
            dataset,
            split,
            found,
            published[split],
        )


def require_folder(path: Path, layout: str) -> Path:
    """Return the folder if it is there.

    Raises:
        RequestError: It is not; the message adds `layout`, which tells what belongs there.
    """
    if not path.is_dir():
        raise RequestError(f"There is no folder {path.absolute()}.\n{layout}")
    return path


def _open(path: Path) -> Image.Image:
    try:
        with path.open("rb") as file, Image.open(file) as image:
            image.load()  # decodes everything, so a truncated file is found here
    except Exception as error:  # a damaged file makes decoders fail in every possible way
        raise RequestError(f"{path} cannot be read as an image: {error}. {REMEDY}") from error
    return image


def _by_name(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in suffixes or path.name.startswith("."):
            continue
        if path.stem in files:
            raise RequestError(
                f"{files[path.stem]} and {path.name} share a name, so a label cannot be told to "
                "belong to one of them. Remove or rename one."
            )
        files[path.stem] = path
    return files


def _find_all(kind: str, names: Sequence[str], places: Sequence[Path], layout: str) -> list[Path]:
    parts = [str(place).rpartition("*") for place in places]
    found, missing = [], []
    for name in names:
        candidates = (Path(f"{before}{name}{after}") for before, _, after in parts)
        path = next((path for path in candidates if path.is_file()), None)
        if path is None:
            missing.append(name)
        else:
            found.append(path)
    if missing:
        looked = " or ".join(str(place.absolute()) for place in places)
        raise RequestError(
            f"{len(missing)} of the {len(names)} listed images have no {kind} {looked} "
            f"(* is the name): {_shown(missing)}.\n{layout}"
        )
    return found


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _size(pixels: NDArray[Any]) -> str:
    return f"{pixels.shape[1]} x {pixels.shape[0]}"


def _ranges(values: Sequence[int]) -> str:
    """Write sorted numbers shortly: 0, 1, 2, 255 is "0-2, 255"."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ", ".join(f"{low}-{high}" if low < high else str(low) for low, high in runs)
