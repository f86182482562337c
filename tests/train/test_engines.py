"""What starts the processes of a run: torchrun, SLURM, FSDP; and what is refused beside them."""

import socket
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from commands import danet, start_module
from hydra.core.hydra_config import HydraConfig
from launching import check_command_line
from lightning import Trainer
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    EarlyStopping,
    GradientAccumulationScheduler,
    StochasticWeightAveraging,
)
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.plugins import HalfPrecision
from omegaconf import OmegaConf
from processes import devices, succeed, together
from trainings import EVERY_STEP, TINY, killed_at, same_runs

from danet_lightning.config.building import run_errors
from danet_lightning.config.commands import TrainConfig
from danet_lightning.config.overrides import compose
from danet_lightning.config.request import conf_dir
from danet_lightning.config.trainer import build_trainer, refuse_unsupported
from danet_lightning.errors import RequestError

PAIR = [*TINY, *devices(2), "trainer.max_epochs=3"]
OUTSIDE = {
    "torchrun": {"TORCHELASTIC_RUN_ID": "none", "RANK": "0"},
    "srun": {"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "danet", "SLURM_PROCID": "0"},
}


@pytest.fixture(params=OUTSIDE.values(), ids=list(OUTSIDE))
def outside(request: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a process that another program has started beside others."""
    for name, value in request.param.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("outside")
def test_processes_started_outside_need_a_run_folder_without_the_time() -> None:
    with pytest.raises(RequestError, match=r"run_dir: runs/.*names the time.*Set run_dir="):
        check_command_line("train", TrainConfig, ["batch_size=8"])
    check_command_line("train", TrainConfig, ["run_dir=here"])


@pytest.mark.usefixtures("outside")
def test_processes_started_outside_do_not_sweep() -> None:
    with pytest.raises(RequestError, match="-m: torchrun and srun would start the whole sweep"):
        check_command_line("train", TrainConfig, ["-m", "run_dir=here", "seed=1,2"])


def test_one_process_or_a_shell_may_name_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "1")
    check_command_line("train", TrainConfig, [])
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.setenv("SLURM_JOB_NAME", "interactive")
    check_command_line("train", TrainConfig, [])


def test_a_refusal_is_told_by_one_of_the_processes(tmp_path: Path) -> None:
    told = [
        danet("train", cwd=tmp_path, TORCHELASTIC_RUN_ID="none", RANK=rank) for rank in ("0", "1")
    ]
    assert [each.returncode for each in told] == [2, 2]
    assert told[0].stderr.startswith("run_dir: ")
    assert told[1].stderr == ""
    assert list(tmp_path.iterdir()) == []


def composed(*overrides: str) -> dict[str, Any]:
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        try:
            resolved: Any = OmegaConf.to_container(compose("train", overrides), resolve=True)
        finally:
            HydraConfig.instance().cfg = None
    return resolved


def test_slurm_tells_the_trainer_and_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    job = {"SLURM_JOB_ID": "77", "SLURM_NNODES": "2", "SLURM_NTASKS_PER_NODE": "4"}
    for name, value in job.items():
        monkeypatch.setenv(name, value)
    config = composed("trainer=slurm")
    trainer = config["trainer"]
    assert (trainer["devices"], trainer["num_nodes"], trainer["strategy"]) == (4, 2, "ddp")
    assert config["run_dir"].endswith("/77")  # the same after a requeue
    with pytest.raises(RequestError, match="batch_size: 9 must be divisible by the 8 processes"):
        check_command_line("train", TrainConfig, ["trainer=slurm", "batch_size=9"])
    assert composed("trainer=slurm", "run_dir=mine")["run_dir"] == "mine"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], True),
        (["trainer.deterministic=true"], False),
        (["trainer.deterministic=warn"], False),
        (["trainer.benchmark=false"], False),
    ],
    ids=str,
)
def test_algorithms_are_searched_unless_it_is_deterministic(
    options: list[str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("benchmark", "deterministic"):
        monkeypatch.setattr(torch.backends.cudnn, name, not expected)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # which Lightning sets
    config = OmegaConf.create(composed("trainer=cpu", "run_dir=run", *options) | {"callbacks": {}})
    try:
        build_trainer(config)
        assert torch.backends.cudnn.benchmark == expected
    finally:
        torch.use_deterministic_algorithms(False)


def test_submitit_slurm_composes() -> None:
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = hydra.compose(
            "train", ["hydra/launcher=submitit_slurm", "trainer=slurm"], return_hydra_config=True
        )
    assert config.hydra.launcher._target_.endswith("SlurmLauncher")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("dataset.root=nowhere", "nowhere"),
        ("backbone.pretrained=gone.pth", "gone.pth: no such file"),
        ("trainer.precision=64-true", "trainer.precision"),
        ("trainer.precision=16", "trainer.precision"),
        ("trainer.strategy=foo", "strategy='foo'"),
        ("callbacks.best.monitor=val/mio", "did you mean val/miou?"),
    ],
)
def test_a_refused_request_leaves_no_folder(tmp_path: Path, option: str, said: str) -> None:
    """Nor has it read data, or started W&B."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "notes.txt").write_text("mine")
    for folder in ("new/inner", "here"):
        arguments = ["dataset=camvid", "trainer=cpu", f"run_dir={folder}", option]
        if "dataset" not in option:
            arguments[0] = "dataset=scenes"
        done = danet("train", *arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert said in done.stderr
        assert "wandb" not in done.stdout + done.stderr
    assert not (tmp_path / "new").exists()
    left = {path.name for path in (tmp_path / "here").iterdir()}
    assert left <= {"notes.txt", ".hydra", "train.log"}
    assert (tmp_path / "here" / "notes.txt").read_text() == "mine"


@pytest.mark.skipif(torch.cuda.is_available(), reason="the refusal is for machines without CUDA")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "trainer.accelerator=cuda: PyTorch"),
        (["trainer.accelerator=cpu"], "The strategy `fsdp` requires a GPU accelerator"),
    ],
    ids=["as it is", "on cpu"],
)
def test_fsdp_is_refused_without_cuda(tmp_path: Path, options: list[str], said: str) -> None:
    done = danet("train", "trainer=fsdp", "logger=csv", "run_dir=here", *options, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(said)
    assert "Traceback" not in done.stderr


@pytest.mark.filterwarnings("ignore:.*AMP with fp16 is not supported on CPU")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"strategy": "ddp_spawn", "devices": 2}, "Use trainer.strategy=ddp"),
        ({"strategy": "ddp_fork", "devices": 2}, "Use trainer.strategy=ddp"),
        ({"precision": "16-mixed"}, "trainer.precision=16-mixed: here this is bf16-mixed"),
        ({"plugins": [HalfPrecision("bf16-true")]}, "here this is bf16-true"),
        ({"callbacks": [StochasticWeightAveraging(0.01)]}, "StochasticWeightAveraging changes"),
        ({"callbacks": [GradientAccumulationScheduler({0: 2})]}, "GradientAccumulationScheduler"),
        ({"callbacks": [BatchSizeFinder()]}, "BatchSizeFinder changes"),
    ],
    ids=["spawn", "fork", "16-mixed", "half", "swa", "accumulation", "batch size"],
)
def test_what_would_not_be_as_it_says_is_refused(changes: dict[str, Any], said: str) -> None:
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, **changes)
    with pytest.raises(RequestError, match=said):
        refuse_unsupported(trainer, changes.get("precision", "auto"))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_what_every_training_uses_is_not_refused(precision: Any) -> None:
    options: dict[str, Any] = {"callbacks": [EarlyStopping("val/miou")], "precision": precision}
    refuse_unsupported(Trainer(accelerator="cpu", logger=False, **options), precision)


