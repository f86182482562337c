"""Files that a kill leaves whole: the old one or the new one."""

import os
import time
from pathlib import Path

import pytest
import torch
from commands import SERVER, danet
from trainings import TINY

from danet_lightning.checkpoints.saving import AtomicCheckpointIO, save_atomically, write_atomically
from danet_lightning.errors import RunError

PICTURES = [argument for argument in TINY if argument != "~callbacks.pictures"]


def test_nothing_is_written_anywhere_else(tmp_path, monkeypatch):
    """$TMPDIR may be on another file system, or full, or gone."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    monkeypatch.setattr("tempfile.tempdir", None)
    target = tmp_path / "run" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"weight": torch.ones(3)}, target)
    assert torch.equal(torch.load(target, weights_only=True)["weight"], torch.ones(3))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["last.ckpt"]


def test_content_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(os, "fsync", lambda _: done.append("fsync"))
    replace = Path.replace
    monkeypatch.setattr(
        Path, "replace", lambda part, target: (done.append("rename"), replace(part, target))
    )
    write_atomically(tmp_path / "file", lambda file: file.write(b"x"))
    assert done == ["fsync", "rename"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_full_disk_is_told_and_leaves_the_old_file(tmp_path):
    target = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"global_step": 1}, target)
    before = target.read_bytes()
    (tmp_path / "last.ckpt.part").symlink_to("/dev/full")
    with pytest.raises(RunError, match=r"step 2 cannot be written .No space left .* still there"):
        AtomicCheckpointIO().save_checkpoint({"global_step": 2, "x": torch.ones(9999)}, target)
    assert target.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_each_file_of_a_training_says_that_the_disk_is_full(tmp_path):
    """And what the disk has by then stays; the same command goes on from it, to the next one."""
    (tmp_path / "run" / ".hydra").mkdir(parents=True)
    for file in (
        *(".hydra/config.yaml", ".hydra/resolved.yaml", "config.yaml.part", "metrics.csv.part"),
        *("last.ckpt.part", "best.ckpt.part", "predictions.png.part", "curves.png.part"),
        *("confusion.png.part", "results.json.part"),
    ):
        path = tmp_path / "run" / file
        path.unlink(missing_ok=True)
        path.symlink_to("/dev/full")
        failed = danet("train", *PICTURES, "run_dir=run", cwd=tmp_path)
        assert failed.returncode == 1, f"{file}: {failed.stderr}"
        told = [line for line in failed.stderr.splitlines() if "No space left on device" in line]
        assert len(told) == 1, f"{file}: {failed.stderr}"
        name = file.removesuffix(".part").removeprefix(".hydra/")
        assert name in told[0] or "A file of" in told[0]
        assert "Make room" in told[0]
        assert "Traceback" not in failed.stderr
        path.unlink(missing_ok=True)
    assert danet("train", *PICTURES, "run_dir=run", cwd=tmp_path).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_training_goes_on_without_its_log(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "train.log").symlink_to("/dev/full")
    done = danet("train", *PICTURES, "logger=wandb", "run_dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("train.log cannot be written (No space left on device)") == 1
    assert "Traceback" not in done.stderr


def write_for_ever(target: Path) -> None:
    for step in range(10**6):
        save_atomically({"step": step, "x": torch.full((10**7,), step)}, target)


@pytest.mark.slow
def test_kill_in_the_middle_of_a_write(tmp_path):
    """At moments inside a write of 80 MB: the file is always a whole one."""
    target = tmp_path / "last.ckpt"
    caught = 0
    for attempt in range(60):
        if caught and attempt >= 6:
            break
        target.unlink(missing_ok=True)
        process = SERVER.Process(target=write_for_ever, args=(target,))
        process.start()
        while not target.exists():
            assert process.is_alive()
            time.sleep(0.001)
        time.sleep(0.02 * (attempt % 6))  # on a busy machine most of them come between two writes
        process.kill()
        process.join()
        caught += target.with_name("last.ckpt.part").exists()
        content = torch.load(target, weights_only=True)
        assert (content["x"] == content["step"]).all()
    assert caught, "no kill was in the middle of a write"
