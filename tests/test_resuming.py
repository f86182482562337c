"""Runs that are killed and started again: the same to the last bit as one that was left alone."""

import json
from pathlib import Path

import pytest
import torch

from commands import danet

TINY = [
    "trainer=cpu", "trainer.precision=32-true", "trainer.max_epochs=2", "batch_size=2",
    "dataset.train_images=8", "dataset.val_images=3", "dataset.size=[32,64]",
    "dataset.crop_size=[32,64]", "dataset.color_jitter=0.3", "trainer.log_every_n_steps=1",
    "callbacks.pictures.count=1", "logger=csv",
]  # fmt: skip

EVERY_STEP = "callbacks.last.every_minutes=1e-9"

# A user's own callback, beside the command: it kills the run once at each of its moments.
KILLER = '''
import os, pathlib, signal
from lightning import Callback

class Killer(Callback):
    def __init__(self, moments, number=9):
        self.moments, self.number = moments, number
    def _at(self, trainer, hook):
        moment = f"{hook}{trainer.global_step}"
        mark = pathlib.Path(f"done_{moment}_{trainer.global_rank}")
        if moment in self.moments and not mark.exists() and trainer.state.fn == "fit":
            mark.touch()
            os.kill(os.getpid(), self.number)
    def on_train_batch_start(self, trainer, *_):
        self._at(trainer, "start")
    def on_before_optimizer_step(self, trainer, *_):
        self._at(trainer, "step")
    def on_train_batch_end(self, trainer, *_):
        self._at(trainer, "end")
    def on_validation_batch_end(self, trainer, *_):
        self._at(trainer, "validation")
'''


def killed_at(folder: Path, *moments: str, number: int = 9) -> list[str]:
    """The arguments that end a run at each of the moments, once."""
    (folder / "killing.py").write_text(KILLER)
    return [
        "+callbacks.killer._target_=killing.Killer", f"+callbacks.killer.number={number}",
        f"+callbacks.killer.moments=[{','.join(moments)}]",
    ]  # fmt: skip


def same_tensors(one: Path, other: Path) -> None:
    """Weights, optimizer and schedule, bit for bit."""
    first, second = (torch.load(path, weights_only=True) for path in (one, other))
    assert first["global_step"] == second["global_step"]
    for name, tensor in first["state_dict"].items():
        assert torch.equal(tensor, second["state_dict"][name]), name
    for key in ("optimizer_states", "lr_schedulers", "loops", "rows"):
        flat_one, flat_other = (torch.utils._pytree.tree_leaves(x[key]) for x in (first, second))
        assert len(flat_one) == len(flat_other), key
        for a, b in zip(flat_one, flat_other, strict=True):
            assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, key


def same_runs(one: Path, other: Path) -> None:
    """Everything that two runs leave, but what names their folder."""
    assert (one / "metrics.csv").read_bytes() == (other / "metrics.csv").read_bytes()
    for name in ("last.ckpt", "best.ckpt"):
        same_tensors(one / name, other / name)
    numbers = [json.loads((run / "results.json").read_text()) for run in (one, other)]
    assert numbers[0]["confusion_matrix"] == numbers[1]["confusion_matrix"]
    scores = [
        [float(s) for k, state in sorted(torch.load(run / "last.ckpt", weights_only=True)[
            "callbacks"].items()) if (s := state.get("best_model_score")) is not None]
        for run in (one, other)
    ]  # fmt: skip
    assert scores[0] == scores[1]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    result = danet("train", *TINY, "run_dir=run", cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder / "run"


def until_done(folder: Path, *arguments: str, starts: int) -> list:
    """Start the same command until it ends with 0; returns how each start ended."""
    results = []
    for _ in range(starts):
        results.append(danet("train", *arguments, "run_dir=run", cwd=folder))
        if results[-1].returncode == 0:
            return results
    raise AssertionError(results[-1].stderr)


@pytest.mark.parametrize(
    "moments",
    [
        ["start0"],
        ["step2", "start3"],
        ["end4"],
        ["validation4", "start4"],
        ["start5", "step6", "validation8"],
    ],
    ids=" ".join,
)
def test_killed_runs_end_as_undisturbed_ones(undisturbed, tmp_path, moments):
    results = until_done(
        tmp_path, *TINY, EVERY_STEP, *killed_at(tmp_path, *moments), starts=len(moments) + 1
    )
    assert [result.returncode for result in results] == [-9] * len(moments) + [0]
    same_runs(undisturbed, tmp_path / "run")
