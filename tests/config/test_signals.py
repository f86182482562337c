"""What ends a run from outside or inside, and that nothing is lost by it."""

import os
import signal
from pathlib import Path

import pytest
import torch
from commands import danet, start
from processes import devices, together
from trainings import TINY, killed_at, same_runs, until_done

RARE = "callbacks.last.every_minutes=10"  # nothing but the signal saves in the middle of an epoch


def stopped(number: int, folder: Path, *arguments: str, moment: str, **environment: str) -> str:
    """Start a run that gets the signal at the moment; returns what it said."""
    result = danet(
        "train", *TINY, RARE, *killed_at(moment, number=number), *arguments, "run_dir=run",
        cwd=folder, **environment,
    )  # fmt: skip
    assert result.returncode == 128 + number, result.stderr
    assert "Traceback" not in result.stderr
    return result.stdout + result.stderr


def step_of(folder: Path) -> int:
    return torch.load(folder / "run" / "last.ckpt", weights_only=True)["global_step"]


@pytest.mark.parametrize(
    ("name", "moment", "step"),
    [
        ("SIGTERM", "start1", 2),
        pytest.param("SIGINT", "step5", 6, marks=pytest.mark.slow),
        pytest.param("SIGTERM", "end4", 4, marks=pytest.mark.slow),  # the last of the epoch
        pytest.param("SIGINT", "validation4", 4, marks=pytest.mark.slow),
    ],
)
def test_signal_saves_within_the_step(undisturbed, tmp_path, name, moment, step):
    number = signal.Signals[name]
    said = stopped(number, tmp_path, moment=moment)
    assert f"{name}: stopped after step {step}" in said
    assert step_of(tmp_path) == step
    until_done(tmp_path, *TINY, RARE, *killed_at(moment, number=number), starts=1)
    same_runs(undisturbed, tmp_path / "run")


def test_second_ctrl_c_does_not_wait(tmp_path):
    stuck = "+callbacks.stuck._target_=stuck.Stuck"
    with start("train", *TINY, stuck, "run_dir=run", cwd=tmp_path) as running:
        while not (tmp_path / "stuck").exists():
            assert running.poll() is None
        running.send_signal(signal.SIGINT)
        result = running.wait(60)
    assert result.returncode not in (0, None)
    assert step_of(tmp_path) == 0


@pytest.mark.parametrize("array", [{}, {"SLURM_ARRAY_JOB_ID": "41", "SLURM_ARRAY_TASK_ID": "7"}])
def test_slurm_requeues(tmp_path, array):
    """SIGUSR1, which sbatch --signal sends ahead of the time limit."""
    tool = tmp_path / "bin" / "scontrol"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\necho "$@" > "{tmp_path}/asked"\n')
    tool.chmod(0o755)
    job = {
        "SLURM_JOB_ID": "42", "SLURM_JOB_NAME": "danet", "SLURM_NTASKS": "1", "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_JOB_NODELIST": "localhost",
        "SLURM_NTASKS_PER_NODE": "1", "PATH": f"{tool.parent}:{os.environ['PATH']}", **array,
    }  # fmt: skip
    said = stopped(signal.SIGUSR1, tmp_path, moment="start1", **job)
    assert (tmp_path / "asked").read_text().split() == ["requeue", "41_7" if array else "42"]
    assert "requeued" in said
    assert step_of(tmp_path) == 2


@pytest.mark.ddp
def test_all_processes_stop_at_the_same_step(tmp_path):
    """Only the first one gets the signal, as from `kill`."""
    arguments = killed_at("start1", number=signal.SIGTERM)
    (tmp_path / "done_start1_1").touch()  # the second process has had it
    ended = together(2, "train", *TINY, RARE, *devices(2), *arguments, "run_dir=run", cwd=tmp_path)
    assert [result.returncode for result in ended] == [143, 0], ended[0].stderr
    assert "Traceback" not in ended[0].stderr + ended[1].stderr
    assert step_of(tmp_path) == 2


def test_loss_that_is_no_number_stops_with_the_images(tmp_path):
    result = danet("train", *TINY, "optimizer.lr=1e30", "run_dir=run", cwd=tmp_path)
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    (kept,) = (tmp_path / "run").glob("nonfinite_step_*.pt")
    batch = torch.load(kept, weights_only=True)
    assert batch["image"].shape == (2, 3, 32, 64)
    assert batch["mask"].shape == (2, 32, 64)
    for name in batch["id"]:
        assert name in result.stderr
    assert f"step {batch['step']} is" in result.stderr
    last = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    assert last["global_step"] < batch["step"]
    assert all(tensor.isfinite().all() for tensor in last["state_dict"].values())


def test_full_disk_keeps_the_checkpoint_and_tells(tmp_path):
    stopped(signal.SIGTERM, tmp_path, moment="start1")
    last = tmp_path / "run" / "last.ckpt"
    before = last.read_bytes()
    last.with_name("last.ckpt.part").symlink_to("/dev/full")  # every write fails as on a full disk
    result = danet(
        "train", *TINY, "callbacks.last.every_minutes=1e-9",
        *killed_at("start1", number=signal.SIGTERM),
        "run_dir=run", cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    assert "last.ckpt: the checkpoint of step 2 cannot be written (No space left" in result.stderr
    assert "The one before is still there" in result.stderr
    assert last.read_bytes() == before
