import os
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from recipe import golden_input, golden_outputs, golden_weights
from torch import Tensor

from danet_lightning.errors import RequestError
from danet_lightning.models import DANet, dilated_resnet, export_weights, import_weights
from danet_lightning.models.sources import MMSEGMENTATION


def relative_error(own: Tensor, reference: Tensor) -> float:
    return ((own - reference).abs().max() / reference.abs().max()).item()


@pytest.fixture(scope="module")
def official() -> dict[str, Tensor]:
    return golden_weights("official_danet_r50")


@pytest.fixture(scope="module")
def mmsegmentation() -> dict[str, Tensor]:
    return golden_weights("mmseg_danet_r50")


@pytest.fixture(scope="module")
def small() -> DANet:
    """A network whose every tensor is random, the counters and statistics too."""
    torch.manual_seed(5)
    return randomized(DANet(dilated_resnet("resnet18"), 3))


@pytest.fixture(scope="module")
def weights(small: DANet) -> dict[str, Tensor]:
    return export_weights(small)


def randomized(net: DANet) -> DANet:
    for tensor in net.state_dict().values():
        tensor.copy_(torch.rand(tensor.shape) * 9)
    return net


def same(first: DANet, second: DANet) -> bool:
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@torch.no_grad()
@pytest.mark.parametrize(("outputs", "grid"), [("multi_grid", (4, 8, 16)), ("single_grid", None)])
def test_the_authors_outputs(
    outputs: str, grid: tuple[int, ...] | None, official: dict[str, Tensor]
) -> None:
    net = import_weights(official, multi_grid=grid)
    logits = net(golden_input(96, 160))
    for name, expected in zip(
        ("fused", "position", "channel"), golden_outputs("official_danet_r50")[outputs], strict=True
    ):
        assert relative_error(logits[name][0, :, ::4, ::4], expected) < 1e-4


@torch.no_grad()
def test_mmsegmentations_outputs(mmsegmentation: dict[str, Tensor]) -> None:
    net = import_weights({"meta": {"CLASSES": ["road"]}, "state_dict": mmsegmentation})
    images, expected = golden_input(96, 160), golden_outputs("mmseg_danet_r50")
    logits = net.heads(net.backbone(images))
    assert list(logits) == ["fused", "position", "channel", "aux"]
    for own, reference in zip(logits.values(), expected["heads"], strict=True):
        assert relative_error(own[0], reference) < 1e-4
    assert relative_error(net.predict_logits(images)[0, :, ::2, ::2], expected["whole"]) < 1e-4


def test_defaults_are_the_sources_own(
    weights: dict[str, Tensor], mmsegmentation: dict[str, Tensor]
) -> None:
    authors, mmseg = import_weights(weights), import_weights(mmsegmentation)
    assert (authors.align_corners, mmseg.align_corners) == (True, False)
    assert authors.backbone.layer4[1].conv1.dilation == (8, 8)
    assert mmseg.backbone.layer4[1].conv2.dilation == (4, 4)
    other = import_weights(weights, multi_grid=None, align_corners=False)
    assert not other.align_corners
    assert other.backbone.layer4[1].conv1.dilation == (4, 4)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"losses": "fused"},
        {"pam": False},
        {"cam": False},
        {"channels": 64, "reduction": 4},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "stem",
    [
        {},
        pytest.param({"deep_stem": True}, marks=pytest.mark.slow),
        {"deep_stem": True, "stem_width": 64},
    ],
    ids=str,
)
def test_round_trip_is_exact(stem: dict[str, Any], options: dict[str, Any]) -> None:
    net = randomized(DANet(dilated_resnet("resnet18", **stem), 4, **options))
    assert same(net, import_weights(export_weights(net)))


@pytest.mark.parametrize("name", ["resnet34", "resnet50", "resnet101", "resnet152"])
def test_depth_is_read_off_the_tensors(name: str) -> None:
    with torch.device("meta"):  # names and shapes are all that matters
        net = DANet(dilated_resnet(name), 2)
        imported = import_weights(export_weights(net))
    shapes = [{n: t.shape for n, t in m.state_dict().items()} for m in (net, imported)]
    assert shapes[0] == shapes[1]


def test_export_refuses_what_the_authors_have_no_name_for() -> None:
    for options in ({"aux": True}, {"pam": False, "cam": False}):
        with pytest.raises(ValueError, match="no auxiliary head and no baseline"):
            export_weights(DANet(dilated_resnet("resnet18"), 2, **options))


