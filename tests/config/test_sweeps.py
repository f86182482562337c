"""Sweeps: what fails, what is told of it, what runs again, and that every rank runs one config."""

import contextlib
import itertools
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import danet
from hydra.core.hydra_config import HydraConfig
from launching import check_command_line, launch_train
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from trainings import QUICK, TINY

from danet_lightning.checkpoints.metadata import config_hash
from danet_lightning.config import sweep as sweep_module
from danet_lightning.config.commands import TrainConfig
from danet_lightning.config.sweep import share_cores, side_by_side
from danet_lightning.errors import RequestError, RunError
from danet_lightning.processes import launching as processes

QUIET = ["hydra/job_logging=none", "hydra/hydra_logging=none"]  # pytest's own handlers stay
ODD = "mein 'Übungs' \"ordner\" a=b"
PAIR = [
    *TINY, "trainer.max_epochs=1", "trainer.devices=2", "sweep_dir=here",
    "+callbacks.probe._target_=probe.Probe", "+callbacks.probe.run_dir=${run_dir}",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where commands are typed."""
    (tmp_path / ODD).mkdir()
    return tmp_path / ODD


def points_of(sweep_dir: Path) -> list[str]:
    return sorted(path.name for path in sweep_dir.iterdir() if path.is_dir() and "=" in path.name)


# ---- how a sweep ends, with a task that only fails


@pytest.fixture
def swept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Launch a sweep over `seed` in this process; returns its code and the seeds that ran."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # launch sets both; undone after the test
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")

    def launched(errors: dict[int, BaseException], *arguments: str) -> tuple[int, list[int]]:
        seen = []

        def train(config: DictConfig, run_dir: Path) -> None:
            seen.append(config.seed)
            if config.seed in errors:
                raise errors[config.seed]

        monkeypatch.setattr(sys, "argv", ["danet", "-m", "seed=1,2,3", *arguments, *QUIET])
        try:
            launch_train(train)
        except SystemExit as end:
            return int(end.code or 0), seen
        return 0, seen

    yield launched
    HydraConfig.instance().cfg = None


@pytest.mark.parametrize(
    ("errors", "code"),
    [
        ({2: RunError("the loss is nan"), 3: OSError("disk full")}, 1),
        ({1: OSError("disk full"), 2: RequestError("no data")}, 2),
    ],
    ids=["runs that fail", "a wrong request"],
)
def test_a_failing_point_stops_no_other_and_the_code_tells(
    swept: Any, capfd: Any, caplog: Any, errors: dict[int, Exception], code: int
) -> None:
    assert swept(errors, "sweep_dir=here") == (code, [1, 2, 3])
    told = capfd.readouterr().err
    end = told.partition(f"{len(errors)} of the sweep's points failed:\n")[2].splitlines()
    for line, (seed, error) in zip(end, sorted(errors.items()), strict=False):
        assert line.startswith(f"  here/seed={seed}  seed={seed}  ")
        assert str(error) in line
        if not isinstance(error, OSError):
            assert f"/here/seed={seed}: {error}\n" in told  # at once
    assert len(end) == len(errors) + 1
    assert "Traceback" not in told
    assert caplog.text.count("Traceback") == 1  # of what has no name, in the point's log
    assert points_of(Path("here")) == ["seed=1", "seed=2", "seed=3"]


def test_the_end_of_a_point_that_is_told_to_stop_is_the_end_of_the_sweep(
    swept: Any, capfd: Any
) -> None:
    assert swept({2: SystemExit(143)}, "sweep_dir=here") == (143, [1, 2])
    assert "What is missing is run by: " in capfd.readouterr().err


def test_the_command_for_what_is_missing_keeps_the_folder(
    swept: Any, tmp_path: Path, capfd: Any
) -> None:
    assert swept({2: RequestError("no data")}) == (2, [1, 2, 3])
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("What is missing is run by: python -m danet_lightning.train -m seed=1,")
    added = [each for each in shlex.split(last) if each.startswith("sweep_dir=")]
    assert swept({}, *added) == (0, [1, 2, 3])
    assert "failed" not in capfd.readouterr().err  # the note of the first start is gone
    (sweep_dir,) = (tmp_path / "sweeps").iterdir()
    assert points_of(sweep_dir) == ["seed=1", "seed=2", "seed=3"]


def test_a_sweep_ends_with_its_means_and_the_command_that_shows_more(
    swept: Any, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(config: DictConfig, run_dir: Path) -> None:
        if config.seed == 2 and not config.model.pam:
            raise RunError("the loss is nan")
        results = {"miou": 0.1 * (1 + config.seed + config.model.pam), "class_iou": {}}
        (run_dir / "results.json").write_text(json.dumps(results))

    for given in (["seed=1,2", "model.pam=true,false"], ["seed=1"]):
        monkeypatch.setattr(sys, "argv", ["danet", "-m", *given, "sweep_dir=my sweep", *QUIET])
        with contextlib.suppress(SystemExit):
            launch_train(train)
        rows = {line.split("  ")[0]: line.split() for line in capfd.readouterr().out.splitlines()}
        if len(given) == 2:
            assert rows["model.pam=true"][1:4] == ["0.3500", "0.0707", "0.4000"]  # 0.3 and 0.4
            assert rows["model.pam=false"][1:3] == ["0.2000", "—"]
            assert rows["model.pam=false"][-3:] == ["1", "of", "2"]
            assert "-0.1000 (1 seed)" in " ".join(rows["model.pam=false"])
            assert "compare: danet report runs='my sweep'" in rows


# ---- one configuration for all processes of a job


def test_a_job_leaves_the_process_as_it_was(swept: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Lightning sets for its processes would make the next job one of them."""
    seen = []

    def train(config: DictConfig, run_dir: Path) -> None:
        seen.append({key: os.environ.get(key) for key in processes.LEFT})
        assert HydraConfig.get().run.dir == str(run_dir)
        assert sys.argv[1:] == [
            "--config-path", str(run_dir / ".hydra"), "--config-name", "resolved",
        ]  # fmt: skip
        os.environ.update(dict.fromkeys(processes.LEFT, "1"))
        if config.seed == 1:
            raise RunError("restored after a failure too")

    for key in processes.LEFT:
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("MASTER_PORT", "1234")
    argv = ["danet", "-m", "seed=1,2", "sweep_dir=here", *QUIET]
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit):
        launch_train(train)
    expected = dict.fromkeys(processes.LEFT) | {"MASTER_PORT": "1234"}
    assert seen == [expected, expected]
    assert {key: os.environ.get(key) for key in processes.LEFT} == expected
    assert sys.argv[: len(argv)] == argv


