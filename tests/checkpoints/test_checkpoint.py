"""Checkpoints of strangers: whatever they hold, one sentence and nothing else happens."""

import copy
import os
import pickle
import re
import struct
import sys
import tarfile
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import danet
from omegaconf import OmegaConf
from small_net import SmallNet
from torch import nn
from trainings import TINY

from danet_lightning import load
from danet_lightning.config.building import DATASET, build_over
from danet_lightning.errors import RequestError
from danet_lightning.models import DANet, dilated_resnet, import_weights
from danet_lightning.train import resuming

CLASSES = ["road", "sky", "car"]
SCENES = {
    "_target_": "danet_lightning.data.scenes.Scenes", "train_images": 2, "val_images": 2,
    "test_images": 2, "size": [32, 64],
}  # fmt: skip
BACKBONE = {"_target_": "small_net.SmallNet", "name": "resnet18", "pretrained": False}
TRUSTED = ["small_net"]
LOOPS = {"fit_loop": {"epoch_progress": {"current": {"ready": 1, "completed": 1}}}}

Content = dict[str, Any]


@pytest.fixture(scope="module")
def whole() -> Content:
    """A checkpoint that is as it should be."""
    torch.manual_seed(0)
    net = DANet(SmallNet(), len(CLASSES))
    model = {
        "_target_": "danet_lightning.models.DANet", "num_classes": 3, "backbone": BACKBONE,
    }  # fmt: skip
    protocol = {
        "_target_": "danet_lightning.evaluate.protocols.MultiView",
        "scales": [1.0],
        "crop": None,
    }
    return {
        "state_dict": OrderedDict((f"net.{n}", t) for n, t in net.state_dict().items()),
        "danet_lightning": {
            "config": {"model": model, "protocol": protocol, "dataset": dict(SCENES), "seed": 0},
            "classes": CLASSES,
            "palette": [[0, 0, 0], [1, 2, 3], [255, 255, 255]],
            "mean": [123.675, 116.28, 103.53],
            "std": [58, 57.12, 57.375],
            "git_commit": None,
            "versions": {"torch": "2"},
        },
        **{"epoch": 1, "global_step": 2, "loops": LOOPS, "rows": {"MetricsFile": 3}},
        **{
            "callbacks": {},
            "optimizer_states": [],
            "lr_schedulers": [{"milestones": Counter([2])}],
        },
    }


@pytest.fixture
def content(whole: Content) -> Content:
    """The same, to be changed."""
    return copy.deepcopy(whole)


# ---- what a file does beside being read


class Watch:
    """Note what Python does to the rest of the world, and the memory that it takes."""

    def __init__(self) -> None:
        self.is_on = False
        self.deeds: list[str] = []
        sys.addaudithook(self.note)  # cannot be taken off again

    def note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.is_on:
            return
        if event.startswith(("os.", "subprocess.", "socket.", "shutil.")):
            self.deeds += [] if event in ("os.listdir", "os.scandir") else [event]
        elif event == "open" and isinstance(arguments[2], int):
            is_written = arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            self.deeds += [f"open {arguments[0]}"] if is_written else []

    def __enter__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the peak of memory is now's
        self.deeds, self.before = [], peak()
        self.is_on = True

    def __exit__(self, *_: object) -> None:
        self.is_on = False
        grown = peak() - self.before
        assert (self.deeds, grown < 400_000) == ([], True)  # kB; a tenth of the bombs below