@pytest.mark.parametrize("legacy", [True, False])
def test_the_authors_checkpoint_file(
    legacy: bool, tmp_path: Path, small: DANet, weights: dict[str, Tensor]
) -> None:
    """Their trainer pickled the best score as a NumPy scalar, in 2019's file format."""
    path = tmp_path / "DANet101 best.pth.tar"
    content = {
        "epoch": 240,
        "best_pred": np.float64(0.8),
        "state_dict": {f"module.{name}": value for name, value in weights.items()},
        "optimizer": {"param_groups": [{"lr": 0.003}]},
    }
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    assert same(small, import_weights(path))
    assert same(small, import_weights(str(path)))


def test_the_imagenet_classifier_in_the_authors_backbone_is_left_out(
    small: DANet, weights: dict[str, Tensor]
) -> None:
    """Their backbone keeps its `fc`, and their published files keep it with it."""
    fc = {"pretrained.fc.weight": torch.ones(1000, 512), "pretrained.fc.bias": torch.ones(1000)}
    wrapped = {f"module.{name}": value for name, value in {**weights, **fc}.items()}
    assert same(small, import_weights(wrapped))


def test_mmsegmentation_1_keeps_its_log_beside_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Objects of mmengine, which nobody needs to install, nor anybody to trust."""
    module = types.ModuleType("mmengine.logging.history_buffer")
    exec(HISTORY_BUFFER, module.__dict__)
    for name in ("mmengine", "mmengine.logging", module.__name__):
        monkeypatch.setitem(sys.modules, name, module)
    net = randomized(DANet(dilated_resnet("resnet18", dilate_second=False), 3))
    table = [(ours, theirs) for theirs, ours in MMSEGMENTATION.names[2:]]
    theirs = {renamed(name, table): value for name, value in net.state_dict().items()}
    log = module.HistoryBuffer()  # type: ignore[attr-defined]
    content = {
        "meta": {"mmseg_version": "1.2.2", "dataset_meta": {"classes": ("road", "sky", "car")}},
        "state_dict": theirs,
        "message_hub": {"log_scalars": {"train/loss": log}, "runtime_info": {"iter": 3}},
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.01}]},
        "param_schedulers": [{"last_step": 3}],
    }
    torch.save(content, tmp_path / "iter_80000.pth")
    for name in ("mmengine", "mmengine.logging", module.__name__):
        monkeypatch.delitem(sys.modules, name)
    assert same(net, import_weights(tmp_path / "iter_80000.pth"))


# As mmengine 0.10.7 pickles it: arrays, and methods of its own, which pickle looks up by getattr.
HISTORY_BUFFER = """
import numpy as np

class HistoryBuffer:
    def mean(self):
        return 0

    def __getstate__(self):
        return {"_log_history": np.ones(2), "statistics_methods": {"mean": HistoryBuffer.mean}}

    def __setstate__(self, state):
        raise AssertionError("no code of theirs may run")