def test_a_job_without_records_starts_its_processes_all_the_same(swept: Any) -> None:
    """Their command line would be the sweep's, and a sampling sweeper would draw anew."""
    places = []

    def train(config: DictConfig, run_dir: Path) -> None:
        assert sys.argv[1::2] == ["--config-path", "--config-name"]
        places.append(Path(sys.argv[2]))
        assert OmegaConf.load(places[-1] / f"{sys.argv[4]}.yaml") == config
        assert [path.name for path in run_dir.iterdir()] == [".in_use"]

    sys.argv = ["danet", "-m", "seed=1,2", "sweep_dir=here", "hydra.output_subdir=null", *QUIET]
    launch_train(train)
    assert len(places) == 2
    assert not any(place.exists() for place in places)


def test_a_resolver_is_asked_once(swept: Any) -> None:
    """What the first process trains is what the others are given, and what is kept."""
    OmegaConf.register_new_resolver("drawn", lambda: float(next(draws)), use_cache=False)
    draws = itertools.count(1)

    def train(config: DictConfig, run_dir: Path) -> None:
        kept = OmegaConf.load(Path(sys.argv[2]) / f"{sys.argv[4]}.yaml")
        assert config.optimizer.lr == config.optimizer.lr == kept.optimizer.lr

    sys.argv = ["danet", "run_dir=here", "optimizer.lr=${drawn:}", *QUIET]
    try:
        launch_train(train)
    finally:
        OmegaConf.clear_resolver("drawn")


def test_other_processes_change_their_folder_too(swept: Any) -> None:
    def train(config: DictConfig, run_dir: Path) -> None:
        assert sys.argv[-1] == "hydra.job.chdir=true"

    sys.argv = ["danet", "run_dir=here", "hydra.job.chdir=true", *QUIET]
    launch_train(train)
    assert os.environ["MPLBACKEND"] == "agg"  # whatever a notebook has set


