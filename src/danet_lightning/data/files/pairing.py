"""Pair images with their label files by the names of the files."""

from collections.abc import Container, Mapping, Sequence, Set
from pathlib import Path, PurePath

from danet_lightning.data.base import DataError, LeftOutError, Triple
from danet_lightning.data.files.images import CAMERA_RAW, OTHER_FORMATS, SUFFIXES
from danet_lightning.disk.names import composed, files_below

LABEL_SUFFIXES = (".png", ".bmp", ".gif", ".tif", ".tiff")  # JPEG would invent labels along edges


def pair_by_name(
    image_folder: Path,
    label_folder: Path,
    image_suffix: str = "",
    label_suffix: str = "",
    extra_labels: bool = False,
    extra_images: bool = False,
    remedy: str = "Add or remove them.",
) -> tuple[list[Triple], list[DataError]]:
    """Pair the files below two folders by their paths without suffix, in the order of the paths.

    The folders may be one, or one inside the other: what is a label is no image. Names are compared
    in one Unicode form, and a folder that links lead to counts once.

    Args:
        image_folder: Where the images lie.
        label_folder: Where the labels lie.
        image_suffix: What the name of every image ends with, and its label's does not.
        label_suffix: What the name of every label ends with, and its image's does not.
        extra_labels: Whether labels may lie there that belong to images elsewhere.
        extra_images: Whether images without a label are left out, and are no error.
        remedy: What to do about files without a partner.

    Returns:
        (id, image, label) triples, the id being the path with "__" for "/"; none if both folders
        hold nothing. And what is wrong: files without a partner, images that share a name, folders
        that cannot be listed.
    """
    image_suffix, label_suffix = composed(image_suffix), composed(label_suffix)
    problems: list[DataError] = []
    label_files = _by_name(label_folder, LABEL_SUFFIXES, label_suffix, problems)
    others = {*label_files.values()}
    image_files = _by_name(image_folder, SUFFIXES, image_suffix, problems, others)
    lonely = label_files.keys() - image_files.keys()
    problems += _unread(image_folder, image_suffix, lonely) if lonely else []
    label_kinds = f"*{label_suffix}{'/'.join(LABEL_SUFFIXES)}"
    folders = image_folder, label_folder
    unlabelled = _without_partner(image_files, label_files, folders, label_kinds, remedy)
    if extra_images:
        kind_and_remedy = "unlabelled", "They are left out, by dataset.skip_unlabelled=true."
        unlabelled = [LeftOutError(each.fact, *kind_and_remedy, each.files) for each in unlabelled]
    problems += unlabelled
    if not extra_labels:
        image_kinds = f"*{image_suffix}.jpg/.png/..."
        problems += _without_partner(label_files, image_files, folders[::-1], image_kinds, remedy)
    paired = sorted(image_files.keys() & label_files.keys())
    return [(name, image_files[name], label_files[name]) for name in paired], problems


def _unread(folder: Path, suffix: str, lonely: Set[str]) -> list[DataError]:
    """List images that have labels but a format that is not read, and would be left out."""
    kinds = (*CAMERA_RAW, *OTHER_FORMATS)
    files = map(PurePath, files_below(folder, lambda error: None))
    unread = [name for name in files if name.suffix.lower() in kinds]
    names = sorted(str(name) for name in unread if path_id(name, suffix) in lonely)
    if not names:
        return []
    text = (
        f"{len(names)} of the images in {folder.absolute()} have labels, and are of formats that "
        f"are not read: {first_five(names)}."
    )
    remedy = "Save them as JPEG or PNG."
    return [DataError(text, "unreadable", remedy, [folder / name for name in names])]


def _without_partner(
    files: Mapping[str, Path],
    partners: Mapping[str, Path],
    folders: tuple[Path, Path],
    kinds: str,
    remedy: str,
) -> list[DataError]:
    names = sorted(files.keys() - partners.keys())
    if not names:
        return []
    here, there = (folder.absolute() for folder in folders)
    text = (
        f"{len(names)} of the files in {here} have no partner of the same name ({kinds}) in "
        f"{there}: {first_five(names)}."
    )
    return [DataError(text, "missing_partner", remedy, [files[name] for name in names])]


def _by_name(
    folder: Path,
    kinds: tuple[str, ...],
    suffix: str,
    problems: list[DataError],
    others: Container[Path] = (),
) -> dict[str, Path]:
    """Find the files of some kinds below a folder by their ids; `problems` gets what is wrong."""

    def cannot_be_listed(error: OSError) -> None:
        place = Path(error.filename)
        text = f"The folder {place} cannot be listed: {error.strerror}."
        problems.append(DataError(text, "unreadable", "Make it readable or remove it.", [place]))

    files: dict[str, Path] = {}
    for relative in sorted(files_below(folder, cannot_be_listed)):
        path = folder / relative
        is_wanted = path.suffix.lower() in kinds and path not in others
        if not is_wanted or not composed(path.stem).endswith(suffix):
            continue
        name = path_id(PurePath(relative), suffix)
        if name in files:
            other, forms = files[name], ""
            if composed(path.stem) == composed(other.stem) and path.stem != other.stem:
                forms = f" in two Unicode forms, {other.stem!a} and {path.stem!a}"
            text = (
                f"{other} and {path.name} share a name{forms}, so a label cannot be told to belong "
                "to one of them."
            )
            problems.append(
                DataError(text, "ambiguous_name", "Remove or rename one.", [other, path])
            )
        files[name] = path
    return files


def path_id(path: PurePath, suffix: str = "") -> str:
    """Return the id of a file: its path without suffixes, as one file name in composed form."""
    return composed(path.with_suffix("").as_posix()).removesuffix(suffix).replace("/", "__")


def first_five(names: Sequence[str]) -> str:
    """Write the beginning of a list of names, for a message."""
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
