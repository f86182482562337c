"""Room on a disk: ask for it before large data is written."""

import shutil
from pathlib import Path

from danet_lightning.errors import RequestError

UNITS = {"GB": 1e9, "MB": 1e6}


def require_space(folder: Path, needed: int, name: str, remedy: str) -> None:
    """Check that so many bytes still fit on the disk of a folder.

    Raises:
        RequestError: They do not.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise RequestError(
            f"{name} needs {readable_size(needed)} in {folder.absolute()}, and "
            f"{readable_size(free)} are free there. {remedy}"
        )


def readable_size(count: int) -> str:
    """Write a number of bytes as people do."""
    unit, size = next(((u, s) for u, s in UNITS.items() if count >= s), ("kB", 1e3))
    return f"{count / size:.1f} {unit}"