def test_a_resolved_configuration_is_a_request_of_its_own(swept: Any, tmp_path: Path) -> None:
    """It passes the same checks, and means the same, whatever its values are."""
    hashes = []

    def train(config: DictConfig, run_dir: Path) -> None:
        plain: Any = OmegaConf.to_container(config, resolve=True)
        hashes.append(config_hash(plain))

    sys.argv = [
        "danet",
        f"run_dir={ODD}",
        "optimizer.lr=1e-5",
        "+trainer.limit_val_batches=2",
        *QUIET,
    ]
    launch_train(train)
    record = tmp_path / ODD / ".hydra"
    again = ["--config-path", str(record), "--config-name", "resolved"]
    check_command_line("train", TrainConfig, again)
    HydraConfig.instance().cfg = None
    # as Lightning's other processes are started
    folder = processes.QuotedString(str(tmp_path / ODD), processes.Quote.double).with_quotes()
    sys.argv = ["danet", *again, f"hydra.run.dir={folder}", "hydra.output_subdir=null", *QUIET]
    launch_train(train)
    assert len(hashes) == 2
    assert hashes[0] == hashes[1]
    assert config_hash({"a": 1, "b": [2]}) == config_hash({"b": [2], "a": 1})
    assert config_hash({"a": 1}) != config_hash({"a": 1.5})


@pytest.mark.slow
@pytest.mark.ddp
def test_two_ranks_of_two_points(folder: Path) -> None:
    """Lightning's second process of a point would run the whole sweep."""
    done = danet("train", "-m", *PAIR, "logger=wandb", "model.pam=true,false", cwd=folder)
    assert done.returncode == 0, done.stderr
    sweep_dir = folder / "here"
    assert len(points_of(sweep_dir)) == 2
    networks = [torch.load(path, weights_only=True) for path in sweep_dir.glob("*/best.ckpt")]
    assert len({frozenset(each["state_dict"]) for each in networks}) == 2
    assert len({path.name for path in folder.rglob("offline-run-*")}) == 2
    assert len(list(folder.rglob("results.json"))) == 2
    assert done.stdout.count("a constant predictor") == 2
    assert len(hashes_of(sweep_dir)) == 2
    assert not list(sweep_dir.rglob("*ddp*"))  # neither a log nor a record of the second process


