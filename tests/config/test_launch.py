"""The command line: what is composed, what is refused and how, and how it ends."""

import errno
import gc
import itertools
import multiprocessing
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from multiprocessing.connection import Listener
from pathlib import Path
from typing import Any

import hydra
import pytest
from commands import start_module
from holding import hold, other
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from launching import check_command_line, launch_train
from omegaconf import DictConfig, OmegaConf, open_dict

from danet_lightning.__main__ import VERBS
from danet_lightning.config import launch as config_module
from danet_lightning.config.commands import EvaluateConfig, PredictConfig, TrainConfig
from danet_lightning.config.explanation import explain
from danet_lightning.config.request import conf_dir, validate
from danet_lightning.config.spelling import literal
from danet_lightning.disk.claim import claimed
from danet_lightning.errors import RequestError

CONF = conf_dir()
GROUPS = sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name != "format")
QUIET = ["hydra/job_logging=none", "hydra/hydra_logging=none"]  # pytest's own handlers stay


OWN = ["dataset.root=my_data", "dataset.classes=[road,sky]"]  # which dataset=folder requires


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def chosen(dataset: str) -> list[str]:
    return [f"dataset={dataset}", *(OWN if dataset == "folder" else [])]


def run(*arguments: str, cwd: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def refusal(*arguments: str, name: str = "train", form: Any = TrainConfig) -> str:
    """What `danet train` with these arguments is refused with."""
    with pytest.raises((RequestError, HydraException)) as caught:
        check_command_line(name, form, arguments)
    return explain(caught.value)


# ---- what is on disk composes, and fits the signatures


@pytest.mark.slow
def test_every_option_of_every_group_fits_the_signatures() -> None:
    """Each option meets each data set, and each backbone each trainer; they share the lines."""
    groups = {group: options(group) for group in GROUPS if group not in {"dataset", "experiment"}}
    pairs = set(itertools.product(groups["backbone"], groups["trainer"]))
    line, pair = itertools.count(), itertools.cycle(sorted(pairs))
    for dataset in options("dataset"):
        for turn in itertools.islice(line, max(map(len, groups.values()))):
            choice = {group: names[turn % len(names)] for group, names in groups.items()}
            choice["backbone"], choice["trainer"] = next(pair)
            pairs.discard((choice["backbone"], choice["trainer"]))
            choices = [f"{group}={name}" for group, name in choice.items()]
            recipe = (CONF / "dataset" / f"{dataset}.yaml").read_text()
            if "multi_grid" in recipe and not choice["backbone"].startswith("resnet"):
                choices.append("backbone.multi_grid=null")
            check_command_line("train", TrainConfig, [*chosen(dataset), *choices])
    assert not pairs


@pytest.mark.slow
@pytest.mark.parametrize("dataset", options("dataset"))
def test_every_experiment_runs_on_every_data_set(dataset: str) -> None:
    for experiment in options("experiment"):
        arguments = [*chosen(dataset), f"experiment={experiment}"]
        check_command_line("train", TrainConfig, arguments)


@pytest.mark.slow
def test_evaluate_composes(tmp_path: Path) -> None:
    checkpoint = tmp_path / "best.ckpt"
    checkpoint.touch()
    datasets = [[], *map(chosen, options("dataset"))]
    for dataset, trainer in zip(datasets, itertools.cycle(options("trainer")), strict=False):
        arguments = [f"ckpt_path={checkpoint}", f"trainer={trainer}", *dataset]
        check_command_line("evaluate", EvaluateConfig, arguments)


def test_an_evaluation_is_not_held_to_a_training_batch(tmp_path: Path) -> None:
    (tmp_path / "best.ckpt").touch()
    arguments = [f"ckpt_path={tmp_path}/best.ckpt", "dataset=camvid", "trainer.devices=3"]
    check_command_line("evaluate", EvaluateConfig, arguments)


def test_predict_composes(tmp_path: Path) -> None:
    (tmp_path / "best.ckpt").touch()
    arguments = [f"ckpt_path={tmp_path}/best.ckpt", "input=photos", "output=out"]
    check_command_line("predict", PredictConfig, arguments)
    told = refusal(f"ckpt_path={tmp_path}/best.ckpt", name="predict", form=PredictConfig)
    assert sorted(told.splitlines()) == [
        "input: give either your images or dataset=... split=..., those of a data set",
        "output: a value is required: output=...",
    ]


# ---- what is refused


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["batch_sise=4"], ["batch_sise: unknown key; did you mean batch_size?"]),
        (
            ["augmentation.crop_siz=[64,64]"],
            ["augmentation.crop_siz: unknown key; did you mean crop_size?"],
        ),
        (["+trainer.max_epoch=1"], ["trainer.max_epoch: unknown key; did you mean max_epochs?"]),
        (["+dataset.bogus=1"], ["dataset.bogus: unknown key. Known: ", "scenes_seed"]),
        (["lr=0.1"], ["lr: unknown key; did you mean optimizer.lr?"]),
        (["epochs=5"], ["epochs: unknown key; did you mean trainer.max_epochs?"]),
        (["crop_size=[64,64]"], ["crop_size: unknown key; did you mean augmentation.crop_size?"]),
        (["trainer.gpus=1"], ["trainer.gpus: unknown key; did you mean trainer.devices?"]),
        (["wandb=false"], ["wandb: unknown key; did you mean logger?"]),
        (
            ["--epochs", "5"],
            ["--epochs: settings are written as key=value, here trainer.max_epochs=...;"],
        ),
        (["--seed=1"], ["--seed=1: settings are written as key=value, here seed=...;"]),
        (["model.num_classes=12"], ["model.num_classes: 12: the data set's classes are counted"]),
        (["+model.num_classes=12"], ["model.num_classes: 12: the data set's classes are counted"]),
        (["datset=camvid"], ["datset: unknown key; did you mean dataset?"]),
        (
            ["augmentation.crop_size=[0,64]"],
            ["augmentation.crop_size: [0, 64]: entry 0 must be greater"],
        ),
        (["augmentation.crop_size=[64]"], ["augmentation.crop_size: [64]: entry 1 is missing"]),
        (
            ["augmentation.crop_size=[1,2,3]"],
            ["augmentation.crop_size: [1, 2, 3]: must have at most 2"],
        ),
        (["augmentation.crop_size=64"], ["augmentation.crop_size: 64: must be a list"]),
        (["augmentation.scale_range=[2,1]"], ["augmentation.scale_range: [2, 1]: the smaller"]),
        (["augmentation.flip=1.5"], ["augmentation.flip: 1.5: must be less than or equal to 1"]),
        (["optimizer.lr=fast"], ['optimizer.lr: "fast": must be a valid number']),
        (["optimizer.lr=true"], ["optimizer.lr: true: must be a valid number"]),
        (["batch_size=true"], ["batch_size: true: must be a valid integer"]),
        (["batch_size=0"], ["batch_size: 0: must be greater than 0"]),
        (["batch_size=8.5"], ["batch_size: 8.5: must be"]),
        (["seed=-1"], ["seed: -1: must be greater than or equal to 0"]),
        (
            ["model.cam_variant=paer"],
            ["model.cam_variant: \"paer\": must be 'official' or 'paper'"],
        ),
        (["model.backbone=3"], ["model.backbone: 3: must be built by a _target_"]),
        (["backbone.name=resnet19"], ["backbone.name:", "'resnet18'"]),
        (["trainer.devices=4"], ["batch_size: 6 must be divisible by the 4 processes", "4 is"]),
        (["trainer.devices=[0,1,2,3]"], ["divisible by the 4"]),
        (["trainer.devices=2", "trainer.num_nodes=4"], ["divisible by the 8"]),
        (["trainer.devices='0,1,3,4'"], ["divisible by the 4"]),
        (["ckpt_path=nowhere.ckpt"], ['ckpt_path: "nowhere.ckpt": no such file']),
        (["trainer.max_epochs=???"], ["trainer.max_epochs: a value is required"]),
        (["callbacks.best=null"], ["callbacks.best: null: must be"]),
        (["~trainer"], ["trainer: ", "must have a _target_"]),
        (["~loss", "module.loss=null"], ["loss: is missing"]),
        (["seed=${sed}"], ["seed: Interpolation key 'sed' not found"]),
        (["optimizer._target_=torch.optim.SDG"], ["torch.optim has no 'SDG'; did you mean SGD?"]),
        (["loss._target_=danet_lightning.train.loses.X"], ["'loses'; did you mean losses?"]),
        (["loss._target_=nowhere.Loss"], ["no module 'nowhere' is installed"]),
        (["loss._target_=torch.optim"], ["torch.optim is a module"]),
        (["dataset=camvd"], ["dataset=camvd: no such option; did you mean camvid?", "scenes"]),
        (["trainer=null"], ["trainer=null: choose from auto, cpu"]),
        (["dataset=[1,2]"], ["dataset=[1,2]: choose from ade20k"]),
        (
            ["trainer.limit_train_batches=3"],
            ["no file sets it; write +trainer.limit_train_batches=3"],
        ),
        (["hydra.run.dri=x"], ["hydra.run.dri: Key 'dri' not in 'RunDir'"]),
        (["batch_size"], ["'batch_size': an override is key=value, and this has no '='"]),
        (["ckpt_path=epoch=3.ckpt"], ["cannot be read", "quote: 'ckpt_path=\"epoch=3.ckpt\"'"]),
        (["=3"], ["this has no key"]),
        (["run_dir='b\udcfcro'"], ["run_dir=b\udcfcro: the bytes of this name are no UTF-8"]),
        (["model.pam=true,false"], ["model.pam=true,false", "--multirun"]),
        (["~dataset.bogus"], ["'dataset.bogus' does not exist"]),
        (["--config-dir", "nowhere"], ["nowhere: no such folder"]),
    ],
    ids=lambda value: " ".join(value) if value[0].isascii() else None,
)
def test_a_wrong_request_is_refused_by_name(arguments: list[str], parts: list[str]) -> None:
    told = refusal(*arguments)
    for part in parts:
        assert part in told


