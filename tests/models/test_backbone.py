from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
import torchvision

from danet_lightning.models import dilated_resnet
from danet_lightning.models.backbone import DilatedResNet


def dilations(stage: Any) -> list[int]:
    """Of the 3x3 convolutions, in order."""
    modules = [m for m in stage.modules() if isinstance(m, torch.nn.Conv2d)]
    return [m.dilation[0] for m in modules if m.kernel_size == (3, 3)]


def twins(name: str, **options: Any) -> tuple[Any, DilatedResNet]:
    """torchvision's network and ours with the same weights, in double precision."""
    theirs = getattr(torchvision.models, name)(weights=None).double().eval()
    ours = dilated_resnet(name, **options).double().eval()
    kept = {n: w for n, w in theirs.state_dict().items() if not n.startswith("fc.")}
    ours.load_state_dict(kept)  # strict: names and shapes are torchvision's
    return theirs, ours


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"])
def test_a_seed_gives_torchvisions_network(name: str, seed: int) -> None:
    """Bit for bit, and the generator is left where it would be; the same features as well."""
    networks = []
    for build in (
        getattr(torchvision.models, name),
        lambda: dilated_resnet(name, output_stride=32),
    ):
        torch.manual_seed(seed)
        networks.append((build().eval(), torch.rand(1)))
    (theirs, after), (ours, after_ours) = networks
    expected = {n: w for n, w in theirs.state_dict().items() if not n.startswith("fc.")}
    found = ours.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[n], w) for n, w in expected.items())
    assert torch.equal(after_ours, after)
    images = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        x = theirs.layer1(theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(images)))))
        assert torch.equal(ours(images)[1], theirs.layer4(theirs.layer3(theirs.layer2(x))))


@pytest.mark.parametrize(
    ("name", "stride"), [("resnet18", 8), ("resnet18", 16), ("resnet18", 32), ("resnet50", 8)]
)
def test_dilation_computes_the_undilated_features_and_more(
    name: str, stride: int, seed: int
) -> None:
    """At every (32 / stride)-th position, a dilated network has torchvision's own features."""
    torch.manual_seed(seed)
    theirs, ours = twins(name, output_stride=stride)
    images = torch.randn(1, 3, 64, 32, dtype=torch.float64)
    with torch.no_grad():
        x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(images))))
        expected = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(x))))
        stage3, stage4 = ours(images)
    step = 32 // stride
    assert stage4.shape[2:] == (64 // stride, 32 // stride)
    assert (stage3.shape[1], stage4.shape[1]) == ours.channels
    torch.testing.assert_close(stage4[:, :, ::step, ::step], expected)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("resnet50", {}, [2, 4, 4]),
        ("resnet50", {"multi_grid": (4, 8, 16)}, [4, 8, 16]),
        ("resnet50", {"output_stride": 16}, [1, 2, 2]),
        ("resnet34", {"multi_grid": (4, 8, 16)}, [4, 4, 8, 4, 16, 4]),
        ("resnet18", {}, [2, 4, 4, 4]),
        ("resnet18", {"multi_grid": (4, 8, 16)}, [4, 4, 8, 4]),
        ("resnet18", {"multi_grid": (4, 8)}, [4, 4, 8, 4]),
        ("resnet18", {"dilate_second": False}, [2, 1, 4, 1]),
    ],
)
def test_stage_4_has_the_dilations_of_the_source(
    name: str, options: dict[str, Any], expected: list[int]
) -> None:
    """The authors' code, and for dilate_second=False MMSegmentation's."""
    with torch.device("meta"):
        assert dilations(dilated_resnet(name, **options).layer4) == expected


