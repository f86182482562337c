"""An output that cannot be is told before anything else is done, by every command that has one."""

from pathlib import Path

import pytest
from commands import danet

COMMANDS = {
    "export": ["ckpt_path=nothing.ckpt"],
    "hub": ["ckpt_path=nothing.ckpt", "format=hub"],
    "convert": ["source=nothing.ckpt", "dataset=scenes"],
    "predict": ["ckpt_path=nothing.ckpt", "input=."],
    "attention": ["ckpt_path=nothing.ckpt", "input=."],
    "report": ["runs=."],
}
REPLACED = ["predict", "attention", "report"]  # earlier results, in a folder that they fill


def refused(folder: Path, name: str, output: str) -> str:
    """What a command says; its checkpoint is none, which only who reads it would find."""
    (folder / "nothing.ckpt").touch()
    before = sorted(folder.rglob("*"))
    verb = "export" if name == "hub" else name
    done = danet(verb, *COMMANDS[name], f"output={output}", cwd=folder)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(folder.rglob("*")) == before
    return done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_an_output_that_cannot_be_written_is_told_first(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    told = refused(tmp_path, name, "file/below/net.onnx")
    assert told.startswith('output: "file/below/net.onnx": cannot be written (')
    assert "Not a directory); choose another place" in told


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder no user can write to")
@pytest.mark.parametrize("name", COMMANDS)
def test_a_folder_that_no_one_can_write_to(name: str, tmp_path: Path) -> None:
    told = refused(tmp_path, name, "/proc/self/new/net.onnx")
    assert told.startswith('output: "/proc/self/new/net.onnx": cannot be written (/proc/self: ')


@pytest.mark.parametrize("name", sorted({*COMMANDS} - {*REPLACED}))
@pytest.mark.parametrize("there", ["a file", "a link to nothing"])
def test_an_output_that_exists_is_told_first(name: str, there: str, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.touch() if there == "a file" else path.symlink_to("nowhere")
    told = refused(tmp_path, name, "net.onnx")
    assert told.startswith('output: "net.onnx": ')
    assert "net.onnx exists; choose another name or remove it" in told


@pytest.mark.parametrize("name", sorted({*COMMANDS} - {"export"}))
def test_an_empty_output(name: str, tmp_path: Path) -> None:
    assert refused(tmp_path, name, "").startswith("output: ")


def test_nothing_is_made_of_an_output_that_can_be(tmp_path: Path) -> None:
    """The checkpoint is told, as it comes second; the folder is not made for it."""
    for name in COMMANDS:
        assert "output" not in refused(tmp_path, name, "new/folder/net.onnx"), name