def test_all_problems_are_told_at_once_and_once_each() -> None:
    told = refusal(
        "augmentation.crop_size=[0,64]", "batch_size=0", "+backbone.multi_grid=4", "seed=x"
    )
    keys = [line.partition(":")[0] for line in told.splitlines()]
    # data.batch_size, data.seed and model.backbone are references to what is told already
    assert keys == ["seed", "batch_size", "augmentation.crop_size", "backbone.multi_grid"]
    told = refusal("augmentation.crop_siz=[0,64]", "batch_size=0", "optimizer.lrr=1")
    keys = [line.partition(":")[0] for line in told.splitlines()]
    assert keys == ["augmentation.crop_siz", "optimizer.lrr"]  # what takes no imports comes first


@pytest.mark.parametrize(
    "arguments",
    [
        ["+trainer.limit_train_batches=3"],
        ["trainer.devices=3"],
        ["trainer.devices=auto", "batch_size=7"],
        ["optimizer.lr=1"],  # an int for a float
        ["optimizer=adamw", "+optimizer.betas=[0.9,1]"],
        ["~callbacks.pictures"],
        ["run_dir='a b=c'"],
        # what Lightning appends for its second process
        ["hydra.run.dir='a b=c'", "hydra.job.name=train_ddp_process_1", "hydra.output_subdir=null"],
    ],
    ids=" ".join,
)
def test_a_right_request_passes(arguments: list[str]) -> None:
    check_command_line("train", TrainConfig, arguments)


