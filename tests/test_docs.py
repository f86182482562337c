"""What the documents tell people to type is a valid request, and what they name is there."""

import os
import re
import shlex
from pathlib import Path

import hydra
import pytest
import yaml
from commands import danet
from hydra.core.hydra_config import HydraConfig
from launching import check_command_line
from omegaconf import OmegaConf

from danet_lightning.__main__ import VERBS
from danet_lightning.config import commands as schema
from danet_lightning.config.overrides import compose
from danet_lightning.config.request import conf_dir
from danet_lightning.config.spelling import understood

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
YAMLS = sorted((ROOT / "conf").rglob("*.yaml"))
FORMS = {verb: getattr(schema, f"{verb.title()}Config") for verb in VERBS}
COMMAND = re.compile(  # "$ " introduces an example of a wrong one
    rf"(?<!\$ )(?:danet |python -m danet_lightning\.)({'|'.join(FORMS)}) ([^`#\n]*)"
)


def commands(paths: list[Path]) -> list[tuple[str, str]]:
    found = [match for path in paths for match in COMMAND.findall(path.read_text())]
    lines = {(verb, re.split(r"\s{2,}|;|\)(?![)'])", line)[0].strip()) for verb, line in found}
    return sorted((verb, line) for verb, line in lines if line and not line.startswith("..."))


@pytest.mark.parametrize(
    ("verb", "line"),
    [
        pytest.param(verb, line, marks=pytest.mark.slow) if line.startswith("-m ") else (verb, line)
        for verb, line in commands([*DOCUMENTS, *YAMLS])
    ],
)
def test_every_command_is_a_valid_request(
    verb: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "weights"
    file.touch()
    (tmp_path / "srun").touch(mode=0o755)  # some commands are for clusters
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    given = r"^(ckpt_path|init_from|source)=.*"
    words = [re.sub(given, rf"\1={file}", word) for word in shlex.split(line)]
    # the first of several seeds: each more is a point more, which says nothing new
    words = [re.sub(r"^(seed=\d+)[\d,]*$", r"\1", word) for word in words]
    check_command_line(verb, FORMS[verb], understood(words, FORMS[verb]))


def test_what_a_shell_would_expand_is_quoted() -> None:
    """Without quotes, zsh says `no matches found` to a key=[a,b]."""
    lines = [line for _, line in commands([*DOCUMENTS, *YAMLS])]
    assert len(lines) > 80
    assert [line for line in lines if re.search(r"[][{}*?]", re.sub(r"'[^']*'", "", line))] == []


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, tmp_path: Path) -> None:
    shown = danet(verb, "--help", cwd=tmp_path)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith(f"danet {verb}: ")
    assert not list(tmp_path.iterdir())


def test_the_help_of_train_shows_what_the_defaults_are() -> None:
    try:
        with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
            config = compose("train", [])
    finally:
        HydraConfig.instance().cfg = None
    text = (conf_dir() / "train.yaml").read_text().partition("with their values")[2]
    shown = dict(re.findall(r"^ {8}([\w.]+)=([^\s.]\S*)", text, re.MULTILINE))
    assert len(shown) >= 6
    assert {key: yaml.safe_load(value) for key, value in shown.items()} == {
        key: OmegaConf.select(config, key) for key in shown
    }


def test_every_test_that_fidelity_names_is_there() -> None:
    text = (ROOT / "docs" / "fidelity.md").read_text()
    there = {path.name: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    cells = re.findall(r"`(test_\w+\.py)`((?:[:,]? `test_\w+…?`)*)", text)
    assert len(cells) > 20
    for file, names in cells:
        for name in re.findall(r"`(test_\w+)…?`", names):
            assert f"def {name}" in there[file], f"{file}: {name}"
