"""Any single wrong key of a training: refused by its name, or run to the end."""

import json
import random
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import hydra
import pytest
from commands import danet, start
from hydra.errors import HydraException
from launching import check_command_line
from omegaconf import OmegaConf

from danet_lightning.config.commands import TrainConfig
from danet_lightning.config.explanation import explain
from danet_lightning.config.request import conf_dir
from danet_lightning.config.spelling import literal
from danet_lightning.errors import RequestError

DRAWN = 300
TRAINED = 8  # of those that are not refused: to the end; the others until their first step
AT_ONCE = 2
TRAINS = 5  # seconds after which a run that trains has shown what it can
PATIENCE = 60  # seconds after which a run that does not train hangs

# In a file, so that a command line has one override that can be wrong.
TINY = """# @package _global_
defaults:
  - override /trainer: cpu
  - override /logger: csv
trainer: {precision: 32-true, max_epochs: 1}
batch_size: 2
dataset: {train_images: 2, val_images: 1, size: [32, 64]}
augmentation: {crop_size: [32, 64]}
backbone: {_target_: small_net.SmallNet} # a ResNet's checkpoints take longer than all the rest
callbacks:
  pictures: {count: 1}
"""
UNTIL_TRAINING = """
  killer: {_target_: killing.Killer, moments: [start0]}
"""
RESNET = "backbone._target_=danet_lightning.models.dilated_resnet"

HUGE = 10**9
AFFORDABLE = {  # what asks for memory or processes: large, and yet there on a small machine
    r"(.*_)?size|crop|stride": 1024,
    r"(train|val|test)_images|count|devices|num_nodes": 1000,
    r"scales|scale_range": 20,
}
NUMBERS: list[Any] = [-1, 0, 3.5, 1e30, float("inf"), float("nan")]
OTHERS: list[Any] = [None, True, "nonsense", "", [], [1], [[1]], {"a": 1}, 7]
TARGETS = [
    "builtins.dict", "builtins.print", "collections.Counter", "danet_lightning.models.DANet",
    "danet_lightning.train.losses.SummedCrossEntropy", "lightning.Callback", "lightning.Trainer",
    "pathlib.Path", "torch.nn.Identity", "torch.optim.SGD", "types.SimpleNamespace",
]  # fmt: skip


class Entry(NamedTuple):
    """A key of the composed config."""

    key: str
    value: Any
    siblings: list[str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Holds a tiny training's config."""
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "tiny.yaml").write_text(TINY)
    (tmp_path / "experiment" / "begun.yaml").write_text(TINY + UNTIL_TRAINING)
    return tmp_path


def command(folder: Path, argument: str, experiment: str = "tiny") -> list[str]:
    resnet = [RESNET] if "backbone" in argument else []
    chosen = [f"experiment={experiment}", "run_dir=run"]
    return ["--config-dir", str(folder), *chosen, *resnet, argument]


# ---- what is wrong


def composed(folder: Path) -> dict[str, Any]:
    overrides = ["experiment=tiny", f"hydra.searchpath=['file://{folder}']", "run_dir=run"]
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = hydra.compose("train", [*overrides, "sweep_dir=sweep"])
    plain: Any = OmegaConf.to_container(config, resolve=False)
    return plain


def entries(node: dict[str, Any], above: str = "") -> Iterator[Entry]:
    for name, value in node.items():
        yield Entry(f"{above}{name}", value, list(node))
        if isinstance(value, dict):
            yield from entries(value, f"{above}{name}.")


def corruption(generator: random.Random, known: list[Entry]) -> tuple[str, str]:
    """A key, and the argument that gives it a wrong value, or its value to a misspelt name."""
    while True:
        key, value, siblings = generator.choice(known)
        if generator.random() < 0.8:
            wrong = corrupted(key, value, generator)
            if wrong != value:
                return key, override(key, wrong)
        above, dot, name = key.rpartition(".")
        other = misspelt(name, generator)
        if other not in siblings and not isinstance(value, dict):
            key = f"{above}{dot}{other}"
            return key, generator.choice(["", "+"]) + override(key, value)


def corrupted(key: str, value: Any, generator: random.Random) -> Any:
    """Another type, a number out of range, a list of another length, or a misspelt text."""
    choices = [*NUMBERS, huge(key), -huge(key), *OTHERS]
    if isinstance(value, list):
        place = generator.randrange(len(value) + 1)
        entry = generator.choice([*choices, *value])
        changed = [*value[:place], entry, *value[place + 1 :]]
        choices = [generator.choice(choices), value[:-1], changed]
    elif isinstance(value, str):
        choices = [generator.choice(choices), misspelt(value, generator)]
        choices += generator.sample(TARGETS, 2) if key.endswith("_target_") else []
    return generator.choice(choices)


def huge(key: str) -> int:
    name = key.rpartition(".")[2]
    return next((most for names, most in AFFORDABLE.items() if re.fullmatch(names, name)), HUGE)


def misspelt(word: str, generator: random.Random) -> str:
    """Two neighbors exchanged, or a letter lost or doubled."""
    at = generator.randrange(max(len(word) - 1, 1))
    pair = word[at : at + 2]
    return word[:at] + generator.choice([pair[::-1], pair[:1], pair[:1] + pair]) + word[at + 2 :]


def override(key: str, value: Any) -> str:
    """In Hydra's grammar: JSON, but for the keys of a mapping and two numbers."""
    text = re.sub(r'"(\w+)": ', r"\1: ", json.dumps(value, ensure_ascii=False))
    return f"{key}={text.replace('NaN', 'nan').replace('Infinity', 'inf')}"


# ---- how it ends


