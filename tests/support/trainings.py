"""A training of seconds, how it is killed and started again, and what it leaves."""

import json
from pathlib import Path

from commands import danet
from comparison import differences

QUICK = [
    "trainer=cpu", "trainer.precision=32-true", "batch_size=2",
    "backbone._target_=small_net.SmallNet", "~callbacks.pictures",
]  # fmt: skip
TINY = [
    *QUICK, "trainer.max_epochs=2", "trainer.log_every_n_steps=1", "logger=csv",
    "dataset.train_images=8", "dataset.val_images=3", "dataset.test_images=3",
    "dataset.size=[32,64]", "augmentation.crop_size=[32,64]", "augmentation.color_jitter=0.3",
]  # fmt: skip
TRUSTED = "trusted=[small_net]"  # for the commands that read its checkpoint
# what the commands of a killed run have, and of one that was left alone have not
HOW = tuple(
    f"danet_lightning/config/{key}"
    for key in ("callbacks/killer*", "callbacks/last/every_minutes", "data/workers")
)
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


def same_runs(one: Path, other: Path, *but: str) -> None:
    """Everything that two runs leave, but what names their folder, and how one was killed."""
    assert differences(one, other, but=(*HOW, *but)) == []


def matrix_of(run: Path) -> list[list[int]]:
    """The confusion matrix of a run's final evaluation."""
    return json.loads((run / "results.json").read_text())["confusion_matrix"]