def test_own_data_need_a_root_and_classes_and_fit_their_types() -> None:
    told = refusal("dataset=folder")
    assert "dataset.root: a value is required" in told
    assert "dataset.classes: a value is required" in told
    for value, part in {
        "classes=[road]": "must be 2 to 254 names; what belongs to nothing else is a class",
        "classes=[road,road]": "road occurs 2 times",
        "classes=road": "must be a list",
        "classes=[false,sky]": "entry 0 must be text, which names like no, null",
        "ids=[0,-1]": "entry 1 must be greater",
        "colors=[[0,0,0],[0,0,256]]": "entry 1 entry 2 must be less",
        "val_fraction=1": "must be less than 1",
        "ignore=void": "must be a valid integer",
    }.items():
        told = refusal(*chosen("folder"), f"dataset.{value}")
        assert told.startswith(f"dataset.{value.partition('=')[0]}: ")
        assert part in told
    for key in ("images", "masks", "list_file"):  # Hydra reads a bare { as a mapping
        assert literal(f"dataset.{key}=a/{{split}}") == f"dataset.{key}='a/{{split}}'"
    for value in ("ignore=null", "ignore=[0,255]", "ignore=[[0,0,0]]", "images='a b/{split}'"):
        check_command_line("train", TrainConfig, [*chosen("folder"), f"dataset.{value}"])