def peak() -> int:
    """The most memory that this process has had at a time, in kB."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1])


watch = Watch()


def refused(path: Path, trusted: Sequence[str] = TRUSTED) -> str:
    """The sentence by which `load` refuses a file, without doing anything else."""
    with watch, pytest.raises(RequestError) as caught:
        load(path, trusted)
    text = str(caught.value)
    assert len(text) < 1000
    return text


def test_the_watch_sees_what_is_done(tmp_path: Path) -> None:
    for deed in (
        lambda: (tmp_path / "a").touch(),
        lambda: os.system("true"),
        lambda: bytearray(5 * 10**8),
    ):
        with pytest.raises(AssertionError), watch:
            deed()


def test_a_whole_one_is_read(content: Content, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "best.ckpt")
    with watch:
        net = load(tmp_path / "best.ckpt", TRUSTED)
    assert net.classes == tuple(CLASSES)
    own = content["state_dict"]["net.backbone.fourth.bias"]
    assert torch.equal(net.state_dict()["net.backbone.fourth.bias"], own)
    assert load(tmp_path / "best.ckpt", "small_net").palette == net.palette


# ---- what is named to be built

MODELS = {
    "os.system": "outside danet_lightning, small_net. If you trust it",
    "builtins.exec": "outside",
    "torch.nn.Sequential": "outside",
    "danet_lightningx.Net": "outside",
    "danet_lightning.config.building.build_over": "where a class of danet_lightning.models has to",
    "danet_lightning.train.wandb_mode.answers": "where a class of",
    "danet_lightning.train.wandb_logger.wandb_logger": "where a class of",
    "danet_lightning.checkpoints.loading.load": "where a class of",
    "danet_lightning.__main__.main": "no name of a class",
    "danet_lightning.train.run.instantiate": "where a class of",
    "danet_lightning.models.danet.nn": "a class of danet_lightning.models",
    "danet_lightning.models.danet.nn.Sequential": "No module named",
    "danet_lightning.models.danet.OrderedDict": "where a Module and Network has to stand",
    "danet_lightning.models.import_weights": "where a Module and Network",
    "danet_lightning.models.dilated_resnet": "where a Module and Network",
    "danet_lightning.models.PositionAttention": "where a Module and Network",
    "danet_lightning.models.DANet.__init__": "no name of a class",
    "danet_lightning.models.nowhere.Net": "No module named",
    "small_net.os.system": "cannot be imported",
    "small_net.nn": "where a Module and Network has to stand, a class of small_net",
    "small_net.SmallNet": "where a Module and Network",
    "..": "no name of a class",
    "\x1b[2J": r"wants to call '\x1b[2J'",
    "A" * 10**6: "no name of a class",
}


@pytest.mark.parametrize("target", MODELS, ids=lambda name: name[:40])
def test_only_a_network_is_built_as_the_model(
    target: str, content: Content, tmp_path: Path
) -> None:
    node = content["danet_lightning"]["config"]["model"]
    node |= {"_target_": target, "given": ["touch", str(tmp_path / "touched")]}
    torch.save(content, tmp_path / "evil.ckpt")
    assert MODELS[target] in refused(tmp_path / "evil.ckpt")


def in_model(**changes: Any) -> Callable[[Content], None]:
    return lambda content: content["danet_lightning"]["config"]["model"].update(changes)


def in_backbone(**changes: Any) -> Callable[[Content], None]:
    return lambda content: content["danet_lightning"]["config"]["model"]["backbone"].update(changes)


def in_protocol(**changes: Any) -> Callable[[Content], None]:
    return lambda content: content["danet_lightning"]["config"]["protocol"].update(changes)


def in_facts(**changes: Any) -> Callable[[Content], None]:
    return lambda content: content["danet_lightning"].update(changes)


def at_top(**changes: Any) -> Callable[[Content], None]:
    return lambda content: content.update(changes)


def without_numbers(content: Content) -> None:
    content["state_dict"]["net.backbone.fourth.bias"].fill_(float("nan"))


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def laughs() -> list[Any]:
    value: list[Any] = ["ha"] * 10
    for _ in range(30):
        value = [value] * 10
    return value


RESNET = {"_target_": "danet_lightning.models.dilated_resnet", "name": "resnet18"}
CALL = {"_target_": "os.mkdir", "path": "made"}
MALFORMED = {
    "a call as a backbone": (
        in_model(backbone=CALL),
        "wants to call os.mkdir as its model.backbone",
    ),
    "a network as a backbone": (in_model(backbone={"_target_": "torch.nn.Linear"}), "outside"),
    "a call in the backbone": (in_backbone(name=CALL), "wants to call os.mkdir"),
    "a call in a list": (
        in_model(dropout=[[{"a": CALL}]]),
        "wants to call os.mkdir as its model.dropout",
    ),
    "a call in the protocol": (
        in_protocol(scales=[CALL]),
        "wants to call os.mkdir as its protocol",
    ),
    "a network as the protocol": (in_protocol(_target_="danet_lightning.models.DANet"), "protocol"),
    "another key": (in_model(window=3), "window: unknown key"),
    "hydra's keys": (in_model(_args_=[1], _partial_=True), "_args_: unknown key"),
    "a wrong type": (in_model(pam="yes"), 'pam: "yes": must be a valid boolean'),
    "a wrong range": (in_model(dropout=2), "less than 1"),
    "not a number": (in_model(gamma_init=float("nan")), "gamma_init: NaN: must be a finite number"),
    "a wide head": (in_model(channels=10**5), "would take"),
    "a head wider than numbers": (in_model(channels=10**400), "model"),
    "a wide stem": (
        in_model(backbone=RESNET | {"deep_stem": True, "stem_width": 10**7}),
        "would take",
    ),
    "wide dilations": (
        in_model(backbone=RESNET | {"multi_grid": [10**9] * 2}),
        "less than or equal",
    ),
    "many dilations": (
        in_model(backbone=RESNET | {"multi_grid": [1] * 10**5}),
        "model.backbone of the checkpoint: danet_lightning.models.dilated_resnet cannot be built",
    ),
    "a scale of 1e30": (in_protocol(scales=[1e30]), "less than or equal to 100"),
    "a window beyond numbers": (in_protocol(crop=[10**400, 1]), "less than or equal to 1000000"),
    "many scales": (in_protocol(scales=[1.0] * 10**5), "at most"),
    "a protocol without a class": (in_protocol(_target_=None), "_target_ is missing"),
    "a secret": (in_protocol(crop="${oc.env:SECRET}"), "asks for a value from elsewhere"),
    "a decoded secret": (in_backbone(x="${oc.decode:${oc.env:SECRET}}"), "asks for a value"),
    "a secret as a class": (in_facts(classes=["a", "b", "${oc.env:SECRET}"]), "asks for a value"),
    "a call as a class": (
        in_facts(classes=[CALL, "b", "c"]),
        "classes.0: Input should be a valid string",
    ),
    "no facts": (
        at_top(danet_lightning=None),
        "danet_lightning: Input should be a valid dictionary",
    ),
    "no config": (in_facts(config=None), "config: Input should be"),
    "an empty config": (in_facts(config={}), "config.model: Field required"),
    "a model of text": (
        in_facts(config={"model": "DANet"}),
        "config.model: Input should be a valid dict",
    ),
    "classes in a number": (in_facts(classes=10**9), "classes: Input should be a valid list"),
    "many classes": (in_facts(classes=["a"] * 10**5), "at most 255 items"),
    "no class": (in_facts(classes=[]), "at least 1 item"),
    "10^9 classes": (in_model(num_classes=10**9), "another number of classes"),
    "a text of classes": (in_model(num_classes="3"), "another number of classes"),
    "a short mean": (in_facts(mean=[1.0]), "mean: List should have at least 3 items"),
    "a mean of text": (in_facts(mean=["1", "2", "3"]), "mean.0: Input should be a valid number"),
    "no mean at all": (
        in_facts(mean=[float("nan")] * 3),
        "mean.0: Input should be a finite number",
    ),
    "no deviation": (in_facts(std=[0, 1, 1]), "std.0: Input should be greater than 0"),
    "a color too few": (in_facts(palette=[[0, 0, 0]]), "1 colors for 3 classes"),
    "a color of floats": (in_facts(palette=[[0.5, 0, 0]] * 3), "palette.0.0"),
    "a bright color": (in_facts(palette=[[256, 0, 0]] * 3), "less than or equal to 255"),
    "a commit of parts": (
        in_facts(git_commit={"a": 1}),
        "git_commit: Input should be a valid string",
    ),
    "tensors as facts": (in_facts(seed=torch.ones(2)), "not JSON serializable"),
    "nested": (in_facts(config=nested(100)), "nested more than 50 deep"),
    "a billion laughs": (in_facts(seed=laughs()), "holds too much"),
    "laughs of an optimizer": (at_top(optimizer_states=laughs()), "holds too much"),
    "no weights": (at_top(state_dict=None), "state_dict: Input should be a valid dictionary"),
    "weights of text": (at_top(state_dict={"net.a": "b"}), "net.a is a str, not a tensor"),
    "other weights": (at_top(state_dict={"net.a": torch.ones(1)}), "do not fit their own model"),
    "weights of NaN": (without_numbers, "holds NaN, infinity"),
    "an epoch of text": (at_top(epoch="3"), "epoch: Input should be a valid integer"),
    "loops of numbers": (at_top(loops=3), "loops: Input should be"),
    "loops without epochs": (at_top(loops={"fit_loop": {}}), "loops: the number of epochs"),
    "a count of text": (at_top(loops=LOOPS | {"a": {"ready": {}}}), "ready is no count"),
    "a schedule of calls": (at_top(lr_schedulers=[{"step": 3}]), "step is no value of a schedule"),
    "a schedule of words": (at_top(lr_schedulers=[{"base_lrs": ["x"]}]), "base_lrs is no number"),
    "no rows": (at_top(rows={"MetricsFile": -1}), "rows.MetricsFile"),
    "an optimizer of text": (at_top(optimizer_states=["sgd"]), "optimizer_states.0"),
    "momentum of other weights": (
        at_top(optimizer_states=[{"state": {0: {"momentum_buffer": torch.ones(77)}}}]),
        "the optimizer's momentum_buffer belongs to other weights",
    ),
    "momentum of text": (
        at_top(optimizer_states=[{"state": {0: {"step": 1, "exp_avg": []}}}]),
        "optimizer's exp_avg",
    ),
    "many steps": (
        at_top(optimizer_states=[{"state": {0: {"step": torch.ones(77)}}}]),
        "optimizer's step",
    ),
    "a schedule of text": (at_top(lr_schedulers={}), "lr_schedulers"),
    "a callback of text": (at_top(callbacks={"ModelCheckpoint": "x"}), "callbacks.ModelCheckpoint"),
    "a best one on a server": (
        at_top(callbacks={"C": {"best_model_path": "https://host/best.ckpt"}}),
        "no path of a file",
    ),
    "another file to delete": (
        at_top(callbacks={"C": {"dirpath": "/r", "best_k_models": {"/r/config.yaml": 0.0}}}),
        "no checkpoint in '/r'",
    ),
    "a folder to delete": (
        at_top(callbacks={"C": {"dirpath": "/r", "best_k_models": {"/r/../home": 0.0}}}),
        "no path of a file",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_it_says_of_itself_is_checked(name: str, content: Content, tmp_path: Path) -> None:
    change, said = MALFORMED[name]
    change(content)
    torch.save(content, tmp_path / "evil.ckpt")
    text = refused(tmp_path / "evil.ckpt")
    assert said in text
    assert "\n" not in text


def test_pretrained_weights_are_neither_fetched_nor_opened(
    content: Content, tmp_path: Path
) -> None:
    for given in ("https://host/weights.pth", str(tmp_path / "secret.pth"), True):
        net = DANet(dilated_resnet("resnet18"), 3)
        in_model(backbone=RESNET | {"pretrained": given})(content)
        content["state_dict"] = {f"net.{name}": value for name, value in net.state_dict().items()}
        torch.save(content, tmp_path / "evil.ckpt")
        with watch:
            load(tmp_path / "evil.ckpt")


# ---- what a command builds of it


def test_only_the_command_line_is_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "the-secret-value")
    folder = {
        "_target_": "danet_lightning.data.camvid.CamVid",
        "root": "${oc.env:SECRET}",
    }
    assert build_over(folder, OmegaConf.create({}), DATASET, []).root == "${oc.env:SECRET}"
    given = OmegaConf.create({"root": "${oc.env:SECRET}"})
    assert build_over(folder, given, DATASET, []).root == "the-secret-value"


def test_a_wrong_override_is_named_by_its_key() -> None:
    """Not as if the checkpoint had said it."""
    for typed, said in {
        "tst_images": "dataset.tst_images: unknown key; did you mean test_images?",
        "test_images": "dataset.test_images: 0: must be greater than or equal to 1",
    }.items():
        with pytest.raises(RequestError) as caught:
            build_over(SCENES, OmegaConf.create({typed: 0}), DATASET, [])
        assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"_target_": "danet_lightning.train.wandb_logger.wandb_logger"},
            "where a class of danet_lightning.data",
        ),
        (
            {"_target_": "danet_lightning.data.folder.pair_lines"},
            "a DataSet has to stand",
        ),
        ({"_target_": "danet_lightning.models.DANet"}, "where a class of danet_lightning.data"),
        ({"_target_": "os.system"}, "outside danet_lightning."),
        ({"train_images": 10**12}, "less than or equal to"),
        ({"size": [10**6, 10**6]}, "less than or equal to"),
        ({"scenes_seed": CALL}, "wants to call os.mkdir as its dataset.scenes_seed"),
        ({"size": [0, 1]}, "size: [0, 1]: entry 0 must be greater"),
        ({"color": 1}, "color: unknown key. Known: train_images"),
    ],
    ids=str,
)
def test_a_data_set_is_one_of_ours_with_arguments_of_its_own(
    change: dict[str, Any], said: str
) -> None:
    with watch, pytest.raises(RequestError) as caught:
        build_over(SCENES | change, OmegaConf.create({}), DATASET, [])
    assert said in str(caught.value)


# ---- what a file holds


class Calls:
    """Pickled as a call."""

    def __init__(self, called: Any, *arguments: Any) -> None:
        self.called, self.arguments = called, arguments

    def __reduce__(self) -> Any:
        return self.called, self.arguments


def saved(value: Any) -> Callable[[Path], None]:
    return lambda path: torch.save({"danet_lightning": {}, "value": value}, path)


def old(value: Any) -> Callable[[Path], None]:
    """In the format of 2019."""
    return lambda path: torch.save(
        {"danet_lightning": {}, "value": value}, path, _use_new_zipfile_serialization=False
    )


def packed(pickled: bytes, data: bytes = b"", **options: Any) -> Callable[[Path], None]:
    """A zip file with this pickle, and one storage."""

    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", **options) as archive:
            archive.writestr("a/data.pkl", pickled)
            archive.writestr("a/data/0", data)
            archive.writestr("a/version", "3\n")

    return write


def tensor(numbers: int, size: str, stride: str, storage: str = "FloatStorage") -> bytes:
    """A pickle of one tensor, as torch writes it."""
    return (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\n"
        + storage.encode()
        + b"\nX\x01\0\0\x000X\x03\0\0\0cpu"
        + number(numbers)
        + b"tQK\0"
        + pickle.dumps(eval(size), 2)[2:-1]
        + pickle.dumps(eval(stride), 2)[2:-1]
        + b"\x89ccollections\nOrderedDict\n)RtR."
    )


def number(value: int) -> bytes:
    return pickle.dumps(value, 2)[2:-1]


def two_directories(path: Path) -> None:
    """One for readers that trust the end, one for those that trust the offset in it."""
    packed(b"\x80\x02}.")(path)
    whole = path.read_bytes()
    start = struct.unpack("<L", whole[-6:-2])[0]
    path.write_bytes(whole[:start] + b"other" + whole[start:])


def overlapping(path: Path) -> None:
    packed(b"\x80\x02}.", bytes(10**6))(path)
    with zipfile.ZipFile(path, "a") as archive:
        first = archive.getinfo("a/data/0")
        for place in range(200):
            entry = copy.copy(first)
            entry.filename = f"a/data/{place + 1}"
            archive.filelist.append(entry)
        archive._didModify = True


ZEROS = bytes(2**26)
DENSE = "another tensor than a dense one"
HUGE = str((2**40,))
FILES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a call": (saved(Calls(os.system, "touch made")), "would run code (posix.system)"),
    "getattr": (saved(Calls(getattr, Calls(__import__, "os"), "system")), "would run code"),
    "an import": (saved(Calls(__import__, "antigravity")), "would run code (builtins.__import__)"),
    "eval": (old(Calls(eval, "1")), "would run code (builtins.eval)"),
    "a network": (saved(nn.Linear(2, 2)), "would run code (torch.nn.modules.linear.Linear)"),
    "a compressed storage": (
        packed(tensor(2**24, str((2**24,)), "(1,)"), ZEROS, compression=zipfile.ZIP_DEFLATED),
        "compressed",
    ),
    "a compressed pickle": (packed(b"N" * 10**7, compression=zipfile.ZIP_BZIP2), "compressed"),
    "entries on top of each other": (overlapping, "overlap"),
    "two directories": (two_directories, "its directory of entries"),
    "strides of 0": (saved(torch.zeros(1).expand(2**31)), "more than the 1 numbers"),
    "strides of 0, old": (old(torch.zeros(1).expand(2**31)), "more than the 1 numbers"),
    "strides beyond": (
        packed(tensor(4, "(2, 2)", "(2**20, 1)"), bytes(16)),
        "more than the 4 numbers",
    ),
    "an offset beyond": (
        packed(tensor(1, "(2**30,)", "(1,)"), bytes(4)),
        "more than the 1 numbers",
    ),
    "a negative stride": (packed(tensor(4, "(2,)", "(-1,)"), bytes(16)), "cannot be read"),
    "sizes of text": (packed(tensor(4, "('a',)", "(1,)"), bytes(16)), "cannot be read"),
    "an empty side of 10^12": (saved(torch.empty(10**12, 0)), "more than the 0 numbers"),
    "more declared than stored": (packed(tensor(8, "(8,)", "(1,)"), bytes(16)), "has 16 bytes"),
    "far more declared": (packed(tensor(2**40, HUGE, "(1,)"), bytes(16)), "many times its size"),
    "one storage, many tensors": (
        saved(
            [torch.zeros(10**6)[0:].view(-1)] * 1
            + [v[i:] for v in [torch.zeros(10**6)] for i in range(50)]
        ),
        "many times its size",
    ),
    "no memory at all": (saved(torch.empty(2**40, device="meta")), DENSE),
    "a sparse tensor": (saved(torch.eye(3).to_sparse()), DENSE),
    "a bytearray": (saved(Calls(bytearray, 10**10)), "would run code (builtins.bytearray)"),
    "a tensor of a size": (
        saved(Calls(torch.Tensor, 10**5, 10**5)),
        "would run code (torch.Tensor)",
    ),
    "many copies of a text": (
        saved(
            [Calls(Counter, dict.fromkeys(range(10**4)))]
            + [Calls(Counter, d) for d in [dict.fromkeys(range(10**4))] for _ in range(200)]
        ),
        "many times its size",
    ),
    "too many values": (packed(b"\x80\x02]" + b"(" + b"N" * 1_200_000 + b"e."), "more values"),
    "900 deep": (
        packed(b"\x80\x02}X\x0f\0\0\0danet_lightning" + b"]" * 900 + b"a" * 899 + b"s."),
        "nested more",
    ),
    "100,000 deep": (
        packed(b"\x80\x02}X\x0f\0\0\0danet_lightning" + b"]" * 10**5 + b"a" * 99_999 + b"s."),
        "nested more",
    ),
    "a tuple in tuples as a key": (
        packed(b"\x80\x02}N" + b"\x85" * 200_000 + b"Ns."),
        "cannot be read",
    ),
    "a tuple in tuples in a set": (
        packed(b"\x80\x02c__builtin__\nset\n]K\1N" + b"\x85" * 200_000 + b"\x86a\x85R."),
        "cannot be read",
    ),
    "a set of a storage": (
        packed(
            b"\x80\x02c__builtin__\nset\n(X\x07\0\0\0storagectorch\nByteStorage\n"
            b"X\1\0\0\x000X\3\0\0\0cpuK\1tQ\x85R.",
            b"1",
        ),
        "cannot be read",
    ),
    "a number with 600 digits as a key": (
        packed(b"\x80\x02}\x8a\xff" + b"\x7f" * 255 + b"Ns."),
        "cannot be read",
    ),
    "a memo of 10^9": (packed(b"\x80\x02}r\xff\xff\xff\x7f."), "was not written by"),
    "a bytearray of 2^40": (
        packed(b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"."),
        "cannot be read",
    ),
    "a text of 4 GB": (packed(b"\x80\x02X\xff\xff\xff\xff."), "cannot be read"),
    "a state that hides methods": (
        packed(b"\x80\x02ccollections\nOrderedDict\n)R}X\x05\0\0\0itemsK\1sb."),
        "cannot be read",
    ),
    "a list in itself": (
        packed(b"\x80\x02}X\x0f\0\0\0danet_lightning]q\0h\0as."),
        "nested more than",
    ),
    "torchscript": (packed(b"\x80\x02c__torch__\nNet\n)\x81."), "would run code (__torch__.Net)"),
    "no entry": (lambda path: zipfile.ZipFile(path, "w").close(), "cannot be read"),
    "a tar": (lambda path: tarfile.open(path, "w").close(), "cannot be read"),
    "half of it": (
        lambda path: (saved(torch.zeros(99))(path), os.truncate(path, 700)),
        "truncated",
    ),
    "half of an old one": (
        lambda path: (old(torch.zeros(99))(path), os.truncate(path, 500)),
        "truncated",
    ),
    "a text": (
        lambda path: path.write_text("version https://git-lfs"),
        "not written by torch.save",
    ),
    "a list": (lambda path: torch.save([1], path), "holds a list"),
    "numbers as names": (lambda path: torch.save({1: 2, "a": 3}, path), "not written by danet"),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's, of what is saved here
def test_a_file_is_inspected_before_it_is_read(name: str, tmp_path: Path) -> None:
    write, said = FILES[name]
    write(tmp_path / "evil.ckpt")
    assert said in refused(tmp_path / "evil.ckpt")
    with (
        watch,
        pytest.raises(ValueError, match=r"evil.ckpt|state dict|of ours") as caught,
    ):  # foreign weights are read the same way
        import_weights(tmp_path / "evil.ckpt")
    assert len(str(caught.value)) < 1000
    assert not Path("made").exists()


# ---- what a person sees


@pytest.fixture(scope="module")
def folder(whole: Content, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where files of strangers lie."""
    place = tmp_path_factory.mktemp("downloads")
    content = copy.deepcopy(whole)
    in_model(
        _target_="danet_lightning.config.building.build_over", given=["os.system", "touch made"]
    )(content)
    torch.save(content, place / "call.ckpt")
    torch.save({**whole, "danet_lightning": {"config": {}}}, place / "facts.ckpt")
    FILES["strides of 0"][0](place / "strides.ckpt")
    return place


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "ckpt_path={}", "trainer=cpu"],
        ["predict", "ckpt_path={}", "input=photo.png", "output=out"],
        pytest.param(["train", "ckpt_path={}", "trainer=cpu"], marks=pytest.mark.slow),
        ["train", "init_from={}", "trainer=cpu", "backbone=resnet18", "logger=none"],
        pytest.param(
            ["convert", "source={}", "output=o", "dataset=camvid"], marks=pytest.mark.slow
        ),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_every_command_says_it_in_a_sentence(arguments: list[str], folder: Path) -> None:
    for name in ("call.ckpt", "facts.ckpt", "strides.ckpt"):
        is_foreign = arguments[0] == "convert"
        if name == "call.ckpt" and arguments[0] in ("train", "convert"):
            continue  # these build nothing of it
        done = danet(*(part.format(name) for part in arguments), "run_dir=r", cwd=folder)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        said = "checkpoint of ours" if is_foreign and name == "facts.ckpt" else name
        said = "wants to call" if name == "call.ckpt" else said
        assert said in done.stderr
        assert not (folder / "made").exists()
        assert not (folder / "out").exists()


