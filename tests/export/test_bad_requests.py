"""What cannot be exported, and files of strangers: one sentence, and nothing else happens."""

import json
import sys
import tomllib
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import onnx as library
import pytest
import torch
from commands import danet
from omegaconf import OmegaConf
from onnx import TensorProto, helper

from danet_lightning import load
from danet_lightning.checkpoints.metadata import portable
from danet_lightning.config.building import DATASET, build_over
from danet_lightning.disk.writing import write_new
from danet_lightning.errors import RequestError, RunError
from danet_lightning.export import graph
from danet_lightning.export.model_card import model_card
from danet_lightning.export.parity import logits, scenes

TRUSTED = ["small_net"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["output=best.ckpt"], "does not end in .onnx"),
        (["output=there.onnx"], "there.onnx exists"),
        (["output=new.onnx", "int8=true"], "new.int8.onnx exists"),
        (["output=.", "format=hub"], "exists; choose another name"),
        (["output=n.onnx", "opset=7"], "opset: 7: must be greater than or equal to 18"),
        (["output=n.onnx", "outputs=[masks]"], "must be 'classes' or 'logits'"),
        (["output=n.onnx", "outputs=[logits,logits]"], "must name each output once"),
        (["output=n.onnx", "format=voc"], "must be 'onnx' or 'hub'"),
        (["output=h", "format=hub", "int8=true"], "int8 is of format=onnx"),
        (["output=n.onnx", "ckpt_path=no.ckpt"], 'ckpt_path: "no.ckpt": no such file'),
        (["output=n.onnx", "calibration_images=0"], "calibration_images: 0"),
        (["output=n.onnx", "dataset=folder", "dataset.root=.", "dataset.classes=[a,b]"], "limit=0"),
    ],
)
def test_a_wrong_request_is_told(checkpoint: Path, arguments: list[str], told: str) -> None:
    folder = checkpoint.parent
    for name in ("there.onnx", "new.int8.onnx"):
        (folder / name).touch()
    before = sorted(folder.rglob("*"))
    done = danet("export", "ckpt_path=best.ckpt", "trusted=[small_net]", *arguments, cwd=folder)
    assert (done.returncode, told in done.stderr) == (2, True), done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("kind", ["onnx", "hub"])
