"""The folder of a run or a sweep: one of its own by default, and never that of another command."""

import itertools
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from danet_lightning.disk.claim import IN_USE, HeldError, claimed
from danet_lightning.errors import RequestError


class Folder(NamedTuple):
    """Where a command writes.

    Attributes:
        kind: Whether it is a run's or a sweep's.
        path: Its name.
        is_dated: Whether its name is the time, so that another one does as well.
    """

    kind: Literal["run", "sweep"]
    path: Path
    is_dated: bool


def chosen_folder(config: DictConfig, kind: Literal["run", "sweep"]) -> Folder:
    """Return the folder of a composed config, whose Hydra part is set; the time in it is this
    moment's.

    Raises:
        RequestError: It has no name.
    """
    hydra: Any = HydraConfig.get()
    node = hydra[kind]
    raw: Any = OmegaConf.to_container(node, resolve=False)
    top: Any = OmegaConf.to_container(config, resolve=False)
    if not str(node.dir).strip():
        raise RequestError(f"hydra.{kind}.dir: is empty; give a folder")
    text = str(raw["dir"]).replace(f"${{{kind}_dir}}", str(top[f"{kind}_dir"]))
    return Folder(kind, Path(node.dir), "${now:" in text)


@contextmanager
def occupied(folder: Folder, records: Sequence[str] = ()) -> Iterator[Path]:
    """Make a folder, and keep other commands out of it until the end.

    Args:
        folder: Where a command writes.
        records: What a request that is refused has left there; a new folder with nothing else is
            removed, and those made above it.

    Yields:
        Its path, with a number behind it where commands have started in the same second.

    Raises:
        RequestError: A command is at work there, or in the folder of a point below it.
        OSError: It cannot be written.
    """
    is_new = folder.is_dated or not folder.path.exists()
    above = [each for each in folder.path.absolute().parents if not each.exists()]
    path = _new(folder.path) if folder.is_dated else folder.path
    path.mkdir(parents=True, exist_ok=True)
    below = path.glob(f"*/**/{IN_USE}") if folder.kind == "sweep" else ()
    place = path
    try:
        with claimed(path / IN_USE):
            for claim in below:
                place = claim.parent
                with claimed(claim):
                    pass
            place = path
            yield path
    except HeldError as error:
        key = f"{folder.kind}_dir"
        raise RequestError(
            f"{key}: {place} is in use by {error}. Wait until that has ended, or choose another "
            f"{key}."
        ) from None
    except SystemExit as end:
        if end.code == 2 and is_new and {each.name for each in path.iterdir()} <= set(records):
            shutil.rmtree(path)
            with suppress(OSError):  # others have begun there meanwhile
                for each in above:
                    each.rmdir()
        raise


def _new(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        new = path if number == 1 else path.with_name(f"{path.name}_{number}")
        try:
            new.mkdir()
        except FileExistsError:
            continue
        return new
    raise AssertionError  # there is always another number
