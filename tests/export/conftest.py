"""A checkpoint whose attention counts, and what is exported of it, once for all tests."""

from pathlib import Path
from subprocess import CompletedProcess

import pytest
import torch
from commands import danet
from small_net import SmallNet

from danet_lightning.data.drawing import CLASSES, PALETTE
from danet_lightning.models import DANet
from danet_lightning.models.segmenter import MEAN, STD

SCENES = {
    "_target_": "danet_lightning.data.scenes.Scenes", "train_images": 4, "val_images": 3,
    "test_images": 1, "size": [64, 96],
}  # fmt: skip
TRUSTED = "trusted=[small_net]"


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a network in which each pixel's class depends on all others."""
    torch.manual_seed(0)
    options = {"num_classes": len(CLASSES), "gamma_init": 2.0}
    net = DANet(SmallNet(), **options).eval()
    net.position_attention.query.weight.data *= 3  # far from the mean of all values
    for name, buffer in net.named_buffers():  # as if it had seen something
        if name.endswith("running_var"):
            buffer.uniform_(0.05, 0.2)
    model = {
        "_target_": "danet_lightning.models.DANet", **options,
        "backbone": {"_target_": "small_net.SmallNet", "weights": str(Path.home() / "secret")},
    }  # fmt: skip
    protocol = {"_target_": "danet_lightning.evaluate.protocols.MultiView"}
    facts = {
        "config": {"model": model, "protocol": protocol, "dataset": SCENES, "run_dir": "/me/runs"},
        **{"classes": list(CLASSES), "palette": [list(color) for color in PALETTE]},
        **{"mean": list(MEAN), "std": list(STD), "git_commit": "abc", "versions": {"torch": "2"}},
    }
    state = {f"net.{name}": tensor for name, tensor in net.state_dict().items()}
    path = tmp_path_factory.mktemp("exported") / "best.ckpt"
    torch.save({"state_dict": state, "danet_lightning": facts}, path)
    return path


@pytest.fixture(scope="session")
def exported(checkpoint: Path) -> CompletedProcess[str]:
    """What `export` told; beside the checkpoint it has left net.onnx, net.int8.onnx, net.json."""
    done = danet(
        "export", "ckpt_path=best.ckpt", "output=net.onnx", "int8=true", "size=[64,96]", TRUSTED,
        cwd=checkpoint.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="session")
def onnx(checkpoint: Path, exported: CompletedProcess[str]) -> Path:
    return checkpoint.with_name("net.onnx")


@pytest.fixture(scope="session")
def hub(checkpoint: Path) -> Path:
    done = danet(
        "export", "ckpt_path=best.ckpt", "output=hub", "format=hub", TRUSTED, cwd=checkpoint.parent
    )
    assert done.returncode == 0, done.stderr
    return checkpoint.with_name("hub")