def test_three_stages_are_the_whole_networks_first_ones(tmp_path: Path, seed: int) -> None:
    torch.manual_seed(seed)
    theirs = torchvision.models.resnet18(weights=None)
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    options = {"pretrained": tmp_path / "resnet18.pth"}
    whole, part = (dilated_resnet("resnet18", stages=n, **options).eval() for n in (4, 3))
    images = torch.randn(1, 3, 32, 64)
    with torch.no_grad():
        stage3, last = part(images)
        assert torch.equal(last, whole(images)[0])
    assert torch.equal(stage3, last)
    assert part.channels == (256, 256)
    assert not [name for name in part.state_dict() if name.startswith("layer4")]
    with pytest.raises(ValueError, match=r"multi_grid .* stage 4, which stages=3 leaves out"):
        dilated_resnet("resnet18", stages=3, multi_grid=(4, 8, 16))


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet101", "resnet152"])
def test_depths(name: str) -> None:
    with torch.device("meta"):
        net = dilated_resnet(name)
    assert net.channels == ((256, 512) if name in ("resnet18", "resnet34") else (1024, 2048))
    assert set(dilations(net.layer3)) == {1, 2}


@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_deep_stem(name: str, width: int, seed: int) -> None:
    torch.manual_seed(seed)
    net = dilated_resnet(name, deep_stem=True, stem_width=width).eval()
    convolutions = [m for m in net.conv1 if isinstance(m, torch.nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [width, width, 2 * width]
    assert net(torch.randn(1, 3, 33, 17))[1].shape[2:] == (5, 3)


def test_pretrained_from_a_file(tmp_path: Path, seed: int) -> None:
    torch.manual_seed(seed)
    theirs = torchvision.models.resnet18(weights=None)
    path = tmp_path / "weights of a friend.pth"
    torch.save({"state_dict": {f"module.{n}": w for n, w in theirs.state_dict().items()}}, path)
    net = dilated_resnet("resnet18", pretrained=str(path))
    assert torch.equal(net.layer4[1].conv2.weight, theirs.layer4[1].conv2.weight)
    with pytest.raises(ValueError, match=r"resnet34 do not fit. missing .*layer1\.2\.conv1"):
        dilated_resnet("resnet34", pretrained=path)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth"):
        dilated_resnet("resnet18", pretrained=tmp_path / "nowhere.pth")


def test_pretrained_with_mmsegmentations_deep_stem(tmp_path: Path) -> None:
    """Its ImageNet weights of ResNetV1c call the stem otherwise."""
    own = dilated_resnet("resnet18", deep_stem=True).state_dict()
    renamed = {
        n.replace("conv1.", "stem.", 1).replace("bn1.", "stem.7.", 1)
        if n.startswith(("conv1.", "bn1."))
        else n: w
        for n, w in own.items()
    }
    assert "stem.7.weight" in renamed
    torch.save(renamed, tmp_path / "resnet18_v1c.pth")
    net = dilated_resnet("resnet18", pretrained=tmp_path / "resnet18_v1c.pth", deep_stem=True)
    assert all(torch.equal(w, own[n]) for n, w in net.state_dict().items())


def test_pretrained_takes_torchvisions_weights(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    torch.manual_seed(seed)
    theirs = torchvision.models.resnet18(weights=None).state_dict()
    urls = []

    def download(url: str, **_: Any) -> dict[str, torch.Tensor]:
        urls.append(url)
        return theirs

    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", download)
    net = dilated_resnet("resnet18", pretrained=True)
    assert torch.equal(net.conv1.weight, theirs["conv1.weight"])
    assert urls == [torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url]


def test_missing_network_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(url: str, **_: Any) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", download)
    with pytest.raises(ConnectionError, match=r"not known.*pretrained=false.*pretrained=<path>"):
        dilated_resnet("resnet18", pretrained=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet20"}, "must be 'resnet18', .*'resnet152'"),
        ({"output_stride": 4}, "output_stride=\\): 4: must be 8, 16 or 32"),
        ({"multi_grid": (4, 8)}, r"multi_grid \(4, 8\) does not fit resnet50: it wants 3"),
        ({"multi_grid": (4, 8, 0)}, r"multi_grid=\): \[4, 8, 0\]: entry 2"),
        ({"multi_grid": ()}, r"multi_grid \(\)"),
        ({"deep_stem": True, "pretrained": True}, "no ImageNet weights for deep_stem=true"),
    ],
)
def test_impossible_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dilated_resnet(**{"name": "resnet50", **arguments})