def test_training_on_images_it_does_not_tell_is_not_resumed(
    content: Content, tmp_path: Path
) -> None:
    content |= {"loops": LOOPS, "rows": {}, "data": {}}
    torch.save(content, tmp_path / "last.ckpt")
    with pytest.raises(RequestError, match="does not say on which images"):
        resuming.find(str(tmp_path / "last.ckpt"), tmp_path)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int32, torch.bool], ids=str)
def test_weights_of_other_numbers_are_not_converted(
    dtype: torch.dtype, content: Content, tmp_path: Path
) -> None:
    name = "net.backbone.fourth.weight"
    content["state_dict"][name] = content["state_dict"][name].to(dtype)
    torch.save(content, tmp_path / "a.ckpt")
    assert f"{name.removeprefix('net.')} holds {dtype}" in refused(tmp_path / "a.ckpt")


def test_weights_that_are_no_numbers_are_refused(content: Content, tmp_path: Path) -> None:
    weight = content["state_dict"]["net.backbone.fourth.weight"]
    weight[0] = float("nan")
    torch.save(content, tmp_path / "a.ckpt")
    assert "backbone.fourth.weight holds NaN" in refused(tmp_path / "a.ckpt")


def test_a_variance_below_0_is_refused(content: Content, tmp_path: Path) -> None:
    """Its root is NaN, of which the first class would be the largest."""
    name = next(key for key in content["state_dict"] if key.endswith("running_var"))
    content["state_dict"][name][0] = -1
    torch.save(content, tmp_path / "a.ckpt")
    assert f"{name.removeprefix('net.')} holds a variance below 0" in refused(tmp_path / "a.ckpt")


def test_weights_of_half_precision_are_taken(content: Content, tmp_path: Path) -> None:
    name = "net.backbone.fourth.weight"
    content["state_dict"][name] = content["state_dict"][name].half()
    torch.save(content, tmp_path / "a.ckpt")
    load(tmp_path / "a.ckpt", TRUSTED)


@pytest.mark.slow
def test_a_damaged_state_of_a_training_is_refused(undisturbed: Path, tmp_path: Path) -> None:
    """By a sentence, also where Lightning finds it out."""
    for key, value in {"pytorch-lightning_version": [], "optimizer_states": [{"state": 1}]}.items():
        content = torch.load(undisturbed / "last.ckpt", weights_only=True)
        torch.save(content | {key: value}, tmp_path / "last.ckpt")
        options = ["ckpt_path=last.ckpt", "run_dir=run", "trainer.max_epochs=3"]
        done = danet("train", *TINY, *options, cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert "ckpt_path: the state of the training in the checkpoint is damaged" in done.stderr
        assert "Traceback" not in done.stderr