# ---- sweeps


def test_every_point_of_a_sweep_is_checked_first() -> None:
    check_command_line("train", TrainConfig, ["-m", "model.pam=true,false", "seed=1,2"])
    told = refusal("-m", "model.cam=true,false", "model.cam_variant=paper,offical")
    assert told.startswith("In the job model.cam=True model.cam_variant=offical:\n")
    assert "batch_size: 3 must be divisible" in refusal(
        "-m", "batch_size=range(2,5)", "trainer.devices=1,2"
    )


def test_a_sweep_written_in_a_file_is_checked(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\nhydra:\n  sweeper:\n    params:\n      batch_size: 8,0\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    told = refusal("-m", "--config-dir", str(tmp_path), "experiment=mine")
    assert told == "In the job batch_size=0:\nbatch_size: 0: must be greater than 0"


# ---- how a command ends


@pytest.fixture
def start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[..., tuple[int, list[DictConfig]]]]:
    """Launch `train` in this process with a task; returns the exit code and the configs it saw."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # launch sets both; undone after the test
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")

    def launched(
        *arguments: str, fail: Callable[[DictConfig], None] = lambda config: None
    ) -> tuple[int, list[DictConfig]]:
        seen = []

        def train(config: DictConfig, run_dir: Path) -> None:
            assert run_dir.is_dir()
            assert str(run_dir) == config.run_dir == config.callbacks.best.dirpath
            seen.append(config)
            fail(config)

        monkeypatch.setattr(sys, "argv", ["danet", *arguments, *QUIET])
        try:
            launch_train(train)
        except SystemExit as end:
            return int(end.code or 0), seen
        return 0, seen

    yield launched
    HydraConfig.instance().cfg = None


def test_a_run_leaves_its_folder(start: Any, tmp_path: Path) -> None:
    code, seen = start("run_dir='my runs/a=b'", "seed=3")
    assert (code, seen[0].seed) == (0, 3)
    assert (tmp_path / "my runs" / "a=b" / ".hydra" / "config.yaml").is_file()


def test_a_refused_run_leaves_nothing(start: Any, tmp_path: Path, capfd: Any) -> None:
    assert start("batch_size=0") == (2, [])
    assert capfd.readouterr().err == "batch_size: 0: must be greater than 0\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [["run_dir=file/run"], ["-m", "sweep_dir=file/sweep", "seed=1,2"], ["hydra.run.dir=file/run"]],
    ids=" ".join,
)
def test_an_unwritable_run_folder(
    start: Any, tmp_path: Path, capfd: Any, arguments: list[str]
) -> None:
    (tmp_path / "file").touch()
    assert start(*arguments) == (2, [])
    told = capfd.readouterr().err
    assert re.fullmatch(
        r"run_dir: cannot write file/\w+ \(Not a directory\); set run_dir=...\n", told
    )


# ---- one run, one folder

NOON = "2026-01-02_12-00-00"


def test_runs_of_one_second_have_folders_of_their_own(
    start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with freeze(monkeypatch):
        folders = [Path(start(f"seed={seed}")[1][0].run_dir) for seed in range(3)]
    assert [folder.name for folder in folders] == [NOON, f"{NOON}_2", f"{NOON}_3"]
    assert {folder.parent for folder in folders} == {tmp_path / "runs" / "train"}
    seeds = [OmegaConf.load(folder / ".hydra" / "config.yaml").seed for folder in folders]
    assert seeds == [0, 1, 2]


def test_sweeps_of_one_second_have_folders_of_their_own(
    start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with freeze(monkeypatch):
        for _ in range(2):
            start("-m", "seed=1,2")
    names = [path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("sweeps/*/seed=*")]
    assert sorted(names) == [
        f"sweeps/{name}/seed={seed}" for name in (NOON, f"{NOON}_2") for seed in (1, 2)
    ]


@contextmanager
def freeze(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let all commands start in the same second."""

    class Frozen:
        @staticmethod
        def now() -> datetime:
            return datetime(2026, 1, 2, 12)

    with monkeypatch.context() as patch:
        patch.setattr("hydra.core.utils.datetime", Frozen)
        yield


