"""Building a pixel cache: decode in several processes, write in order, leave nothing half-done."""

import logging
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from danet_lightning.data.base import Pixels, Source
from danet_lightning.data.files.cache_key import cache_key
from danet_lightning.data.files.pixel_file import CHANNELS, header_of, write_pixels
from danet_lightning.data.files.source import FileSource
from danet_lightning.data.samples.loader import SegmentationLoader, start_worker
from danet_lightning.errors import RequestError, RunError

log = logging.getLogger(__name__)


def build(source: FileSource, path: Path, key: str, workers: int) -> None:
    """Decode all files of a source into a .pixels file.

    Args:
        source: The files.
        path: What to write; what lies there is replaced.
        key: The source's key, which must still be the same at the end.
        workers: Processes that decode; 0: this one.

    Raises:
        RequestError: A file cannot be read or changes meanwhile, or the disk is too small.
        RunError: The cache cannot be written.
    """
    for left in (path, header_of(path), *path.parent.glob(f"{path.stem}.*.part")):
        left.unlink(missing_ok=True)  # damaged, or of a process that was killed; they take space
    size, free = _size(source), shutil.disk_usage(path.parent).free
    if size > free:
        raise RequestError(
            f"The pixel cache {path} needs {_gigabytes(size)}, and {_gigabytes(free)} are free "
            "there. Free some, give data.cache_dir a folder on another disk, or use "
            "data.cache=none."
        )
    log.info("Building the pixel cache %s of %s.", path, _gigabytes(size))
    try:
        write_pixels(path, key, _decoded(source, key, workers))
    except RunError as error:
        if not isinstance(error.__cause__, OSError):
            raise
        remedy = "Or give data.cache_dir another folder, or use data.cache=none."
        raise RunError(f"The pixel cache {error} {remedy}") from error.__cause__
    _tell_others(path)


def _decoded(source: FileSource, key: str, workers: int) -> Iterator[tuple[Pixels, Pixels]]:
    loader = SegmentationLoader(
        _Decoding(source),
        batch_size=None,
        num_workers=min(workers, len(source)),
        worker_init_fn=start_worker,
    )
    interactive = sys.stderr.isatty()
    interval = 0.2 if interactive else 15  # a log file wants a line now and then
    bar = tqdm(loader, "cache", len(source), unit="image", mininterval=interval)
    for image, mask in bar:
        yield image.numpy(), mask.numpy()
    if cache_key(source) != key:
        raise RequestError(
            "Images or labels were changed while the pixel cache was built from them. Start again "
            "when nothing writes to the data set any more."
        )


class _Decoding(Dataset[tuple[Tensor, Tensor]]):
    """The decoded images and masks of a source as tensors, which workers hand on uncopied."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, mask = (np.require(part, np.uint8, ["C", "W"]) for part in self.source.read(index))
        return torch.from_numpy(image), torch.from_numpy(mask)


def _size(source: FileSource) -> int:
    return sum(CHANNELS * _pixels(source, index) for index in range(len(source)))


def _pixels(source: FileSource, index: int) -> int:
    """The pixels of one image, of which as little is read as its format allows."""
    try:
        with Image.open(source.files[index][1]) as image:
            return image.width * image.height
    except Exception:  # whatever a damaged file makes of a decoder; reading it says more
        return source.read(index)[1].size


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.3g} GB"


def _tell_others(path: Path) -> None:
    name = path.stem.rpartition("-")[0]
    others = sorted(other for other in path.parent.glob(f"{name}-*.pixels") if other != path)
    if others:
        listed = "".join(f"\n  {other} ({_gigabytes(other.stat().st_size)})" for other in others)
        log.info("Caches of other files or labels stay; remove what nobody uses:%s", listed)