def test_a_validation_that_never_comes_is_a_sentence() -> None:
    """Lightning compares the interval with the batches when the data is there."""
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        max_epochs=1, val_check_interval=10,
    )  # fmt: skip
    data = torch.utils.data.DataLoader([torch.zeros(32)] * 4, num_workers=0)
    with pytest.raises(RequestError, match=r"trainer.val_check_interval: .*\(10\) must be"):  # noqa: SIM117
        with run_errors():
            trainer.fit(BoringModel(), data, data)
    with pytest.raises(ValueError, match="another"), run_errors():
        raise ValueError("another")


@pytest.mark.slow
@pytest.mark.ddp
def test_processes_with_other_values_each_do_not_train(tmp_path: Path) -> None:
    """As after a random resolver, or a file that was changed between the starts."""
    results = together(
        2, "train", *TINY, *devices(2), "run_dir=pair", "seed='${oc.decode:${oc.env:RANK}}'",
        cwd=tmp_path,
    )  # fmt: skip
    assert [result.returncode for result in results] == [2, 2]
    told = "seed: 0 in process 0, 1 in process 1."
    assert told in results[0].stderr
    assert "Traceback" not in results[0].stderr + results[1].stderr
    assert not (tmp_path / "pair" / "last.ckpt").exists()


@pytest.mark.slow
@pytest.mark.ddp
def test_torchrun_survives_a_killed_rank_and_ends_exact(tmp_path: Path) -> None:
    (tmp_path / "done_start5_0").touch()  # as if the first rank had had it: the second is killed
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [
        "--nproc-per-node=2", "--max-restarts=3", f"--master-port={port}",
        "-m", "danet_lightning.train", *PAIR, EVERY_STEP, *killed_at("start5"), "run_dir=killed",
    ]  # fmt: skip
    environment = {"LOGLEVEL": "INFO"}  # torchrun's own
    with start_module("torch.distributed.run", *arguments, cwd=tmp_path, **environment) as torchrun:
        done = torchrun.wait()
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("will restart worker group") == 1
    succeed(2, "train", *PAIR, "run_dir=whole", cwd=tmp_path)
    same_runs(tmp_path / "whole", tmp_path / "killed")