def is_named(key: str, text: str) -> bool:
    """By its dotted key, or by its own name beside the node that could not be built."""
    above, _, name = key.rpartition(".")
    if name == "_target_":
        return above in text
    at_fault = rf"building (\w+\.)*{above}\)|\(while training\)|^{name}="
    return key in text or bool(
        re.search(at_fault, text, re.MULTILINE) and re.search(rf"\b{name}\b", text)
    )


def fault(key: str, code: int, text: str, is_complete: bool) -> str:
    """What is wrong with the end of a run; empty when nothing is."""
    if "Traceback" not in text:
        is_right = {0: is_complete, 1: "The loss of step " in text, 2: is_named(key, text)}
        if is_right.get(code):
            return ""
    return f"exit code {code}{'' if is_complete else ', no results'}: {text}"


def refusal(arguments: list[str]) -> str:
    """What the command refuses before it runs anything; empty when it would run."""
    try:
        check_command_line("train", TrainConfig, list(map(literal, arguments)))
    except (RequestError, HydraException) as error:
        return explain(error)
    return ""


class Case:
    """A run with a wrong key, in a folder of its own."""

    def __init__(self, key: str, arguments: list[str], folder: Path) -> None:
        self.key = key
        self.argument = arguments[-1]
        self.folder = folder / f"run {time.monotonic_ns()}"
        self.folder.mkdir()
        self.running = start("train", *arguments, cwd=self.folder)
        self.started = time.monotonic()

    def end(self) -> str | None:
        """As `fault`; None while it runs."""
        seconds = time.monotonic() - self.started
        has = {name: any(self.folder.rglob(name)) for name in ("results.json", "last.ckpt")}
        if self.running.poll() is not None:
            done = self.running.wait()
            has_begun = (self.folder / "done_start0_0").exists()  # and was killed for it
            complete = has["results.json"]
            told = "" if has_begun else fault(self.key, done.returncode, done.stderr, complete)
        elif seconds > TRAINS and has["last.ckpt"]:
            told = ""
        elif seconds > PATIENCE:
            told = f"hangs: {self.running.stderr.read_text()}"
        else:
            return None
        self.running.kill()
        shutil.rmtree(self.folder)
        return told


@pytest.mark.slow
def test_any_wrong_key_is_refused_by_name_or_runs(seed: int, folder: Path) -> None:
    generator = random.Random(seed)
    known = list(entries(composed(folder)))
    faults: list[str] = []
    running: list[Case] = []

    def collect(left: int) -> None:
        while len(running) > left:
            time.sleep(0.02)
            for case in list(running):
                told = case.end()
                if told is not None:
                    running.remove(case)
                    faults.extend([f"{case.argument}: {told}"] if told else [])

    runs = 0
    for _ in range(DRAWN):
        key, argument = corruption(generator, known)
        told = refusal(command(folder, argument))
        if not told:
            words = command(folder, argument, "tiny" if runs < TRAINED else "begun")
            runs += 1
            running.append(Case(key, words, folder))
            collect(AT_ONCE - 1)
        elif not is_named(key, told):
            faults.append(f"{argument}: {told}")
    collect(0)
    print(f"{runs} of {DRAWN} were run")
    assert runs > DRAWN / 20
    assert not faults, f"TEST_SEED={seed}\n" + "\n".join(faults)


# What it has found; each passes what can be checked before anything is imported.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("argument", "code", "told"),
    [
        ("model.gamma_init=1", 0, "epoch 1/1"),  # a whole number
        ("callbacks.pictures.run_dir=else/where", 0, "epoch 1/1"),
        ("backbone.pretrained=nowhere.pth", 2, "pretrained: nowhere.pth: no such file"),
        ("callbacks.best.monitor=val/mio", 2, "did you mean val/miou?"),
        ("callbacks.pictures._target_=builtins.dict", 2, "makes a dict, where a"),
        ("logger.csv._target_=builtins.dict", 2, "makes a dict, where a"),
        ("dataset._target_=builtins.dict", 2, "built by a _target_ that makes a DataSet"),
        ("model._target_=torch.nn.Identity", 2, "makes a Identity, where a"),
        ("module._target_=types.SimpleNamespace", 2, "makes a SimpleNamespace, where a"),
        ("trainer._target_=types.SimpleNamespace", 2, "makes a SimpleNamespace, where a"),
        ("loss._target_=torch.nn.Identity", 2, "cannot be called with (outputs, mask)"),
        ("protocol._target_=torch.nn.Identity", 2, "that makes a EvaluationProtocol"),
        ("optimizer._target_=torch.nn.Identity", 2, "makes a Identity, not an Optimizer"),
    ],
)
def test_what_was_found_once(folder: Path, argument: str, code: int, told: str) -> None:
    arguments = command(folder, argument)
    assert refusal(arguments) == ""
    done = danet("train", *arguments, cwd=folder)
    assert done.returncode == code, done.stderr
    key = argument.partition("=")[0].lstrip("+")
    assert fault(key, code, done.stderr, is_complete=code == 0) == ""
    assert told in done.stderr


@pytest.mark.parametrize(
    ("code", "text", "is_complete", "is_fine"),
    [
        (0, "", True, True),
        (0, "", False, False),
        (2, "model.dropout: 7: must be less", False, True),
        (2, "dropout must be less (while building module.model)", False, True),
        (2, "dropout must be less (while building module)", False, False),
        (2, "something is wrong (while building model)", False, False),
        (2, "Traceback ... model.dropout", False, False),
        (1, "model.dropout", False, False),
        (1, "The loss of step 1 is nan", False, True),
        (1, "Traceback ... The loss of step 1 is nan", False, False),
        (-9, "model.dropout", False, False),
    ],
)
def test_the_judge_sees_a_wrong_end(code: int, text: str, is_complete: bool, is_fine: bool) -> None:
    assert (fault("model.dropout", code, text, is_complete) == "") == is_fine
