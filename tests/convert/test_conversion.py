"""`convert` as a user types it, from weights under the authors' names to a confusion matrix."""

import json
from pathlib import Path

import pytest
import torch
from commands import danet
from fake_trees import write_camvid
from omegaconf import OmegaConf

from danet_lightning import load
from danet_lightning.checkpoints.loading import read
from danet_lightning.convert import run as conversion
from danet_lightning.errors import RequestError
from danet_lightning.models import DANet, dilated_resnet, export_weights

CAMVID = {
    "_target_": "danet_lightning.data.camvid.CamVid",
    "root": "data/camvid",
}


@pytest.fixture(scope="module")
def net() -> DANet:
    torch.manual_seed(3)
    return DANet(dilated_resnet("resnet18", multi_grid=(4, 8)), 11).eval()


@pytest.fixture
def source(tmp_path: Path, net: DANet) -> Path:
    weights = {f"module.{name}": value for name, value in export_weights(net).items()}
    torch.save({"epoch": 240, "state_dict": weights}, tmp_path / "DANet 18.pth.tar")
    return tmp_path / "DANet 18.pth.tar"


def request(source: Path, **changes: object) -> object:
    return OmegaConf.create(
        {
            "source": str(source),
            "output": str(source.with_name("ours.ckpt")),
            "dataset": CAMVID,
            "protocol": {"_target_": "danet_lightning.evaluate.protocols.MultiView", "flip": True},
            "multi_grid": "source",
            "align_corners": None,
            **changes,
        }
    )


def test_the_checkpoint_is_the_network_with_what_belongs_to_it(
    source: Path, net: DANet, capsys: pytest.CaptureFixture[str]
) -> None:
    conversion.convert(request(source), source.parent)
    assert "the authors' DANet: name resnet18" in capsys.readouterr().out
    loaded = load(source.with_name("ours.ckpt"))
    images = torch.randn(1, 3, 33, 47, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for own, reference in zip(loaded.net(images).values(), net(images).values(), strict=True):
            assert torch.equal(own, reference)
    assert loaded.classes[3] == "road"
    assert loaded.palette[3] == (128, 64, 128)
    assert loaded.protocol.describe()["name"] == "ms_flip"
    assert read(source.with_name("ours.ckpt"))["danet_lightning"]["config"]["source"] == str(source)


def test_what_no_tensor_tells_can_be_said(source: Path) -> None:
    conversion.convert(request(source, multi_grid=[1, 2], align_corners=False), source.parent)
    loaded = load(source.with_name("ours.ckpt"))
    assert loaded.net.backbone.layer4[1].conv1.dilation == (2, 2)
    assert not loaded.net.align_corners


def test_wrong_requests_leave_nothing(source: Path) -> None:
    output = source.with_name("ours.ckpt")
    scenes = {
        "_target_": "danet_lightning.data.voc2012.Voc2012", "root": "x",
    }  # fmt: skip
    with pytest.raises(RequestError, match="it has 21 classes, and these weights classify 11"):
        conversion.convert(request(source, dataset=scenes), source.parent)
    torch.save({"a": torch.ones(1)}, source.with_name("other.pth"))
    with pytest.raises(RequestError, match="neither the authors' DANet"):
        conversion.convert(request(source.with_name("other.pth")), source.parent)
    imagenet = {
        name.removeprefix("backbone."): value
        for name, value in DANet(dilated_resnet("resnet18"), 2).state_dict().items()
        if name.startswith("backbone.")
    }
    torch.save(imagenet, source.with_name("imagenet.pth"))
    with pytest.raises(RequestError, match=r"backbone=resnet18 backbone\.pretrained="):
        conversion.convert(request(source.with_name("imagenet.pth")), source.parent)
    assert not output.exists()


@pytest.mark.slow
def test_convert_then_evaluate(source: Path, tmp_path: Path) -> None:
    """The commands, on a fake tree: exit codes, the table, protocol and data in the results."""
    write_camvid(tmp_path / "Cam Vid")
    done = danet(
        "convert", f"source={source.name}", "output=ä.ckpt", "dataset=camvid", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    done = danet(
        "evaluate", "ckpt_path=ä.ckpt", "+dataset.root=Cam Vid", "protocol=official_ss",
        "protocol.base_size=48", "protocol.crop_size=32", "data.workers=0", "trainer=cpu",
        "run_dir=results", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results" / "results.json").read_text())
    assert results["protocol"]["name"] == "official_ss"
    assert results["protocol"]["images"] == 3
    assert results["protocol"]["label_source"].startswith("SegNet")
    resumed = ["ckpt_path=ä.ckpt", "dataset=camvid", "dataset.root=Cam Vid", "trainer=cpu"]
    refused = danet("train", *resumed, "logger=none", "run_dir=resumed", cwd=tmp_path)
    assert refused.returncode == 2, refused.stderr
    assert "without the state of a training" in refused.stderr
    refused = danet(
        "convert", "source=nothing.pth", "output=b.ckpt", "dataset=camvid", cwd=tmp_path
    )
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "Traceback" not in refused.stderr
