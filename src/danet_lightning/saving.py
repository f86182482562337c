"""Files that are either whole or not there."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from danet_lightning.errors import RunError


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write beside the target, flush to the disk, then rename.

    Lightning writes below $TMPDIR and moves; across file systems that is a copy, and a kill in
    the middle of it leaves half a file under the final name.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Replace `path` by the new checkpoint in one step.

        Raises:
            RunError: it cannot be written, for example because the disk is full.
        """
        try:
            save_atomically(checkpoint, Path(path))
        except OSError as error:
            old = "The one before is still there" if Path(path).exists() else "There is none yet"
            raise RunError(
                f"{path}: the checkpoint of step {checkpoint.get('global_step')} cannot be written "
                f"({error.strerror or error}). {old}. Make room, then run the same command again."
            ) from error


def save_atomically(content: dict[str, Any], target: Path) -> None:
    """`torch.save`, after which there is the old file or the whole new one.

    Raises:
        OSError: it cannot be written; the old file is still there.
    """

    def write(file: BinaryIO) -> None:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # torch's own text of a write that failed says nothing
            file.flush()  # fails again, with the reason
            raise OSError(str(error).splitlines()[0]) from error

    write_atomically(target, write)


def write_atomically(target: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write a file beside the target, flush it to the disk, rename it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    try:
        with part.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