"""


def renamed(name: str, table: list[tuple[str, str]]) -> str:
    found = ((old, new) for old, new in table if name.startswith(old))
    return next((new + name.removeprefix(old) for old, new in found), name)


@pytest.mark.parametrize(("stem", "aux"), [({}, False), ({"deep_stem": True}, True)], ids=str)
def test_mmsegmentations_wrappings(stem: dict[str, Any], aux: bool) -> None:
    backbone = dilated_resnet("resnet18", dilate_second=False, **stem)
    net = randomized(DANet(backbone, 3, aux=aux, align_corners=False))
    names = MMSEGMENTATION.names if stem else MMSEGMENTATION.names[2:]
    table = [(ours, theirs) for theirs, ours in names]
    theirs = {}
    for name, value in net.state_dict().items():
        new = renamed(name, table)
        theirs[new] = value.reshape(()) if new.endswith("gamma.scale") else value
    bare = {n.removeprefix("backbone.").removeprefix("decode_head."): t for n, t in theirs.items()}
    wrapped = {f"model.{name}": value for name, value in theirs.items()}
    v1 = {"meta": {"mmseg_version": "1.2"}, "state_dict": theirs, "optimizer": {"state": {}}}
    for content in (theirs, bare, wrapped, v1):
        imported = import_weights(content)
        assert same(net, imported)
        assert imported.backbone.layer4[0].conv2.dilation == (1, 1)  # as its BasicBlock


def test_imagenet_weights_fill_the_backbone() -> None:
    resnet = torchvision.models.resnet18(weights=None)
    net = import_weights(resnet.state_dict(), multi_grid=(4, 8, 16), num_classes=7)
    assert torch.equal(net.backbone.layer3[0].conv1.weight, resnet.layer3[0].conv1.weight)
    assert net.classifiers["fused"][1].out_channels == 7
    with pytest.raises(ValueError, match="say num_classes="):
        import_weights(resnet.state_dict())
    with pytest.raises(ValueError, match=r"left over \(1\): layer1.0.se.weight"):
        import_weights({**resnet.state_dict(), "layer1.0.se.weight": torch.ones(1)}, num_classes=7)


def test_files_from_before_batches_were_counted(weights: dict[str, Tensor]) -> None:
    old = {n: t for n, t in weights.items() if not n.endswith("num_batches_tracked")}
    net = import_weights(old)
    assert net.backbone.bn1.num_batches_tracked == 0
    some = {**old, "pretrained.bn1.num_batches_tracked": torch.tensor(1)}
    with pytest.raises(ValueError, match=r"missing .*pretrained.layer1.0.bn1.num_batches_tracked"):
        import_weights(some)


def test_every_wrong_tensor_is_listed(weights: dict[str, Tensor]) -> None:
    wrong = dict(weights)
    del wrong["head.sa.gamma"], wrong["pretrained.conv1.weight"], wrong["head.conv8.1.weight"]
    wrong["head.conv9.weight"] = torch.ones(2)
    wrong["head.conv51.1.bias"] = torch.ones(2)
    with pytest.raises(ValueError, match="the authors' DANet") as caught:
        import_weights(wrong)
    text = str(caught.value)
    assert "missing (3): pretrained.conv1.weight, head.sa.gamma, head.conv8.1.weight" in text
    assert "left over (1): head.conv9.weight" in text
    assert "misshaped (1): head.conv51.1.bias (2,) instead of (128,)" in text


def test_numbers_that_no_training_leaves_are_refused(weights: dict[str, Tensor]) -> None:
    for name, number, said in (
        ("head.sa.gamma", torch.inf, "holds NaN, infinity"),
        ("head.sa.gamma", 1e300, "holds NaN, infinity or what becomes it"),
        ("head.conv51.1.running_var", -1.0, "holds a variance below 0"),
    ):
        wrong = weights | {name: torch.full_like(weights[name], number, dtype=torch.float64)}
        with pytest.raises(RequestError, match=f"the authors' DANet.*: {name} {said}"):
            import_weights(wrong)


def test_contents_that_are_no_danet(weights: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match="neither the authors' DANet"):
        import_weights({"conv.weight": torch.ones(1)})
    with pytest.raises(ValueError, match="no state dict: epoch"):
        import_weights({"epoch": 3})
    with pytest.raises(ValueError, match=r"danet_lightning\.load"):
        import_weights({"danet_lightning": {}, "state_dict": {}})
    with pytest.raises(ValueError, match=r"num_classes 5 .*classify 3"):
        import_weights(weights, num_classes=5)
    shallow = {n: t for n, t in weights.items() if "layer3.1." not in n}
    with pytest.raises(ValueError, match=r"\(2, 2, 1, 2\) blocks"):
        import_weights(shallow)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("code-was-run",)


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_that_would_run_code_is_refused_as_such(
    protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pth"
    torch.save({"state_dict": {"a": Evil()}}, path, pickle_protocol=max(2, protocol))
    with pytest.raises(ValueError, match=r"would run code \(\w+.mkdir\)"):
        import_weights(path)
    path.write_bytes(pickle.dumps({"state_dict": Evil()}, protocol=protocol))
    with pytest.raises(ValueError, match=r"would run code \(\w+.mkdir\)"):
        import_weights(path)
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(ValueError, match=r"would run code .*Linear"):
        import_weights(path)
    assert not Path("code-was-run").exists()


@pytest.mark.parametrize("legacy", [True, False])
def test_a_damaged_file_is_refused_as_such(
    legacy: bool, tmp_path: Path, weights: dict[str, Tensor]
) -> None:
    path = tmp_path / "weights.pth"
    torch.save(weights, path, _use_new_zipfile_serialization=not legacy)
    whole = path.read_bytes()
    damaged = [whole[:n] for n in (0, 1, 9, 1000, len(whole) // 2, len(whole) - 100)]
    for content in (*damaged, b"<!DOCTYPE html><p>404", b"class Net: pass\n\n", b"\x00" * 50):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"truncated or was not written by torch.save"):
            import_weights(path)
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match="holds a list; a dict of tensors is wanted"):
        import_weights(path)
    with pytest.raises(FileNotFoundError, match=r"no weights file at .*elsewhere\.pth"):
        import_weights(tmp_path / "elsewhere.pth")
