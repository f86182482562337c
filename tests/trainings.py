"""A training of seconds, how it is killed and started again, and what it leaves."""

import json
from pathlib import Path

import torch
from commands import danet

QUICK = [
    "trainer=cpu", "trainer.precision=32-true", "batch_size=2",
    "backbone._target_=small_net.SmallNet", "~callbacks.pictures",
]  # fmt: skip
TINY = [
    *QUICK, "trainer.max_epochs=2", "trainer.log_every_n_steps=1", "logger=csv",
    "dataset.train_images=8", "dataset.val_images=3", "dataset.test_images=3",
    "dataset.size=[32,64]", "dataset.crop_size=[32,64]", "dataset.color_jitter=0.3",
]  # fmt: skip
TRUSTED = "trusted=[small_net]"  # for the commands that read its checkpoint
EVERY_STEP = "callbacks.last.every_minutes=1e-9"


def killed_at(*moments: str, number: int = 9) -> list[str]:
    """The arguments that end a run at each of the moments, once."""
    return [
        "+callbacks.killer._target_=killing.Killer", f"+callbacks.killer.number={number}",
        f"+callbacks.killer.moments=[{','.join(moments)}]",
    ]  # fmt: skip


def until_done(folder: Path, *arguments: str, starts: int) -> list:
    """Start the same command until it ends with 0; returns how each start ended."""
    results = []
    for _ in range(starts):
        results.append(danet("train", *arguments, "run_dir=run", cwd=folder))
        if results[-1].returncode == 0:
            return results
    raise AssertionError(results[-1].stderr)


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


def matrix_of(run: Path) -> list[list[int]]:
    """The confusion matrix of a run's final evaluation."""
    return json.loads((run / "results.json").read_text())["confusion_matrix"]