@pytest.mark.parametrize(
    ("arguments", "held"),
    [
        (["run_dir=here"], "here"),
        (["hydra.run.dir=here"], "here"),
        (["-m", "sweep_dir=here", "seed=1,2"], "here"),
        (["-m", "sweep_dir=here", "seed=1,2"], "here/1"),  # a run that a point's folder is given
    ],
    ids=" ".join,
)
def test_a_folder_in_use_is_refused_untouched_and_free_after_a_kill(
    start: Any, tmp_path: Path, capfd: Any, monkeypatch: Any, arguments: list[str], held: str
) -> None:
    monkeypatch.setattr(claimed.__wrapped__, "__defaults__", (0.2,))  # nobody is about to leave
    folder = tmp_path / held
    folder.mkdir(parents=True)
    (folder / "failed.json").write_text('{"of": "the first"}')
    with other(hold(folder / ".in_use")) as pid:
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
        assert start(*arguments) == (2, [])
        told = capfd.readouterr().err
        key = "sweep_dir" if "-m" in arguments else "run_dir"
        assert re.fullmatch(
            rf"{key}: .*{held} is in use by `.*`, process {pid} on .*, user .*, since 20.*\. Wait "
            rf"until that has ended, or choose another {key}\.\n",
            told,
        )
        assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert start(*arguments)[0] == 0
    assert list(tmp_path.rglob(".in_use")) == []


def test_other_processes_of_a_job_share_its_folder(
    start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    with other(hold(tmp_path / "here" / ".in_use")):
        monkeypatch.setenv("LOCAL_RANK", "1")
        assert start("run_dir=here", "hydra.output_subdir=null")[0] == 0


def test_a_command_without_a_folder_of_its_own_claims_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "best.ckpt").touch()
    arguments = [f"ckpt_path={tmp_path}/best.ckpt", "input=photos", "output=out"]
    assert check_command_line("predict", PredictConfig, arguments) is None


# ---- what a machine may refuse


@pytest.mark.parametrize("file", [None, "/elsewhere/events"])
def test_a_full_disk_that_other_code_meets_is_one_sentence(
    start: Any, capfd: Any, file: str | None
) -> None:
    def fail(config: DictConfig) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", file)

    assert start("run_dir=here", fail=fail)[0] == 1
    told = capfd.readouterr().err
    name = file or r"A file of /.*/here"
    assert re.fullmatch(rf"{name} cannot be written \(No space left on device\)\. Make .*\n", told)


def test_a_worker_that_dies_is_one_sentence(start: Any, capfd: Any) -> None:
    def fail(config: DictConfig) -> None:
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It is ...")

    assert start(fail=fail)[0] == 1
    told = capfd.readouterr().err
    assert "(pid 7) is killed by signal: Bus error" in told
    assert "data.workers=0" in told
    assert len(told.splitlines()) == 1


