"""The same seed, the same weights: whatever reads the images, and however it is started."""

import pytest
import torch
from commands import danet
from trainings import TINY, same_tensors

from danet_lightning.provenance import PACKAGES


@pytest.mark.slow
@pytest.mark.parametrize(("method", "workers"), [("fork", 2), ("spawn", 1)])
def test_workers_and_how_they_start_change_nothing(undisturbed, tmp_path, method, workers):
    (tmp_path / "starting.py").write_text(
        "import multiprocessing\n"
        "from lightning import Callback\n"
        "class Starting(Callback):\n"
        "    def __init__(self, method):\n"
        "        multiprocessing.set_start_method(method, force=True)\n"
    )
    result = danet(
        "train", *TINY, f"dataset.workers={workers}", f"+callbacks.starting.method={method}",
        "+callbacks.starting._target_=starting.Starting", "run_dir=run", cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    same_tensors(undisturbed / "last.ckpt", tmp_path / "run" / "last.ckpt")


def test_deterministic_operations_give_the_same_again(undisturbed, tmp_path):
    result = danet("train", *TINY, "trainer.deterministic=true", "run_dir=run", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    same_tensors(undisturbed / "last.ckpt", tmp_path / "run" / "last.ckpt")


def test_operation_that_cannot_be_deterministic_is_named(tmp_path):
    (tmp_path / "loose.py").write_text(
        "import torch\n"
        "from danet_lightning.losses import SummedCrossEntropy\n"
        "class Loose(SummedCrossEntropy):\n"
        "    def forward(self, outputs, mask):\n"
        "        torch.zeros(3).put_(torch.tensor([1, 1]), torch.ones(2))\n"
        "        return super().forward(outputs, mask)\n"
    )
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
