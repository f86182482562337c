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
from danet_lightning.disk.claim import HeldError, claimed
from danet_lightning.disk.space import readable_size
from danet_lightning.errors import RequestError
from danet_lightning.prepare.fetching import fetch, verify
from danet_lightning.prepare.labels import convert
from danet_lightning.prepare.storage import writing
from danet_lightning.prepare.unpacking import pending, present, settle, unpack


def prepare(config: DictConfig, run_dir: Path) -> None:
    """Make a folder that a data set reads; go on where an earlier run was interrupted."""
    try:
        if config.labels is not None:
            convert(config.labels, config.root, config.background)
            return
        complete(config, HydraConfig.get().runtime.choices["dataset"])
    except KeyboardInterrupt:
        print("\nInterrupted; run the same command again to go on from here.", file=sys.stderr)
        raise SystemExit(130) from None


def complete(config: DictConfig, name: str) -> None:
    """Fetch what a data set lacks until it can be read, then print its counts and how to train.

    Args:
        config: With `dataset`, `data`, `root` and `archives`.
        name: What the data set is called on the command line.

    Raises:
        RequestError: It is not made of archives, they cannot be had, or are not enough.
    """
    with request_errors():
        data: DataSet = build(config, "dataset", DataSet)
    if not data.archives:
        raise RequestError(
            f"dataset={name}: there is nothing to fetch for {type(data).__name__}; train on it as "
            "it is (with your own files, if it reads files)."
        )
    release = _Release(config, data.archives)
    if release.is_complete():
        print(f"already there  {release.root}")
    else:
        release.require_archives_of_an_account()
        with _locked(release.root):
            release.complete()
    release.report(name)
    if config.data.cache == "memmap":
        from danet_lightning.data.datamodule import SegmentationDataModule  # of Lightning

        SegmentationDataModule(release.data_set(), **config.data).setup("fit")


class _Release:
    """The archives of a data set: where they lie, and the folders that their entries belong in."""

    def __init__(self, config: DictConfig, archives: Sequence[Archive]) -> None:
        self.config = config
        self.archives = archives
        self.root = Path(config.root or config.dataset.root).expanduser()
        self.store = Path(config.archives or self.root / "archives").expanduser()

    def path(self, archive: Archive) -> Path:
        return self.store / archive.name

    def folder(self, archive: Archive) -> Path:
        option = None if archive.option == "root" else self.config.dataset.get(archive.option)
        return Path(option or self.root).expanduser()

    def is_unpacked(self, archive: Archive) -> bool:
        return all(present(self.folder(archive) / entry) for entry in archive.entries)

    def unsettled(self) -> list[Archive]:
        """List the archives that a killed run had unpacked without moving all to its place."""
        return [a for a in self.archives if pending(self.path(a), self.folder(a))]

    def options(self) -> dict[str, str]:
        """Return the data set's arguments that name the folders of what is unpacked."""
        there = {a.option: str(self.folder(a)) for a in self.archives if self.is_unpacked(a)}
        return {**there, "root": str(self.root)}

    def data_set(self) -> DataSet:
        with request_errors():
            data: DataSet = build(self.config, "dataset", DataSet, **self.options())
        return data

    def is_complete(self) -> bool:
        return not self.unsettled() and not self.problem()

    def problem(self) -> str:
        """Say why the data set cannot be read; nothing if it can."""
        data = self.data_set()
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

    def require_archives_of_an_account(self) -> None:
        """Ask for the archives that only a person can fetch.

        Raises:
            RequestError: Some are not there.
        """
        needed = [a for a in self.archives if not a.urls and a not in self.unsettled()]
        missing = [a for a in needed if not self.is_unpacked(a) and not self.path(a).is_file()]
        if missing:
            names = " and ".join(archive.name for archive in missing)
            raise RequestError(
                f"archives: {names} not found in {self.store.absolute()}, and only you may fetch "
                f"what needs an account. Get it from {missing[0].page}; put it there, or give its "
                "folder with archives=..., and run the command again."
            )

    def complete(self) -> None:
        """Fetch, verify and unpack one archive after the other, until the data set can be read.

        Raises:
            RequestError: It cannot be fetched or unpacked, or still is not what is read.
        """
        for archive in self.unsettled():
            settle(self.path(archive), archive.entries, self.folder(archive))
        problem = self.problem()
        for archive in self.archives:
            if not problem or self.is_unpacked(archive):
                continue
            path, folder = self.path(archive), self.folder(archive)
            if path.is_file():
                verify(path, archive.checksum)
            else:
                with writing(self.store):
                    self.store.mkdir(parents=True, exist_ok=True)
                fetch(archive.urls, path, archive.checksum)
            unpack(path, archive.entries, folder)
            print(f"unpacked       {path} into {folder}")
            problem = self.problem()
        if problem:
            raise RequestError(f"All archives are unpacked, and yet: {problem}")

    def report(self, name: str) -> None:
        """Print how many images there are, what may be removed, and how to go on."""
        data = self.data_set()
        counts = [f"{split} {len(data.pairs(split).source)}" for split in data.splits]
        print(f"images         {', '.join(counts)}")
        fetched = [path for a in self.archives if a.urls and (path := self.path(a)).is_file()]
        if fetched:
            size = readable_size(sum(path.stat().st_size for path in fetched))
            print(f"archives       {self.store} ({size}; not needed any more)")
        overrides = [
            shlex.quote(f"dataset.{option}={value}")
            for option, value in self.options().items()
            if value != self.config.dataset.get(option)
        ]
        print(" ".join(["next           danet train", f"dataset={name}", *overrides]))


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Keep a second process from writing into the same folder; a killed one keeps nobody out."""
    with ExitStack() as claim:
        with writing(root):
            root.mkdir(parents=True, exist_ok=True)
            try:
                claim.enter_context(claimed(root / ".prepare.lock"))
            except HeldError as error:
                raise RequestError(
                    f"root: another command prepares {root.absolute()}: {error}. Wait until it is "
                    "done."
                ) from None
        yield