@pytest.mark.slow
@pytest.mark.ddp
def test_two_ranks_of_a_random_sweep_without_records(folder: Path) -> None:
    """From its own command line, the second process would draw other values."""
    done = danet(
        "train", "-m", *PAIR, "hydra/sweeper=optuna", "hydra/sweeper/sampler=random",
        "hydra.sweeper.n_trials=2", "hydra.output_subdir=null",
        "optimizer.lr=interval(0.001,0.01)", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(hashes_of(folder / "here")) == 2
    rates = {json.loads(path.read_text())["lr"] for path in folder.rglob("rank0.json")}
    assert len(rates) == 2
    scores = {json.loads(path.read_text())["miou"] for path in folder.rglob("results.json")}
    best = (folder / "here" / "optimization_results.yaml").read_text()
    assert f"best_value: {max(scores)}" in best
    assert "alembic" not in done.stdout + done.stderr


def hashes_of(sweep_dir: Path) -> list[str]:
    """The configuration hash of each point, after a look at both of its ranks."""
    found = []
    for name in points_of(sweep_dir):
        said = [json.loads((sweep_dir / name / f"rank{n}.json").read_text()) for n in (0, 1)]
        assert said[0]["hash"] == said[1]["hash"]
        assert "-m" not in said[1]["argv"]
        found.append(said[0]["hash"])
    return list(dict.fromkeys(found))


# ---- what fails, and what is run again


@pytest.mark.slow
def test_a_mended_sweep_only_runs_what_is_missing(folder: Path) -> None:
    command = [
        "-m", *QUICK, "dataset=folder", "dataset.root=first,second", "dataset.classes=[a,b]",
        "augmentation.crop_size=[32,64]", "trainer.max_epochs=1", "logger=csv", "sweep_dir=here",
    ]  # fmt: skip
    write_images(folder / "first")
    failed = danet("train", *command, cwd=folder)
    assert failed.returncode == 2, failed.stderr
    assert (
        "1 of the sweep's points failed:\n  here/dataset.root=second  dataset.root=second  "
        in failed.stderr
    )
    assert "Traceback" not in failed.stderr
    first, second = (folder / "here" / f"dataset.root={it}" for it in ("first", "second"))
    results = first / "results.json"
    written = results.stat().st_mtime_ns
    assert not (second / "last.ckpt").exists()
    write_images(folder / "second")
    mended = danet("train", *command, cwd=folder)
    assert mended.returncode == 0, mended.stderr
    assert mended.stdout.count("is finished") == 1
    assert results.stat().st_mtime_ns == written
    assert (second / "results.json").is_file()


def write_images(root: Path) -> None:
    """Two classes, four images to train on and two to validate."""
    for split, count in {"train": 4, "val": 2}.items():
        for kind, shape in {"images": (32, 64, 3), "masks": (32, 64)}.items():
            (root / split / kind).mkdir(parents=True)
            for index in range(count):
                pixels = np.random.default_rng([index, count]).integers(0, 2, shape, np.uint8)
                name = f"{index}.png"
                Image.fromarray(pixels).save(root / split / kind / name)


@pytest.mark.slow
def test_a_folder_of_another_point_is_refused(folder: Path) -> None:
    """Folders that are numbered: a sweep that is defined anew finds others' there."""
    numbered = "hydra.sweep.subdir=${hydra.job.num}"
    command = ["-m", *TINY, "trainer.max_epochs=1", "sweep_dir=here", numbered]
    first = danet("train", *command, "optimizer.lr=0.001,0.002", cwd=folder)
    assert first.returncode == 0, first.stderr
    kept = [(path, path.read_bytes()) for path in sorted(folder.glob("here/*/config.yaml"))]
    other = danet("train", *command, "optimizer.lr=0.002,0.001", cwd=folder)
    assert other.returncode == 2, other.stderr
    assert "2 of the sweep's points failed" in other.stderr
    assert "optimizer.lr: 0.001 in the checkpoint, 0.002 now" in other.stderr
    assert kept == [(path, path.read_bytes()) for path, _ in kept]


@pytest.mark.slow
@pytest.mark.ddp
def test_a_bug_in_two_ranks_stops_no_other_point(folder: Path) -> None:
    """Lightning kills the first process, and the sweep with it, when another ends with an error."""
    done = danet(
        "train", "-m", *PAIR, "loss._target_=probe.Loss", "+loss.fails=true,false", cwd=folder
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert (
        "1 of the sweep's points failed:\n  here/+loss.fails=True  +loss.fails=True  "
        in done.stderr
    )
    assert "a bug in the loss" in (folder / "here" / "+loss.fails=True" / "train.log").read_text()
    assert not (folder / "here" / "+loss.fails=True" / "results.json").exists()
    assert (folder / "here" / "+loss.fails=False" / "results.json").is_file()


@pytest.mark.parametrize(
    ("launcher", "jobs", "given", "threads"),
    [
        ("LocalLauncher", 1, None, "2"),  # 3 points on 7 cores
        ("LocalLauncher", 20, None, "1"),
        ("LocalLauncher", 1, "5", "5"),
        ("BasicLauncher", 1, None, None),
        ("SlurmLauncher", 1, None, None),
    ],
)
def test_points_side_by_side_share_the_cores(
    launcher: str, jobs: int, given: str | None, threads: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    node = {"launcher": {"_target_": f"a.{launcher}"}, "sweeper": {"n_jobs": jobs}}
    monkeypatch.setattr(sweep_module, "cores", lambda: 7)
    monkeypatch.setenv("OMP_NUM_THREADS", given or "")
    if given is None:
        monkeypatch.delenv("OMP_NUM_THREADS")
    share_cores(side_by_side(3, OmegaConf.create(node)))
    assert os.environ.get("OMP_NUM_THREADS") == threads


@pytest.mark.slow
@pytest.mark.ddp
def test_submitit_runs_one_job_a_point(folder: Path) -> None:
    """Each in a process of its own, from which Lightning starts a second one."""
    done = danet(
        "train", "-m", *PAIR, "hydra/launcher=submitit_local", "seed=0,1", cwd=folder
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(hashes_of(folder / "here")) == 2
    assert len(list((folder / "here" / ".submitit").glob("*/*_result.pkl"))) == 2
    assert len(list(folder.rglob("results.json"))) == 2