def test_a_missing_extra_is_named(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("onnxruntime", "safetensors"):
        monkeypatch.setitem(sys.modules, name, None)
    path = tmp_path / "net.onnx"
    path.touch()
    extra = {"onnx": "export", "hub": "hub"}[kind]
    with pytest.raises(RequestError, match=rf"pip install 'danet-lightning\[{extra}\]'"):
        load(path if kind == "onnx" else folder_with(tmp_path))


@pytest.mark.parametrize(
    ("found", "told"),
    [("0.5.7", r"onnxscript 0\.7 or newer is needed, and 0\.5\.7 is installed"), ("0.7.0", "")],
)
def test_what_is_too_old_to_export_is_told(
    found: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "version", {"onnxscript": found}.__getitem__)
    with pytest.raises(RequestError, match=told) if told else nullcontext():
        graph.require_exporter()


def test_the_extra_asks_for_what_exports() -> None:
    """pyproject.toml says the same, so that an installation brings it."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    extra = project["project"]["optional-dependencies"]["export"]
    assert f"onnxscript>={graph.LEAST_ONNXSCRIPT}" in extra


def folder_with(folder: Path) -> Path:
    for name in ("config.json", "model.safetensors"):
        (folder / name).touch()
    return folder


Change = Callable[[library.ModelProto], None]


def outside(model: library.ModelProto) -> None:
    """Let a weight be what stands in a file of the machine."""
    tensor = model.graph.initializer[0]
    library.external_data_helper.set_external_data(tensor, "/etc/passwd")
    tensor.ClearField("raw_data")


def outside_in_a_branch(model: library.ModelProto) -> None:
    """The same in a constant of a subgraph."""
    tensor = TensorProto(name="t", data_type=TensorProto.FLOAT, dims=[4], raw_data=b"")
    library.external_data_helper.set_external_data(tensor, "secrets")
    tensor.data_location = TensorProto.EXTERNAL
    constant = helper.make_node("Constant", [], ["c"], value=tensor)
    branch = helper.make_graph([constant], "b", [], [helper.make_empty_tensor_value_info("c")])
    model.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=branch))


def told_of(key: str, value: str) -> Change:
    def change(model: library.ModelProto) -> None:
        next(each for each in model.metadata_props if each.key == key).value = value

    return change


def forgotten(model: library.ModelProto) -> None:
    del model.metadata_props[:]


def own_operator(model: library.ModelProto) -> None:
    model.graph.node[0].domain = "evil"
    model.opset_import.append(helper.make_opsetid("evil", 1))


def fewer_classes(model: library.ModelProto) -> None:
    for key, value in (("classes", '["a","b"]'), ("palette", "[[0,0,0],[1,1,1]]")):
        told_of(key, value)(model)
    config = next(each for each in model.metadata_props if each.key == "config")
    facts = json.loads(config.value)
    del facts["model"]["num_classes"]
    config.value = json.dumps(facts)


def renamed(kind: str, name: str) -> Change:
    """Give all outputs, or the input, other names."""

    def change(model: library.ModelProto) -> None:
        names = {}
        for number, value in enumerate(getattr(model.graph, kind)):
            names[value.name] = value.name = name + str(number or "")
        for node in model.graph.node:
            for ends in (node.input, node.output):
                ends[:] = [names.get(each, each) for each in ends]

    return change


def at_one_size(model: library.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 64


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (outside, "wants to read other files"),
        (outside_in_a_branch, "wants to read other files"),
        (forgotten, "was not written by danet export"),
        (told_of("config", "{" * 9), "no JSON"),
        (told_of("config", "[" * 100_000), "no JSON"),
        (told_of("palette", "[]"), "0 colors for 11 classes"),
        (told_of("mean", "[1e999, 1, 1]"), "mean"),
        (told_of("classes", '["${oc.env:HOME}"]'), "colors for 1 classes"),
        (own_operator, "onnxruntime cannot run"),
        (fewer_classes, "where danet export writes logits (B, 2, H, W) in float32"),
        (renamed("output", "result"), "answers with nothing known, where danet export writes"),
        (renamed("input", "pixels"), "takes pixels ['batch', 'height', 'width', 3] tensor(uint8)"),
        (at_one_size, "takes images ['batch', 64, 'width', 3] tensor(uint8), where danet export"),
    ],
)
def test_a_file_of_a_stranger_is_refused(
    onnx: Path, tmp_path: Path, change: Change, told: str
) -> None:
    model = library.load(onnx)
    change(model)
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(RequestError) as refused:
        load(path)
    assert told in str(refused.value)
    assert str(refused.value).isprintable()


def test_a_protocol_of_a_stranger_is_not_called(onnx: Path, tmp_path: Path) -> None:
    model = library.load(onnx)
    config = next(each for each in model.metadata_props if each.key == "config")
    facts = json.loads(config.value)
    facts["protocol"] = {"_target_": "os.mkdir", "path": str(tmp_path / "made")}
    config.value = json.dumps(facts)
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(RequestError, match=r"wants to call os\.mkdir as its protocol"):
        load(tmp_path / "net.onnx")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.999])
def test_a_truncated_file_is_refused(onnx: Path, tmp_path: Path, share: float) -> None:
    content = onnx.read_bytes()
    path = tmp_path / "net.onnx"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(RequestError, match=r"net\.onnx cannot be used|cannot run this file"):
        load(path)


def cut(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-5])


def pickled(folder: Path) -> None:
    torch.save({"weight": torch.zeros(1)}, folder / "model.safetensors")


def calling(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["config"]["model"]["_target_"] = "os.mkdir"
    (folder / "config.json").write_text(json.dumps(config))


def huge(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["config"]["model"]["channels"] = 80_000
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (cut, "model.safetensors is truncated or damaged"),
        (pickled, "model.safetensors is truncated or damaged"),
        (calling, "wants to call os.mkdir as its model"),
        (huge, "do not belong together"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json is truncated"),
        (lambda folder: (folder / "config.json").write_text("[]"), "no checkpoint"),
        (lambda folder: (folder / "config.json").write_text("[" * 99_999), "config.json is trunc"),
        (lambda folder: (folder / "config.json").unlink(), "holds no config.json"),
    ],
)
def test_a_folder_of_a_stranger_is_refused(
    hub: Path, tmp_path: Path, change: Callable[[Path], None], told: str
) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((hub / name).read_bytes())
    change(tmp_path)
    with pytest.raises(RequestError) as refused:
        load(tmp_path, TRUSTED)
    assert told in str(refused.value)


def test_a_size_that_no_network_takes_is_told(checkpoint: Path) -> None:
    with pytest.raises(RequestError, match="size: PyTorch's network cannot take 1 x 1 x 2 pixels"):
        logits(load(checkpoint, TRUSTED), scenes(1, 1, 2))


def test_what_is_exported_already_is_told(onnx: Path) -> None:
    done = danet("export", "ckpt_path=net.onnx", "output=again.onnx", "limit=0", cwd=onnx.parent)
    assert (done.returncode, "is exported already" in done.stderr) == (2, True), done.stderr


def test_an_exported_network_has_no_attention_to_look_into(onnx: Path) -> None:
    done = danet("attention", "ckpt_path=net.onnx", "input=.", "output=maps", cwd=onnx.parent)
    assert (done.returncode, "give the checkpoint" in done.stderr) == (2, True), done.stderr


def test_files_that_belong_together_are_written_together_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "net.json").mkdir()  # in the way
    with pytest.raises(RunError, match="cannot be written"):
        write_new({tmp_path / "net.onnx": b"1", tmp_path / "net.json": b"2"})
    assert list(tmp_path.iterdir()) == [tmp_path / "net.json"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["limit=1"], "on which the export is measured: give their place as dataset.root=..."),
        (["limit=0", "int8=true"], "on which int8 is calibrated: give their place"),
    ],
)
def test_images_that_have_moved_are_asked_for(
    checkpoint: Path, tmp_path: Path, arguments: list[str], told: str
) -> None:
    content = torch.load(checkpoint, weights_only=True)
    facts = content["danet_lightning"]
    folder = {"_target_": "danet_lightning.data.folder.Folder", "root": str(tmp_path / "gone")}
    facts["config"]["dataset"] = {**folder, "classes": facts["classes"]}
    torch.save(content, tmp_path / "a.ckpt")
    asked = ["ckpt_path=a.ckpt", "output=n.onnx", "trusted=[small_net]", *arguments]
    done = danet("export", *asked, cwd=tmp_path)
    assert (done.returncode, told in done.stderr) == (2, True), done.stderr


def test_the_place_of_the_images_is_asked_for() -> None:
    """It is of the machine that exported the network, and so it does not travel."""
    camvid = {"_target_": "danet_lightning.data.camvid.CamVid", "root": "/data/camvid"}
    config = {"model": {}, "protocol": {}, "dataset": camvid}
    stored = portable({"config": config})["config"]["dataset"]
    with pytest.raises(RequestError, match=r"dataset\.root: .* Give dataset\.root=\.\.\."):
        build_over(stored, OmegaConf.create({}), DATASET, [])
    build_over(stored, OmegaConf.create({"root": "here"}), DATASET, [])


def test_a_hostile_name_stays_text_on_the_card() -> None:
    facts = {
        "config": {"model": {"_target_": "a.Net"}, "dataset": {"_target_": "a.B\n---\nc: d"}},
        "classes": ["road\x1b[2J", "a\n# b", "<script>"],
        "git_commit": "\u202eabc",
        "versions": {"torch": "2\n## License"},
    }
    card = model_card(facts, None, 5)
    assert all(sign.isprintable() or sign == "\n" for sign in card)
    assert r"road\\u001b\[2J, a\\u000a\# b, \<script\>." in card
    assert card.count("\n## License") == 1
    assert card.count("\n---\n") == 1
