"""Where a command may write: told before anything is imported, read or computed for it."""

import os
import tempfile
from pathlib import Path

from danet_lightning.disk.names import expanded


def not_empty(text: str) -> str:
    """Check that a name is there: an empty one would be taken for the working folder.

    Raises:
        ValueError: It is empty, or blank.
    """
    if not text.strip():
        raise ValueError("is empty; give a name, as ./ for the folder you are in")
    return text


def folder_to_fill(text: str) -> str:
    """Check that files can be written into a folder, which need not be there yet.

    Raises:
        ValueError: They cannot.
    """
    _require_writable(expanded(not_empty(text)))
    return text


def new_file(text: str) -> str:
    """Check that a file can be written, and that nothing is in its place.

    Raises:
        ValueError: It cannot, or something is.
    """
    path = expanded(not_empty(text))
    if os.path.lexists(path):
        raise ValueError(f"{path.absolute()} exists; choose another name or remove it")
    _require_writable(path.absolute().parent)
    return text


def new_folder(text: str) -> str:
    """Check that a folder can be made or filled, and that it holds nothing.

    Raises:
        ValueError: It cannot, or it does.
    """
    path = expanded(not_empty(text))
    if os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir())):
        raise ValueError(f"{path.absolute()} exists; choose another name or remove it")
    return folder_to_fill(text)


def exported(output: Path, int8: bool) -> dict[str, Path]:
    """Return the files that `export` writes beside and with an ONNX file."""
    files = {"float32": output, "report": output.with_suffix(".json")}
    return files | ({"int8": output.with_suffix(".int8.onnx")} if int8 else {})


def new_onnx(text: str, int8: bool) -> str:
    """Check that an ONNX file can be written with all that belongs to it.

    Raises:
        ValueError: It cannot, or something has the name of one of the files.
    """
    if Path(text).suffix != ".onnx":
        raise ValueError("does not end in .onnx; choose a name that does")
    for path in exported(expanded(text), int8).values():
        new_file(str(path))
    return text


def _require_writable(folder: Path) -> None:
    """Try to write where a folder is, or where it would have to be made; nothing stays there.

    Raises:
        ValueError: The system refuses.
    """
    place = folder.absolute()
    try:
        while True:
            try:
                place.lstat()
                break
            except (FileNotFoundError, NotADirectoryError):
                place = place.parent
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        reason = f"{place}: {error.strerror}" if place != folder.absolute() else error.strerror
        raise ValueError(f"cannot be written ({reason}); choose another place") from error
