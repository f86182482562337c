"""Names of files: whatever their Unicode form, and however many links lead to them."""

import os
import unicodedata
from pathlib import Path

import pytest

from danet_lightning.disk.names import expanded, files_below, stored_path
from danet_lightning.errors import RequestError


def fail(error: OSError) -> None:
    raise error


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_path_is_found_in_the_form_of_the_disk(tmp_path: Path, form: str) -> None:
    stored = unicodedata.normalize(form, "Straße/Grün/Bäume é.png")
    touch(tmp_path, stored)
    for typed in ("NFC", "NFD"):
        path = tmp_path / unicodedata.normalize(typed, stored)
        assert stored_path(path) == tmp_path / stored
    gone = tmp_path / "Grün" / "ä.png"
    assert stored_path(gone) == gone


def test_of_two_forms_the_typed_one_is_meant(tmp_path: Path) -> None:
    forms = [unicodedata.normalize(form, "ä.png") for form in ("NFC", "NFD")]
    touch(tmp_path, *forms)
    assert [stored_path(tmp_path / name).name for name in forms] == forms


LINKS = {
    "to itself": {"a/loop": "."},
    "above": {"a/up": "../..", "a/b/up": "../../.."},
    "to one another": {"a/other": "../c", "c/other": "../a"},
    "each to all": {f"{x}/{y}2": f"../{y}" for x in "acd" for y in "acd"},
    "again": {"e": "a", "c/again": "../a/b"},
    "out and back": {"out": "../outside"},
}


@pytest.mark.parametrize("links", LINKS.values(), ids=LINKS)
def test_links_in_circles_end_and_each_file_is_there_once(
    tmp_path: Path, links: dict[str, str]
) -> None:
    root = touch(tmp_path / "root", "a/1.png", "a/b/2.png", "c/3.png", "d/4.png", ".h/5.png", ".6")
    touch(tmp_path / "outside", "7.png")
    (tmp_path / "outside" / "back").symlink_to("../root")
    for link, target in links.items():
        (root / link).symlink_to(target)
    expected = ["a/1.png", "a/b/2.png", "c/3.png", "d/4.png", *(["out/7.png"] * ("out" in links))]
    assert sorted(files_below(root, fail)) == expected


def test_links_to_files_and_to_nothing_are_files(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    (tmp_path / "b.png").symlink_to("a.png")
    (tmp_path / "c.png").symlink_to("gone.png")
    (tmp_path / "d.png").symlink_to("d.png")
    assert list(files_below(tmp_path, fail)) == ["a.png", "b.png", "c.png", "d.png"]


def test_a_folder_that_cannot_be_listed_is_told(tmp_path: Path) -> None:
    told: list[OSError] = []
    assert list(files_below(tmp_path / "gone", told.append)) == []
    assert [error.filename for error in told] == [str(tmp_path / "gone")]


def test_names_that_are_no_utf_8_are_listed(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"b\xfcro.png")).touch()
    (name,) = files_below(tmp_path, fail)
    assert os.fsencode(name) == b"b\xfcro.png"


def test_without_a_home_a_tilde_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert expanded("photos") == Path("photos")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    with pytest.raises(RequestError, match=r"~/photos: .*home.* Set HOME"):
        expanded("~/photos")
