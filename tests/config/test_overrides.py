"""Texts on the command line: they reach the configuration as they were typed."""

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import OverrideParseException
from launching import check_command_line
from omegaconf import OmegaConf

from danet_lightning.config.commands import CheckConfig, EvaluateConfig, TrainConfig
from danet_lightning.config.explanation import explain
from danet_lightning.config.overrides import compose as compose_job
from danet_lightning.config.request import conf_dir, validate
from danet_lightning.config.rules import open_keys, text_keys
from danet_lightning.config.spelling import added, literal

PATHS = [
    *("Größe/ä 1.png", "a[1].png", "it's.png", "007", "a,b=c.png", "木\\", "*.jpg", "a:b", "-x"),
    *("(1) {s}; #&<>!", '"a".png', "'a", "zeile\nzwei", " a ", "%s ~ ^ `", "b\udcfcro", "true"),
]
CLASSES = [
    *(
        "fußgänger",
        "straße (breit)",
        "it's",
        "a=b",
        "c;d",
        "{e}",
        "東京 駅",
        'say "f"',
        "b\udcfcro",
    ),
    *("b\udcfcro", "a b", "car"),
]


def parsed(argument: str) -> Override:
    (override,) = OverridesParser.create().parse_overrides([argument])
    return override


@pytest.mark.parametrize("path", PATHS)
def test_paths_are_read_whole(path: str) -> None:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("predict", [literal(f"input={path}", texts=["input"])])
    assert config.input == path


@pytest.mark.parametrize("is_sweep", [False, True])
def test_names_of_a_list_are_read_in_its_entries(is_sweep: bool) -> None:
    def read(text: str) -> object:
        return parsed(literal(text, is_sweep)).value()

    assert read(f"dataset.classes=[{','.join(CLASSES)}]") == CLASSES
    assert read("dataset.classes=['x, y',ä]") == ["x, y", "ä"]
    assert read("dataset.ids=[1,ä,null]") == [1, "ä", None]  # no other entry becomes a text
    assert read("+x={a: ä}") == {"a": "ä"}


def test_other_texts_are_quoted_where_they_need_it() -> None:
    for text in PATHS:
        assert parsed(literal(f"logger.wandb.name=ß{text}")).value() == f"ß{text}"
    assert parsed(literal("dataset.mask_suffix= (1)")).value() == " (1)"


TYPED = [
    "dataset=voc2012 dataset.sbd_root=/mnt/data (1)/SBD",
    "backbone.pretrained=/home/zoë/r.pth",
    "dataset=camvid dataset.root=2024",
    "dataset=camvid dataset.root=007",
    "dataset=camvid dataset.root=1_000",
    "dataset=camvid dataset.root=true",
    "dataset=folder dataset.root=x dataset.classes=[a,b] dataset.images={split}",
    "dataset=folder dataset.root=x dataset.classes=[a,b] dataset.masks=[x]",
    "run_dir=[x]",
    "init_from=null",
]


@pytest.mark.parametrize("line", TYPED)
def test_the_annotation_says_what_is_text(line: str) -> None:
    """Whatever Hydra would make of it, and null stays null."""
    arguments = [
        literal(each, texts=text_keys(TrainConfig)) for each in re.split(r" (?=[\w.]+=)", line)
    ]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose_job("train", arguments)
        validate(config, TrainConfig, arguments)
    key, _, text = (
        line.rpartition(" ")[2].partition("=")
        if "(" not in line
        else ("dataset.sbd_root", "=", "/mnt/data (1)/SBD")
    )
    assert OmegaConf.select(config, key) == (None if text == "null" else text)


def test_a_checkpoints_nodes_take_keys_without_a_plus(tmp_path: Path) -> None:
    nodes = open_keys(EvaluateConfig)
    assert added("dataset.root=/data", nodes) == "++dataset.root=/data"
    assert added("protocol.crop=[8,8]", nodes) == "++protocol.crop=[8,8]"
    for argument in ("dataset=camvid", "+dataset.root=x", "ckpt_path=a.b", "trainer.devices=2"):
        assert added(argument, nodes) == argument


def test_a_list_of_one_needs_no_brackets() -> None:
    check_command_line("check", CheckConfig, ["dataset=scenes", "splits=train"])


def test_a_sweep_keeps_its_commas() -> None:
    for argument, points in {
        "dataset.root=/größe (1),/e": ["'/größe (1)'", "/e"],
        "dataset.classes=choice([ä,b],[c,d])": ["['ä',b]", "[c,d]"],
        "seed=0,1": ["0", "1"],
    }.items():
        assert list(parsed(literal(argument, is_sweep=True)).sweep_string_iterator()) == points


def test_what_hydra_reads_is_left_alone() -> None:
    for argument in ("opacity=0.1", "input='a b'", 'input="a"', "--help", "input=", "~dataset"):
        for is_sweep in (False, True):
            assert literal(argument, is_sweep) == argument


@pytest.mark.parametrize("text", PATHS)
def test_the_remedy_works_when_it_is_typed(text: str) -> None:
    """In a shell, and with the value that was meant."""
    with pytest.raises(OverrideParseException) as raised:
        parsed(f"logger.wandb.name=ß{text}")
    remedy = explain(raised.value).partition("; quote: ")[2]
    assert [parsed(word).value() for word in shlex.split(remedy)] == [f"ß{text}"]


@pytest.mark.parametrize(
    ("argument", "remedy"), [("classes=[a,b", "a list is [a,b]"), ("größe=1", "a key is made of")]
)
def test_what_no_quotation_mark_mends_is_told_so(argument: str, remedy: str) -> None:
    with pytest.raises(OverrideParseException) as raised:
        parsed(literal(argument))
    assert remedy in explain(raised.value)
    assert "quote:" not in explain(raised.value)
