"""Which label file belongs to which image: by the names of their files."""

from collections.abc import Container, Mapping, Sequence, Set
from pathlib import Path, PurePath

from danet_lightning.data.files.images import CAMERA_RAW, OTHER_FORMATS, SUFFIXES
from danet_lightning.data.files.inspection import complain
from danet_lightning.disk.names import composed, files_below
from danet_lightning.errors import RequestError

LABEL_SUFFIXES = (".png", ".bmp", ".gif", ".tif", ".tiff")  # JPEG would invent labels along edges
Triple = tuple[str, Path, Path]


def pair_by_name(
    image_folder: Path,
    label_folder: Path,
    image_suffix: str = "",
    label_suffix: str = "",
    extra_labels: bool = False,
    remedy: str = "Add or remove them.",
) -> list[Triple]:
    """Pair the files below two folders by their paths without suffix, in the order of the paths.

    The folders may be one, or one inside the other: what is a label is no image. Names are compared
    in one Unicode form, and a folder that links lead to counts once.

    Args:
        image_folder: Where the images lie.
        label_folder: Where the labels lie.
        image_suffix: What the name of every image ends with, and its label's does not.
        label_suffix: What the name of every label ends with, and its image's does not.
        extra_labels: Whether labels may lie there that belong to images elsewhere.
        remedy: What to do about files without a partner.

    Returns:
        (id, image, label) triples, the id being the path with "__" for "/"; none if both folders
        hold nothing.

    Raises:
        RequestError: A file has no partner, two images share a name, or a folder cannot be listed.
    """
    image_suffix, label_suffix = composed(image_suffix), composed(label_suffix)
    label_files = _by_name(label_folder, LABEL_SUFFIXES, label_suffix)
    image_files = _by_name(image_folder, SUFFIXES, image_suffix, {*label_files.values()})
    _refuse_unread(image_folder, image_suffix, label_files.keys() - image_files.keys())
    label_kinds = f"*{label_suffix}{'/'.join(LABEL_SUFFIXES)}"
    _check_partners(image_files, label_files, (image_folder, label_folder), label_kinds, remedy)
    if not extra_labels:
        image_kinds = f"*{image_suffix}.jpg/.png/..."
        _check_partners(label_files, image_files, (label_folder, image_folder), image_kinds, remedy)
    paired = sorted(image_files.keys() & label_files.keys())
    return [(name, image_files[name], label_files[name]) for name in paired]


def _refuse_unread(folder: Path, suffix: str, lonely: Set[str]) -> None:
    """Name what would be passed over: images that have labels, and are of formats not read."""
    kinds = (*CAMERA_RAW, *OTHER_FORMATS)
    found = files_below(folder, _cannot_be_listed) if lonely else ()
    unread = [name for name in map(PurePath, found) if name.suffix.lower() in kinds]
    names = sorted(str(name) for name in unread if path_id(name, suffix) in lonely)
    if names:
        complain(
            RequestError(
                f"{len(names)} of the images in {folder.absolute()} have labels, and are of "
                f"formats that are not read: {first_five(names)}.",
                "unreadable",
                "Save them as JPEG or PNG.",
                [folder / name for name in names],
            )
        )


def _check_partners(
    files: Mapping[str, Path],
    partners: Mapping[str, Path],
    folders: tuple[Path, Path],
    kinds: str,
    remedy: str,
) -> None:
    names = sorted(files.keys() - partners.keys())
    if names:
        here, there = (folder.absolute() for folder in folders)
        complain(
            RequestError(
                f"{len(names)} of the files in {here} have no partner of the same name ({kinds}) "
                f"in {there}: {first_five(names)}.",
                "missing_partner",
                remedy,
                [files[name] for name in names],
            )
        )


def _by_name(
    folder: Path, kinds: tuple[str, ...], suffix: str, others: Container[Path] = ()
) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for found in sorted(files_below(folder, _cannot_be_listed)):
        path = folder / found
        stem = composed(path.stem)
        if path.suffix.lower() not in kinds or path in others or not stem.endswith(suffix):
            continue
        name = path_id(PurePath(found), suffix)
        if name in files:
            complain(_ambiguous(files[name], path))
        files[name] = path
    return files


def _cannot_be_listed(error: OSError) -> None:
    folder = Path(error.filename)
    complain(
        RequestError(
            f"The folder {folder} cannot be listed: {error.strerror}.",
            "unreadable",
            "Make it readable or remove it.",
            [folder],
        )
    )


def _ambiguous(one: Path, other: Path) -> RequestError:
    apart = ""
    if composed(one.stem) == composed(other.stem) and one.stem != other.stem:
        apart = f" in two Unicode forms, {one.stem!a} and {other.stem!a}"
    return RequestError(
        f"{one} and {other.name} share a name{apart}, so a label cannot be told to belong to one "
        "of them.",
        "ambiguous_name",
        "Remove or rename one.",
        [one, other],
    )


def path_id(path: PurePath, suffix: str = "") -> str:
    """Return the id of a file: its path without suffixes, as one file name in composed form."""
    return composed(path.with_suffix("").as_posix()).removesuffix(suffix).replace("/", "__")


def first_five(names: Sequence[str]) -> str:
    """Write the beginning of a list of names, for a message."""
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