def test_a_long_name_of_the_temporary_folder(
    start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    """Of 108 bytes in a socket's name, a batch system's TMPDIR can take all."""
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    monkeypatch.setitem(multiprocessing.current_process()._config, "tempdir", None)  # type: ignore[attr-defined]
    opened = []

    def listen(config: DictConfig) -> None:
        with Listener(family="AF_UNIX") as listener:
            opened.append(str(listener.address))
        assert tempfile.gettempdir() == str(long)  # everything else stays where it was told to

    assert start(fail=listen)[0] == 0
    assert opened[0].startswith("/tmp/")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert start(fail=listen)[0] == 2
    told = capfd.readouterr().err
    assert told.startswith(f"TMPDIR={long} is too long")
    assert len(told.splitlines()) == 1


def test_no_folder_for_temporary_files(
    start: Any, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    def nowhere() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "gettempdir", nowhere)
        assert start()[0] == 2
    assert capfd.readouterr().err.startswith("TMPDIR: no folder for temporary files")


def test_a_user_without_a_home(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs with a number for a user."""
    monkeypatch.setenv("HOME", "")
    monkeypatch.delenv("HOME")
    with monkeypatch.context() as patch:
        patch.setattr("pwd.getpwuid", lambda _: {}["nobody"])
        homes = []
        assert start(fail=lambda config: homes.append(Path.home()))[0] == 0
    assert homes[0].stat().st_mode & 0o777 == 0o700
    assert homes[0].parent == Path(tempfile.gettempdir())


def test_a_working_folder_that_is_gone(
    start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert start() == (2, [])
    assert "is gone" in capfd.readouterr().err
    monkeypatch.chdir(tmp_path)


def test_a_request_that_fails_later(start: Any, capfd: Any) -> None:
    def fail(config: DictConfig) -> None:
        raise RequestError("dataset.root: no folder data/camvid")

    assert start(fail=fail)[0] == 2
    assert capfd.readouterr().err == "dataset.root: no folder data/camvid\n"


def test_a_request_that_fails_in_a_worker(
    start: Any, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch.utils.data import DataLoader, _utils

    monkeypatch.setattr(_utils, "MP_STATUS_CHECK_INTERVAL", 0.1)  # which it is given to end

    def fail(config: DictConfig) -> None:
        list(DataLoader(Broken(), num_workers=1))  # type: ignore[arg-type]

    assert start(fail=fail)[0] == 2
    assert capfd.readouterr().err == "mask.png: value 77;\nallowed are 0..10 and 255\n"
    gc.collect()  # the worker, while it is given no longer


class Broken:
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> None:
        raise RequestError("mask.png: value 77;\nallowed are 0..10 and 255")


def test_another_error_keeps_its_traceback(start: Any) -> None:
    def fail(config: DictConfig) -> None:
        raise OSError("disk full")  # not mistaken for a run folder that cannot be made

    with pytest.raises(OSError, match="disk full"):
        start(fail=fail)


def test_an_interrupt(start: Any, capfd: Any) -> None:
    def fail(config: DictConfig) -> None:
        raise KeyboardInterrupt

    assert start(fail=fail)[0] == 130
    assert len(capfd.readouterr().err.splitlines()) == 1


# ---- the commands themselves, in processes of their own

COMMANDS = {
    "python -m": ["-m", "danet_lightning.train"],
    "danet": ["-m", "danet_lightning", "train"],
}
STUB = """
import sys, types
import danet_lightning.train
run = types.ModuleType("danet_lightning.train.run")
def train(config, run_dir):
    import logging, __main__
    logging.getLogger("here").info("fit in %s", run_dir.name)
    print(__main__.__spec__.name, sys.argv[1:])
run.train = train
sys.modules["danet_lightning.train.run"] = danet_lightning.train.run = run
sys.argv[0] = "danet"
from danet_lightning.__main__ import main
main()
"""


def test_help_and_cfg(tmp_path: Path) -> None:
    shown = run(*COMMANDS["danet"], "--help", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    for part in ("dataset: ade20k, camvid, ", "trainer: auto", "batch_size=6", "-m model.pam="):
        assert part in shown.stdout
    shown = run(*COMMANDS["python -m"], "--cfg", "job", "--resolve", "dataset=camvid", cwd=tmp_path)
    assert (shown.returncode, shown.stderr) == (0, "")
    composed = OmegaConf.create(shown.stdout)
    assert isinstance(composed, DictConfig)
    assert composed.data.batch_size == composed.batch_size
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "show"),
    [(COMMANDS["danet"], []), (COMMANDS["python -m"], ["--cfg", "job"])],
    ids=["run", "cfg"],
)
def test_a_typo_on_the_command_line(command: list[str], show: list[str], tmp_path: Path) -> None:
    refused = run(*command, *show, "batch_sise=4", cwd=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("batch_sise: unknown key; did you mean batch_size?")
    assert "Traceback" not in refused.stderr


def test_a_command_runs_as_the_main_module(tmp_path: Path) -> None:
    """Lightning starts its other processes as `python -m` of the main module's name, with argv."""
    (tmp_path / "stub.py").write_text(STUB)
    with start_module("stub", "train", "run_dir=here", cwd=tmp_path) as running:
        done = running.wait()
    arguments = ["--config-path", f"{tmp_path}/here/.hydra", "--config-name", "resolved"]
    assert done.stdout.splitlines() == [
        "fit in here",  # the console has no time stamp
        f"danet_lightning.train {arguments}",
    ], done.stderr
    log = (tmp_path / "here" / "train.log").read_text()
    fit, printed = log.splitlines()
    assert re.fullmatch(r"\[\d{4}-.*\]\[here\]\[INFO\] - fit in here", fit)
    assert printed.endswith(f"[stdout][INFO] - danet_lightning.train {arguments}")


def test_conf_inside_the_package(tmp_path: Path) -> None:
    """As in a wheel, where conf/ lies in the package."""
    package = Path(config_module.__file__).parents[1]
    shutil.copytree(package, tmp_path / "danet_lightning")
    shutil.copytree(CONF, tmp_path / "danet_lightning" / "conf")
    (tmp_path / "empty").mkdir()
    code = (
        "from danet_lightning.config import commands, launch\nprint(launch.conf_dir())\n"
        "with launch.checked_request('check', commands.CheckConfig, ['dataset=camvid']): pass"
    )
    done = run("-c", code, cwd=tmp_path / "empty", PYTHONPATH=str(tmp_path))
    assert done.stdout == f"{tmp_path}/danet_lightning/conf\n", done.stderr


@pytest.mark.parametrize("typo", ["optimizer.lrr=1", "lr=0.1", "datset=camvid", "backbone=resnet"])
def test_a_typo_is_refused_before_anything_heavy_is_imported(typo: str, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom danet_lightning.config import commands, launch\n"
        "try:\n"
        f"  with launch.checked_request('train', commands.TrainConfig, [{typo!r}]): pass\n"
        "except Exception: pass\nelse: raise SystemExit('not refused')\n"
        "print({'torch', 'lightning', 'albumentations', 'wandb', 'numpy'} & set(sys.modules))"
    )
    assert run("-c", code, cwd=tmp_path).stdout == "set()\n"


def test_slurm_is_looked_for_before_a_sweep_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["-m", "hydra/launcher=submitit_slurm", "seed=0,1", f"sweep_dir={tmp_path}/sweep"]
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RequestError, match="this machine has no srun"):
        check_command_line("train", TrainConfig, words)
    (tmp_path / "srun").touch(mode=0o755)
    assert check_command_line("train", TrainConfig, words)


def test_danet_lists_its_verbs(tmp_path: Path) -> None:
    package = Path(config_module.__file__).parents[1]
    assert set(VERBS) == {path.parent.name for path in package.glob("*/__main__.py")}
    listed = run("-m", "danet_lightning", cwd=tmp_path)
    assert listed.returncode == 0
    assert "  train      fit a network" in listed.stdout
    refused = run("-m", "danet_lightning", "trian", cwd=tmp_path)
    assert refused.returncode == 2
    assert "no verb 'trian'; did you mean train? Verbs:" in refused.stderr


# ---- fuzz

WRONG = [None, -1, 0, 3.5, True, "nonsense", [], [1], [1, 2, 3, 4], {"a": 1}, "${nowhere}"]


def leaves(node: Any, key: str = "") -> Iterator[str]:
    for name, value in node.items():
        yield f"{key}{name}"
        if isinstance(value, dict):
            yield from leaves(value, f"{key}{name}.")


@pytest.mark.parametrize("seed", range(3))
def test_a_corrupted_config_is_refused_by_name_or_passes(seed: int) -> None:
    generator = random.Random(seed)
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        composed = hydra.compose("train", ["run_dir=r", "sweep_dir=s"])
        plain: Any = OmegaConf.to_container(composed, resolve=True)
        refused = 0
        for _ in range(40):
            key = generator.choice(list(leaves(plain)))
            value = generator.choice(WRONG)
            misspelt = generator.random() < 0.3
            corrupted = OmegaConf.create(plain)
            assert isinstance(corrupted, DictConfig)
            with open_dict(corrupted):
                if misspelt:
                    OmegaConf.update(corrupted, f"{key}_", value, force_add=True)
                else:
                    OmegaConf.update(corrupted, key, value, merge=False)
            told = problems_of(corrupted)
            refused += bool(told)
            named = [line for line in told if line.startswith((key, key.partition(".")[0]))]
            case = f"seed {seed}: {key} = {value!r} (misspelt: {misspelt})"
            assert bool(named) == bool(told), f"{case}: {told}"
        assert refused > 20, f"seed {seed}: {refused} of 40 refused"


def problems_of(config: DictConfig) -> list[str]:
    try:
        validate(config, TrainConfig)
    except RequestError as error:
        return str(error).splitlines()
    return []
