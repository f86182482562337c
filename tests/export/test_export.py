"""What is exported does as the checkpoint does, at every size, and says how far."""

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import onnxruntime
import pytest
import torch
from commands import danet
from onnx import load_model
from PIL import Image
from small_net import SmallNet
from torch import nn

from danet_lightning import load, models
from danet_lightning.checkpoints.onnx_file import OnnxNetwork
from danet_lightning.config.outputs import exported as exported_files
from danet_lightning.data.drawing import CLASSES, draw_scene
from danet_lightning.errors import RequestError, RunError
from danet_lightning.evaluate.protocols import MultiView
from danet_lightning.export import graph
from danet_lightning.export import onnx as onnx_files
from danet_lightning.export.parity import parity
from danet_lightning.export.quantization import quantized
from danet_lightning.models import DANet, Segmenter
from danet_lightning.models import attention as attention_module

ROOT = Path(__file__).parents[2]
TRUSTED = ["small_net"]


def textbook(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Equation 1 in one go, in float64."""
    weights = torch.einsum("bdi,bdj->bij", query.double(), key.double()).softmax(2)
    return torch.einsum("bij,bcj->bci", weights, value.double()).float()


@pytest.mark.parametrize("shape", [(1, 64, 96), (2, 200, 328), (1, 33, 57), (1, 8, 8), (3, 9, 250)])
def test_the_graph_is_exact_at_every_size(
    checkpoint: Path, onnx: Path, shape: tuple[int, ...], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was traced at 64 x 96 pixels, that is 96 positions."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)
    classes, logits = onnxruntime.InferenceSession(onnx).run(None, {"images": pixels})
    monkeypatch.setattr(attention_module, "attend", textbook)
    with torch.inference_mode():
        given = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        expected = load(checkpoint, TRUSTED)(given)["fused"].numpy()
    np.testing.assert_allclose(logits, expected, rtol=0, atol=2e-5 * np.abs(expected).max())
    np.testing.assert_array_equal(classes, logits.argmax(1))
    assert classes.dtype == np.uint8
    assert len(np.unique(classes)) > 1 or shape[1] < 33


MEMORY = """
import resource, sys
import numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
session.run(["classes"], {"images": numpy.zeros((1, 64, 64, 3), "uint8")})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
session.run(["classes"], {"images": numpy.zeros((1, *map(int, sys.argv[2:]), 3), "uint8")})
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.parametrize(
    ("height", "width", "bound"),
    [(512, 1024, 200), pytest.param(1024, 2048, 700, marks=pytest.mark.slow)],
)
def test_memory_stays_below_a_bound(onnx: Path, height: int, width: int, bound: int) -> None:
    """In MiB; N x N float32 would be 256 and 4096 MiB, and it takes several."""
    command = [sys.executable, "-c", MEMORY, str(onnx), str(height), str(width)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < bound


def test_the_report(exported: CompletedProcess[str], onnx: Path, checkpoint: Path) -> None:
    report = json.loads(onnx.with_suffix(".json").read_text())
    assert set(report["parity"]) == {"net.onnx", "net.int8.onnx"}
    sizes = [row["images"] for row in report["parity"]["net.onnx"]]
    assert sizes == [[1, 64, 96], [1, 256, 256], [1, 43, 65], [2, 64, 96], [1, 9, 13]]
    for row in report["parity"]["net.onnx"]:
        assert row["same_class"] > 0.999
        assert 0 < row["mean_error"] <= row["largest_error"] < 1e-4 * row["largest_logit"]
    for row in report["parity"]["net.int8.onnx"]:
        assert 1e-4 * row["largest_logit"] < row["largest_error"] < row["largest_logit"]
    for name, size in report["bytes"].items():
        assert onnx.with_name(name).stat().st_size == size
    assert set(report["milliseconds"]) == {"PyTorch", "net.onnx", "net.int8.onnx"}
    assert f"net.onnx  1 x 64 x 96{'':15}" in exported.stdout

    # what `evaluate` counts is the reference for what the report has measured
    done = danet(
        "evaluate", f"ckpt_path={checkpoint}", "trusted=[small_net]", "trainer=cpu",
        "run_dir=of_checkpoint", "data.workers=0", "~callbacks.pictures", cwd=checkpoint.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = json.loads((checkpoint.parent / "of_checkpoint" / "results.json").read_text())
    scores = report["measured"]["networks"]
    assert scores["PyTorch"]["miou"] == results["miou"]
    assert scores["net.onnx"]["miou"] == pytest.approx(results["miou"], abs=1e-3)
    assert report["measured"]["images"] == results["protocol"]["images"] == 3
    loss = results["miou"] - scores["net.int8.onnx"]["miou"]
    assert report["int8_loss"] == pytest.approx(loss)


def test_all_convolutions_run_in_8_bits(onnx: Path, tmp_path: Path) -> None:
    """As onnxruntime's optimizer leaves them: one between two types of bytes would be float32."""
    import onnx as library

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "run.onnx")
    onnxruntime.InferenceSession(onnx.with_name("net.int8.onnx"), options)
    kinds = [node.op_type for node in library.load(tmp_path / "run.onnx").graph.node]
    of_checkpoint = [node.op_type for node in library.load(onnx).graph.node]
    assert kinds.count("QLinearConv") == of_checkpoint.count("Conv") > 5
    assert "Conv" not in kinds


def test_no_log_is_kept_back_but_the_quantizers_advice(
    onnx: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def images() -> Iterator[dict[str, torch.Tensor]]:
        logging.getLogger("theirs").warning("an image is odd")
        logging.warning("and so is the next one")
        yield {"image": torch.zeros(3, 64, 96, dtype=torch.uint8)}

    quantized(load_model(onnx), images())
    assert caplog.messages == ["an image is odd", "and so is the next one"]


def test_what_int8_loses_is_told_first() -> None:
    measured = {
        "dataset": "A", "split": "val", "images": 2, "images_of_split": 2, "protocol": {},
        "networks": {},
    }  # fmt: skip
    report = {"bytes": {}, "parity": {}, "milliseconds": {}, "measured": measured}
    options = onnx_files.Options((64, 96), ("logits",), 20)
    told = onnx_files._lines({**report, "int8_loss": 0.0213}, options)
    assert told[0].startswith("int8 LOSES 0.0213 mIoU on 2 images")
    assert "LOSES" not in "".join(onnx_files._lines({**report, "int8_loss": 0.0099}, options))


def test_a_file_says_what_it_is_and_not_where_it_was_made(onnx: Path, hub: Path) -> None:
    facts = onnxruntime.InferenceSession(onnx).get_modelmeta().custom_metadata_map
    assert json.loads(facts["classes"]) == list(CLASSES)
    assert json.loads(facts["protocol"])["name"] == "whole"
    assert json.loads(facts["git_commit"]) == "abc"
    config = json.loads((hub / "config.json").read_text())
    assert config["config"] == json.loads(facts["config"])
    for content in (onnx.read_bytes(), *(path.read_bytes() for path in hub.iterdir())):
        for place in (str(Path.home()), str(ROOT), "site-packages", "/me/runs"):
            assert place.encode() not in content


def test_a_hub_folder_has_the_same_weights_and_a_card(checkpoint: Path, hub: Path) -> None:
    names = {"README.md", "config.json", "model.safetensors", "predictions.png"}
    assert {path.name for path in hub.iterdir()} == names
    ours, theirs = (load(path, TRUSTED).net.state_dict() for path in (checkpoint, hub))
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    card = (hub / "README.md").read_text()
    assert "| images | 3 of 3 of val |" in card
    assert "whole" in card
    assert "sidewalk" in card
    count = sum(each.numel() for each in load(hub, TRUSTED).net.parameters())
    assert f"with {count / 1e6:.1f} million parameters" in card
    with Image.open(hub / "predictions.png") as picture:
        assert picture.width > 500


@pytest.mark.parametrize(
    "protocol",
    [
        MultiView(),
        MultiView(crop=(48, 64), stride=(32, 32), flip=True),
        MultiView(scales=(1.0, 1.3)),
    ],
    ids=["whole", "windows", "scales"],
)
def test_load_takes_what_was_exported(
    checkpoint: Path, onnx: Path, hub: Path, protocol: MultiView
) -> None:
    image = draw_scene(5, "test", 0, 75, 110)[0]
    networks = [load(path, TRUSTED) for path in (checkpoint, hub, onnx)]
    for each in networks:
        each.protocol = protocol
    first, folder, file = (each.segment(image) for each in networks)
    assert torch.equal(first, folder)
    agreement = (first == file).double().mean()
    assert agreement > (0.99 if len(protocol.scales) > 1 else 0.9999)  # resized, they are rounded


def test_predict_and_evaluate_take_what_was_exported(
    checkpoint: Path, onnx: Path, hub: Path
) -> None:
    folder = checkpoint.parent / "predicted"
    folder.mkdir()
    Image.fromarray(draw_scene(1, "test", 0, 80, 111)[0]).save(folder / "a.png")
    expected = load(checkpoint, TRUSTED).segment(np.array(Image.open(folder / "a.png"))).numpy()
    for path in (hub, onnx, onnx.with_name("net.int8.onnx")):
        done = danet(
            "predict", f"ckpt_path={path}", "input=a.png", f"output={path.stem}", "device=cpu",
            "trusted=[small_net]", cwd=folder,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        with Image.open(folder / path.stem / "a.png") as mask:
            assert (np.asarray(mask) == expected).mean() > (0.9 if "int8" in path.name else 0.999)
    done = danet(
        "evaluate", f"ckpt_path={onnx}", "trainer=cpu", "run_dir=run", "data.workers=0",
        "~callbacks.pictures", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(onnx.with_suffix(".json").read_text())
    results = json.loads((folder / "run" / "results.json").read_text())
    assert results["miou"] == report["measured"]["networks"]["net.onnx"]["miou"]


def test_the_example_of_the_readme_needs_no_torch(onnx: Path, tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (example,) = (block for block in blocks if "onnxruntime" in block)
    packages = tmp_path / "packages"
    packages.mkdir()
    for name in ("numpy", "numpy.libs", "PIL", "pillow.libs", "onnxruntime"):
        for site in filter(None, map(Path, sys.path)):
            if (site / name).is_dir() and site.name == "site-packages":
                (packages / name).symlink_to(site / name)
    (tmp_path / "net.onnx").symlink_to(onnx)
    image = draw_scene(2, "test", 0, 70, 90)[0]
    Image.fromarray(image).save(tmp_path / "photo.png")
    environment = {**os.environ, "PYTHONPATH": str(packages)}
    for code, is_fine in (("import torch", False), (example, True)):
        done = subprocess.run(
            [sys.executable, "-S", "-c", code],
            **{"cwd": tmp_path, "env": environment, "capture_output": True, "text": True},
        )
        assert (done.returncode == 0) == is_fine, done.stderr
    with Image.open(tmp_path / "classes.png") as mask:
        assert mask.mode == "P"
        np.testing.assert_array_equal(np.asarray(mask), load(onnx).segment(image))


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", [models.CCNet, models.DeepLabV3, models.NonLocalNet, models.PSPNet]
)
def test_the_rivals_are_exported_as_well(kind: type[nn.Module], seed: int) -> None:
    torch.manual_seed(seed)
    net = kind(SmallNet(), 3)
    for name, parameter in net.named_parameters():
        if name.endswith(("gamma", "project.1.weight")):  # they start as if there was no attention
            parameter.data.fill_(1.0)
    original = segmenter(net)
    model = graph.onnx_model(original, {}, ["logits"], 20)
    network = OnnxNetwork(model.SerializeToString(), 3, original.mean, original.std)
    for row in parity(original, network, (64, 96)):
        assert row["largest_error"] < 1e-5 * row["largest_logit"]


class Counting(nn.Module):
    """A network whose answer depends on an operation that ONNX has not."""

    def predict_logits(self, images: torch.Tensor) -> torch.Tensor:
        return images * torch.linalg.eigvalsh(images[:, :2, :2, 0]).sum()


def segmenter(net: nn.Module) -> Segmenter:
    classes, palette = ("a", "b", "c"), ([0, 0, 0], [1, 1, 1], [2, 2, 2])
    return Segmenter(net, classes, palette, (0.0,) * 3, (1.0,) * 3, MultiView()).eval()


@pytest.mark.parametrize("height", ["8*rows", "batch", 64], ids=str)
def test_a_graph_for_some_sizes_alone_is_told(height: str | int) -> None:
    """As versions of torch narrow what they trace: a multiple, the same as another, a number."""
    from onnx import TensorProto, helper

    given = helper.make_tensor_value_info(
        "images", TensorProto.UINT8, ["batch", height, "width", 3]
    )
    model = helper.make_model(helper.make_graph([], "graph", [given], []))
    with pytest.raises(RequestError, match="Net cannot be exported for images of any size"):
        graph._require_any_size(model, "Net")


@pytest.mark.slow
def test_an_operation_that_cannot_be_exported_is_named() -> None:
    with pytest.raises(RequestError, match=r"Counting cannot be exported: .*eigh"):
        graph.onnx_model(segmenter(Counting()), {}, ["logits"], 20)


def test_other_classes_than_pytorch_are_never_written(
    onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a graph whose loop was traced at one size."""
    import onnx as library

    other = segmenter(DANet(SmallNet(), len(CLASSES)))
    other.classes = CLASSES
    monkeypatch.setattr(onnx_files, "onnx_model", lambda *_: library.load(onnx))
    files = exported_files(tmp_path / "net.onnx", int8=False)
    with pytest.raises(RunError, match=r"other classes than PyTorch(.|\n)*1 x 64 x 96 .*%"):
        onnx_files.write(
            files, other, {}, onnx_files.Options((64, 96), ("logits",), 20), None, None
        )
    assert not list(tmp_path.iterdir())
