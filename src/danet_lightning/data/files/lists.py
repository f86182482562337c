"""Pair the image and label files that a list names: what is listed has to be there."""

from collections.abc import Sequence
from pathlib import Path, PurePath

from danet_lightning.data.base import DataError, Triple
from danet_lightning.data.files.layout import read_lines
from danet_lightning.data.files.pairing import first_five, path_id
from danet_lightning.disk.names import Listings, is_utf_8, stored_path
from danet_lightning.errors import RequestError


def pair_listed(
    names: Sequence[str], images: Sequence[Path], labels: Sequence[Path], layout: str
) -> tuple[list[Triple], list[DataError]]:
    """Pair the image and the label of every name of a list, in its order.

    Args:
        names: Names of the images; of one in a folder of its own, "folder/name".
        images: Where an image may lie, the first place that has it counts: paths whose `*` stands
            for the name.
        labels: Where a label may lie, likewise.
        layout: What belongs there and where to get it, for the message.

    Returns:
        (name, image, label) triples, the names without folders. And what is wrong: images or
        labels that are missing.
    """
    image_files, problems = _find_all("image", names, images, layout)
    label_files, others = _find_all("label", names, labels, layout)
    complete = [name for name in names if name in image_files and name in label_files]
    files = [(name.rpartition("/")[2], image_files[name], label_files[name]) for name in complete]
    return files, problems + others


def pair_lines(path: Path, root: Path, layout: str) -> tuple[list[Triple], list[DataError]]:
    """Pair what a list names: an image and its label on each line, relative to a folder.

    A tab or, where there is none, any space stands between the two. The Unicode form of a name need
    not be that of the disk.

    Args:
        path: The list.
        root: The folder that the paths start from.
        layout: What belongs there, for the message.

    Returns:
        (id, image, label) triples in the order of the list, the id being the image's path without
        suffix and with "__" for "/". And what is wrong: files that are missing.

    Raises:
        RequestError: The list cannot be read, a line has another form, or an image is listed twice.
    """
    pairs: dict[str, tuple[Path, Path]] = {}
    listings: Listings = {}
    for number, line in enumerate(read_lines(path, layout), 1):
        separator = "\t" if "\t" in line else " "  # a name may have other spaces
        words = [word.strip(" ") for word in line.split(separator) if word.strip(" ")]
        if len(words) != 2:
            raise RequestError(
                f"{path}, line {number} that is not blank: {line.strip()!r} is no pair. Write the "
                "paths of an image and of its mask, with a tab between them if they have spaces."
            )
        name = path_id(PurePath(words[0]))
        if name in pairs:
            raise RequestError(
                f"{path} lists {words[0]} twice, or another image of its name without suffix. "
                "Remove one of the lines."
            )
        image, label = (stored_path(root / word, listings) for word in words)
        pairs[name] = image, label
    missing = [file for pair in pairs.values() for file in pair if not file.is_file()]
    files = [(name, *pair) for name, pair in pairs.items() if not {*missing} & {*pair}]
    if not missing:
        return files, []
    text = (
        f"{len(missing)} of the files that {path} lists are not there: "
        f"{first_five([str(file) for file in missing])}."
    )
    remedy = "Add them or remove their lines; paths are relative to dataset.root."
    if not all(is_utf_8(str(file)) for file in missing):
        remedy += " The list is not in UTF-8: convert it, unless the names on the disk are not."
    return files, [DataError(text, "missing_partner", remedy, missing)]


def _find_all(
    kind: str, names: Sequence[str], places: Sequence[Path], layout: str
) -> tuple[dict[str, Path], list[DataError]]:
    """Find the file of each name in the first place that has it; and say which have none."""
    parts = [str(place).rpartition("*") for place in places]
    files: dict[str, Path] = {}
    missing: dict[str, Path] = {}
    listings: Listings = {}
    for name in names:
        typed = [Path(f"{before}{name}{after}") for before, _, after in parts]
        candidates = [stored_path(path, listings) for path in typed]
        path = next((path for path in candidates if path.is_file()), None)
        if path is None:
            missing[name] = candidates[0]
        else:
            files[name] = path
    if not missing:
        return files, []
    looked = " or ".join(str(place.absolute()) for place in places)
    text = (
        f"{len(missing)} of the {len(names)} listed images have no {kind} {looked} (* is the "
        f"name): {first_five([*missing])}.\n{layout}"
    )
    return files, [DataError(text, "missing_partner", files=[*missing.values()])]
