"""Which commit a number is said to come from: this code's, or none."""

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from danet_lightning.checkpoints import metadata as provenance

IDENTITY = ["-c", "user.name=x", "-c", "user.email=x@localhost", "-c", "commit.gpgsign=false"]


def git(folder: Path, *arguments: str) -> str:
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(folder), *IDENTITY, *arguments]
    return subprocess.run(command, env=own, capture_output=True, text=True, check=True).stdout


def commit_all(folder: Path) -> str:
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "all")
    return git(folder, "rev-parse", "HEAD").strip()


def copy_to(folder: Path) -> Path:
    """Put the module whose place counts into a package folder."""
    folder /= "checkpoints"
    folder.mkdir(parents=True)
    return Path(shutil.copy(provenance.__file__, folder / "provenance.py"))


def told_by(file: Path) -> str | None:
    """What a copy of the module says of itself."""
    spec = importlib.util.spec_from_file_location("copied_provenance", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.git_commit()


@pytest.fixture
def checkout(tmp_path: Path) -> tuple[Path, Path, str]:
    """A repository of ours in a folder with an umlaut: its root, the module, the commit."""
    root = tmp_path / "Übung 1"
    file = copy_to(root / "src" / "danet_lightning")
    (root / "README.md").write_text("ours")
    return root, file, commit_all(root)


def test_a_checkout_names_its_commit(checkout: tuple[Path, Path, str]) -> None:
    root, file, commit = checkout
    assert told_by(file) == commit
    git(root, "tag", "-am", "first", "v1.0")  # describe would name the tag instead
    assert told_by(file) == commit


@pytest.mark.parametrize(
    ("changed", "is_change"),
    [("README.md", True), ("src/danet_lightning/new.py", True), ("runs/results.json", False)],
)
def test_changes_are_told(checkout: tuple[Path, Path, str], changed: str, is_change: bool) -> None:
    root, file, commit = checkout
    (root / changed).parent.mkdir(exist_ok=True)
    (root / changed).write_text("changed")
    assert told_by(file) == commit + "+changes" * is_change


def ignored_wheel(root: Path) -> Path:
    (root / ".gitignore").write_text(".venv\n")
    file = copy_to(root / ".venv" / "lib" / "site-packages" / "danet_lightning")
    commit_all(root)
    return file


def committed_wheel(root: Path) -> Path:
    file = copy_to(root / "lib" / "danet_lightning")
    commit_all(root)
    return file


def committed_export(root: Path) -> Path:
    file = copy_to(root / "third_party" / "danet" / "src" / "danet_lightning")
    commit_all(root)
    return file


def export_over_a_repository(root: Path) -> Path:
    (root / "theirs.txt").write_text("theirs")
    commit_all(root)
    file = copy_to(root / "src" / "danet_lightning")
    git(root, "add", "-A")  # not committed
    return file


def no_commit_yet(root: Path) -> Path:
    git(root, "init", "-q")
    return copy_to(root / "src" / "danet_lightning")


def no_repository(root: Path) -> Path:
    return copy_to(root / "src" / "danet_lightning")


@pytest.mark.parametrize(
    "place",
    [ignored_wheel, committed_wheel, committed_export, export_over_a_repository, no_commit_yet,
     no_repository],
)  # fmt: skip
def test_other_repositories_are_not_ours(tmp_path: Path, place: Callable[[Path], Path]) -> None:
    assert told_by(place(tmp_path)) is None


def test_variables_of_a_hook_do_not_matter(
    checkout: tuple[Path, Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, file, commit = checkout
    other = tmp_path / "other"
    other.mkdir()
    (other / "theirs.txt").write_text("theirs")
    commit_all(other)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git" / "index"))
    assert told_by(file) == commit


def test_submodules_and_worktrees_have_their_own_commit(
    checkout: tuple[Path, Path, str], tmp_path: Path
) -> None:
    root, _, commit = checkout
    outer = tmp_path / "outer"
    outer.mkdir()
    git(outer, "init", "-q")
    git(outer, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(root), "danet")
    commit_all(outer)
    assert told_by(outer / "danet" / "src/danet_lightning/checkpoints/provenance.py") == commit
    git(root, "worktree", "add", "-q", str(tmp_path / "tree"))
    assert told_by(tmp_path / "tree" / "src/danet_lightning/checkpoints/provenance.py") == commit


def test_no_git_is_no_commit(
    checkout: tuple[Path, Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert told_by(checkout[1]) is None
