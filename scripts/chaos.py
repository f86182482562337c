"""Kill a small training at random moments and compare what is left with an undisturbed one.

    python scripts/chaos.py 30 seed=7 dataset.workers=2

The first argument is the number of kills, the others are overrides of `train`. A run that ends
before the kills are used up is compared and followed by another one. Exit code 1: a difference.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch.utils._pytree import tree_flatten

TRAINING = [
    "trainer=cpu", "trainer.precision=32-true", "trainer.max_epochs=3", "batch_size=2",
    "dataset.train_images=20", "dataset.val_images=5", "dataset.size=[32,64]",
    "dataset.crop_size=[32,64]", "dataset.color_jitter=0.3", "trainer.log_every_n_steps=1",
    "logger=csv", "callbacks.last.every_minutes=1e-9",
]  # fmt: skip
LONGEST = 4.0  # seconds of training before a kill


def start(folder: Path, overrides: list[str]) -> "subprocess.Popen[bytes]":
    """Start the training that goes on in a folder; the leader of its process group."""
    arguments = [*TRAINING, *overrides, "run_dir=run"]
    return subprocess.Popen(
        [sys.executable, "-m", "danet_lightning.train", *arguments],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def finish(folder: Path, overrides: list[str]) -> Path:
    """Let a training run to its end; returns its run folder."""
    process = start(folder, overrides)
    _, stderr = process.communicate()
    if process.returncode:
        sys.exit(stderr.decode())
    return folder / "run"


def kill(folder: Path, overrides: list[str]) -> str | None:
    """Start and kill; returns where it was, or None if the training ended before that."""
    (part := folder / "run" / "last.ckpt.part").unlink(missing_ok=True)  # of the kill before
    process = start(folder, overrides)
    assert process.stderr is not None
    phase, shown = "starting", b""
    if random.random() < 0.1:
        time.sleep(random.uniform(0, 5))
    else:
        while b"train:" not in shown and (chunk := process.stderr.read1()):
            shown += chunk
        phase = f"training {random.uniform(0, LONGEST):.2f} s"
        os.set_blocking(process.stderr.fileno(), False)
        deadline = time.monotonic() + float(phase.split()[1])
        while time.monotonic() < deadline and process.poll() is None:
            process.stderr.read()  # or the pipe would fill and stop the training
            time.sleep(0.005)
    if process.poll() == 0:
        return None
    if process.returncode:
        sys.exit(f"ended with {process.returncode} by itself: {shown.decode()}")
    is_writing = part.exists()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return f"{phase}{', writing a checkpoint' if is_writing else ''}"


def differences(one: Path, other: Path) -> list[str]:
    """What is not the same, bit for bit, in two run folders."""
    found = []
    if (one / "metrics.csv").read_bytes() != (other / "metrics.csv").read_bytes():
        found.append("metrics.csv")
    for name in ("last.ckpt", "best.ckpt"):
        first, second = (torch.load(run / name, weights_only=True) for run in (one, other))
        for key in ("state_dict", "optimizer_states", "lr_schedulers", "loops", "rows"):
            leaves, shape = tree_flatten(first[key])
            others, other_shape = tree_flatten(second[key])
            same = shape == other_shape and all(
                torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
                for a, b in zip(leaves, others, strict=True)
            )
            found += [] if same else [f"{name}: {key}"]
    return found


def main() -> None:
    """Kill as often as asked for, and say what came of it."""
    kills, overrides = int(sys.argv[1]), sys.argv[2:]
    seed = int(os.environ.get("CHAOS_SEED", random.randrange(2**31)))
    random.seed(seed)
    print(f"CHAOS_SEED={seed}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        (folder := Path(scratch) / "undisturbed").mkdir()
        undisturbed = finish(folder, overrides)
        used, finished, wrong = 0, 0, 0
        while used < kills:
            (folder := Path(scratch) / f"disturbed {finished}").mkdir()
            while used < kills and (where := kill(folder, overrides)) is not None:
                used += 1
                print(f"kill {used:3}  {where}", flush=True)
            told = differences(undisturbed, finish(folder, overrides))
            finished += 1
            wrong += bool(told)
            print(f"run {finished} has ended: {', '.join(told) or 'no difference'}", flush=True)
    print(f"{used} kills, {finished} runs ended, {wrong} differ from the undisturbed one")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
