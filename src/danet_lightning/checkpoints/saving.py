"""Files that are either whole or not there."""

from pathlib import Path
from typing import Any, BinaryIO

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from danet_lightning.disk.writing import write_atomically
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
            RunError: It cannot be written, for example because the disk is full.
        """
        path = Path(path)
        name = f"{path}: the checkpoint of step {checkpoint.get('global_step')}"
        try:
            save_atomically(checkpoint, path, name)
        except RunError as error:
            old = "The one before is still there" if path.exists() else "There is none yet"
            raise RunError(f"{error} {old}.") from error


def save_atomically(content: dict[str, Any], target: Path, name: str = "") -> None:
    """Save as `torch.save`, after which there is the old file or the whole new one.

    Raises:
        RunError: It cannot be written; the old file is still there.
    """

    def write(file: BinaryIO) -> None:
        kept = _Kept(file)
        try:
            torch.save(content, kept)  # type: ignore[arg-type]
        except RuntimeError as error:  # torch's own text of a write that failed says nothing
            raise kept.error or error from None

    write_atomically(target, write, name)


class _Kept:
    """A file that remembers why a write of it failed."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.flush = file.flush
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise
