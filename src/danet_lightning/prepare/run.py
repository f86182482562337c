"""From nothing to a folder that a data set reads: fetch, verify and unpack its archives."""

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from danet_lightning.config.building import build, request_errors
from danet_lightning.data.base import Archive, DataSet
from danet_lightning.data.datamodule import SegmentationDataModule
from danet_lightning.disk.claim import HeldError, claimed
from danet_lightning.errors import RequestError
from danet_lightning.prepare.fetching import fetch, verify
from danet_lightning.prepare.storage import gigabytes, writing
from danet_lightning.prepare.unpacking import pending, present, settle, unpack


def prepare(config: DictConfig, run_dir: Path) -> None:
    """Make a folder that `config.dataset` reads; go on where an earlier run was interrupted."""
    try:
        complete(config, HydraConfig.get().runtime.choices["dataset"])
    except KeyboardInterrupt:
        print("\nInterrupted; run the same command again to go on from here.", file=sys.stderr)
        raise SystemExit(130) from None


def complete(config: DictConfig, name: str) -> None:
    """Fetch what a data set lacks until it can be read, and say what there is.

    Args:
        config: With `dataset`, `root` and `archives`.
        name: What the data set is called on the command line.

    Raises:
        RequestError: It is not made of archives, they cannot be had, or are not enough.
    """
    with request_errors():
        data = build(config, "dataset", DataSet)
    archives: Sequence[Archive] = data.archives
    if not archives:
        raise RequestError(
            f"dataset={name}: there is nothing to fetch for {type(data).__name__}; train on it as "
            "it is (with your own files, if it reads files)."
        )
    root = Path(config.root or config.dataset.root).expanduser()
    places = _Places(config, archives, root)
    if not places.missing() and not places.unfinished():
        print(f"already there  {root}")
    else:
        places.require_own()
        with _locked(root):
            places.complete()
    places.report(name)
    if config.data.cache == "memmap":
        SegmentationDataModule(places.build(), **config.data).setup("fit")


class _Places:
    """Where the archives of a data set lie, and the folders that their entries belong in."""

    def __init__(self, config: DictConfig, archives: Sequence[Archive], root: Path) -> None:
        self.config = config
        self.archives = archives
        self.root = root
        self.store = Path(config.archives).expanduser() if config.archives else root / "archives"

    def path(self, archive: Archive) -> Path:
        return self.store / archive.name

    def folder(self, archive: Archive) -> Path:
        given = None if archive.option == "root" else self.config.dataset.get(archive.option)
        return Path(given).expanduser() if given else self.root

    def unpacked(self, archive: Archive) -> bool:
        return all(present(self.folder(archive) / entry) for entry in archive.entries)

    def options(self) -> dict[str, str]:
        """What the data set has to be told to find what is unpacked."""
        there = {a.option: str(self.folder(a)) for a in self.archives if self.unpacked(a)}
        return {**there, "root": str(self.root)}

    def build(self) -> DataSet:
        with request_errors():
            dataset: DataSet = build(self.config, "dataset", DataSet, **self.options())
        return dataset

    def missing(self) -> str:
        """Why the data set cannot be read; empty if it can."""
        data = self.build()
        for split in data.splits:
            try:
                source, problems, _ = data.pairs(split)
            except RequestError as error:
                return str(error)
            if problems:
                return str(problems[0])
            if len(source) == 0:
                return f"the split {split} holds no images."
        return ""

    def unfinished(self) -> list[Archive]:
        """The archives that a killed run had unpacked without moving everything to its place."""
        return [a for a in self.archives if pending(self.path(a), self.folder(a))]

    def require_own(self) -> None:
        """Ask for the archives that only a person can fetch.

        Raises:
            RequestError: Some are not there.
        """
        own = [a for a in self.archives if not a.urls and a not in self.unfinished()]
        lacking = [a for a in own if not self.unpacked(a) and not self.path(a).is_file()]
        if lacking:
            names = " and ".join(archive.name for archive in lacking)
            raise RequestError(
                f"archives: {names} not found in {self.store.absolute()}, and only you may fetch "
                f"what needs an account. Get it from {lacking[0].page}; put it there, or give its "
                "folder with archives=..., and run the command again."
            )

    def complete(self) -> None:
        """Fetch and unpack one archive after the other, until the data set can be read.

        Raises:
            RequestError: It cannot be fetched or unpacked, or still is not what is read.
        """
        for archive in self.unfinished():
            settle(self.path(archive), archive.entries, self.folder(archive))
        missing = self.missing()
        for archive in self.archives:
            if missing and not self.unpacked(archive):
                self._obtain(archive)
                missing = self.missing()
        if missing:
            raise RequestError(f"All archives are unpacked, and yet: {missing}")

    def _obtain(self, archive: Archive) -> None:
        path, folder = self.path(archive), self.folder(archive)
        if path.is_file():
            verify(path, archive.checksum)
        else:
            with writing(self.store):
                self.store.mkdir(parents=True, exist_ok=True)
            fetch(archive.urls, path, archive.checksum)
        unpack(path, archive.entries, folder)
        print(f"unpacked       {path} into {folder}")

    def report(self, name: str) -> None:
        """Say how many images there are, what may be removed, and how to go on."""
        data = self.build()
        counts = [f"{split} {len(data.pairs(split).source)}" for split in data.splits]
        print(f"images         {', '.join(counts)}")
        kept = [path for a in self.archives if a.urls and (path := self.path(a)).is_file()]
        if kept:
            size = gigabytes(sum(path.stat().st_size for path in kept))
            print(f"archives       {self.store} ({size}; not needed any more)")
        told = [
            shlex.quote(f"dataset.{option}={value}")
            for option, value in self.options().items()
            if value != self.config.dataset.get(option)
        ]
        print(" ".join(["next           danet train", f"dataset={name}", *told]))


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Keep a second process from writing into the same folder; a killed one keeps nobody out."""
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
        claim = ExitStack()
        try:
            claim.enter_context(claimed(root / ".prepare.lock"))
        except HeldError as error:
            raise RequestError(
                f"root: another command prepares {root.absolute()}: {error}. Wait until it is done."
            ) from None
    with claim:
        yield
