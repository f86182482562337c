"""The same seed, the same weights: whatever reads the images, and however it is started."""

from pathlib import Path

import pytest
import torch
from commands import danet
from trainings import TINY, same_runs, until_done

from danet_lightning.checkpoints.metadata import PACKAGES


@pytest.fixture(scope="module")
def one_epoch(tmp_path_factory) -> Path:
    """The run folder of a training that reads its images itself."""
    folder = tmp_path_factory.mktemp("one epoch")
    until_done(folder, *TINY, "trainer.max_epochs=1", starts=1)
    return folder / "run"


@pytest.mark.slow
@pytest.mark.parametrize(("method", "workers"), [("fork", 2), ("forkserver", 1)])
def test_workers_and_how_they_start_change_nothing(one_epoch, tmp_path, method, workers):
    """A server hands all on as text, as `spawn` does, but imports once for all of its workers."""
    until_done(
        tmp_path, *TINY, "trainer.max_epochs=1", f"data.workers={workers}",
        f"+callbacks.starting.method={method}", "+callbacks.starting._target_=starting.Starting",
        starts=1,
    )  # fmt: skip
    same_runs(one_epoch, tmp_path / "run", "danet_lightning/config/callbacks/starting*")


def test_deterministic_operations_give_the_same_again(undisturbed, tmp_path):
    result = danet("train", *TINY, "trainer.deterministic=true", "run_dir=run", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    same_runs(undisturbed, tmp_path / "run", "danet_lightning/config/trainer/deterministic")


def test_operation_that_cannot_be_deterministic_is_named(tmp_path):
    result = danet(
        "train", *TINY, "trainer.deterministic=true", "loss._target_=loose.Loose", "run_dir=run",
        cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 1, result.stderr
    assert "trainer.deterministic: put_ " in result.stderr
    assert "Traceback" not in result.stderr


def test_checkpoint_says_where_its_numbers_come_from(undisturbed, tmp_path):
    facts = torch.load(undisturbed / "best.ckpt", weights_only=True)["danet_lightning"]
    assert facts["seed"] == {"value": 0, "source": "configuration"}
    assert set(PACKAGES) <= set(facts["versions"])
    assert facts["versions"]["torch"] == torch.__version__.partition("+")[0]
    result = danet("train", *TINY, "seed=3", "trainer.max_epochs=1", "run_dir=run", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    other = torch.load(tmp_path / "run" / "best.ckpt", weights_only=True)
    assert other["danet_lightning"]["seed"] == {"value": 3, "source": "command line"}
    first = torch.load(undisturbed / "best.ckpt", weights_only=True)["state_dict"]
    name = "net.backbone.fourth.weight"
    assert not torch.equal(first[name], other["state_dict"][name])
