import os
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from danet_lightning.data.base import DataError, Triple
from danet_lightning.data.files.leakage import same_files
from danet_lightning.data.files.lists import pair_lines, pair_listed
from danet_lightning.data.files.pairing import pair_by_name
from danet_lightning.errors import RequestError


def raising(
    pair: Callable[..., tuple[list[Triple], list[DataError]]],
) -> Callable[..., list[Triple]]:
    """As training uses it, which raises the first problem."""

    def files(*arguments: Any, **options: Any) -> list[Triple]:
        paired, problems = pair(*arguments, **options)
        if problems:
            raise problems[0]
        return paired

    return files


by_name, listed, lines = map(raising, (pair_by_name, pair_listed, pair_lines))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "my photos [é]"  # brackets are no pattern
    path.mkdir()
    return path


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_files_pair_by_name_in_its_order_whatever_the_suffix(folder):
    images = touch(folder / "a", "b.JPG", "a.png", "c.jpeg", ".hidden.png", "notes.txt")
    labels = touch(folder / "b", "c.png", "b.png", "a.png", "Thumbs.db")
    triples = by_name(images, labels)
    assert [name for name, _, _ in triples] == ["a", "b", "c"]
    assert [path.name for _, path, _ in triples] == ["a.png", "b.JPG", "c.jpeg"]
    assert [path.name for _, _, path in triples] == ["a.png", "b.png", "c.png"]


def test_missing_partners_are_counted_and_the_first_five_named(folder):
    images = touch(folder / "a", *(f"{number}.png" for number in range(9)))
    labels = touch(folder / "b", "8.png")
    with pytest.raises(RequestError, match=r"8 of the files .* partner") as raised:
        by_name(images, labels)
    assert "0, 1, 2, 3, 4, ..." in str(raised.value)
    with pytest.raises(RequestError, match=r"1 of the files in .*b .*in .*a: lonely\."):
        by_name(
            touch(folder / "a"), touch(folder / "b", *(f"{n}.png" for n in range(9)), "lonely.png")
        )


def test_two_images_of_one_name_are_ambiguous(folder):
    images, labels = touch(folder / "a", "x.png", "x.jpg"), touch(folder / "b", "x.png")
    with pytest.raises(RequestError, match=r"x\.jpg and x\.png share a name"):
        by_name(images, labels)


def shown(folder: Path, triples) -> list[tuple[str, ...]]:
    return [
        (name, *(path.relative_to(folder).as_posix() for path in paths)) for name, *paths in triples
    ]


def test_sub_folders_are_part_of_the_name(folder):
    images = touch(folder / "a", "bonn/1.jpg", "ulm/1.jpg", ".cache/1.jpg", "bonn/.2.jpg")
    labels = touch(folder / "b", "bonn/1.png", "ulm/1.tif")
    assert shown(folder, by_name(images, labels)) == [
        ("bonn__1", "a/bonn/1.jpg", "b/bonn/1.png"),
        ("ulm__1", "a/ulm/1.jpg", "b/ulm/1.tif"),
    ]
    touch(images, "bonn__1.jpg")
    with pytest.raises(RequestError, match=r"bonn__1\.jpg share a name|1\.jpg share a name"):
        by_name(images, labels)


def test_suffixes_are_taken_off_and_other_files_passed_over(folder):
    images = touch(folder / "a", "x_rgb.png", "x_depth.png", "y.b_rgb.JPG")
    labels = touch(folder / "b", "x_ids.png", "x_color.png", "y.b_ids.png")
    assert shown(folder, by_name(images, labels, "_rgb", "_ids")) == [
        ("x", "a/x_rgb.png", "b/x_ids.png"),
        ("y.b", "a/y.b_rgb.JPG", "b/y.b_ids.png"),
    ]
    with pytest.raises(RequestError, match=r"1 of .*a have no partner .*\(\*_ids\.png.*: z\."):
        by_name(touch(images, "z_rgb.png"), labels, "_rgb", "_ids")


def test_images_and_labels_share_a_folder(folder):
    both = touch(folder / "a", "x.png", "x_mask.png", "y.jpg", "y_mask.png")
    expected = [("x", "a/x.png", "a/x_mask.png"), ("y", "a/y.jpg", "a/y_mask.png")]
    assert shown(folder, by_name(both, both, "", "_mask")) == expected
    inside = touch(folder / "b", "x.jpg", "masks/x.png")
    assert shown(folder, by_name(inside, inside / "masks")) == [("x", "b/x.jpg", "b/masks/x.png")]


def test_labels_of_other_splits_may_lie_there(folder):
    images, labels = touch(folder / "a", "x.jpg"), touch(folder / "b", "x.png", "y.png")
    assert len(by_name(images, labels, extra_labels=True)) == 1
    with pytest.raises(RequestError, match=r"1 of the files in .*b .*: y\."):
        by_name(images, labels)


def form(name: str, which: str) -> str:
    return unicodedata.normalize(which, name)


def test_names_pair_in_any_unicode_form(folder):
    """A Mac's tools write "ä" as "a" and its dots; the ids are the same everywhere."""
    images = touch(folder / "a", form("Straße/ä_größe.jpg", "NFD"), form("ü_größe.jpg", "NFC"))
    labels = touch(folder / "b", form("Straße/ä_müll.png", "NFC"), form("ü_müll.png", "NFD"))
    expected = [form(name, "NFC") for name in ("Straße__ä", "ü")]
    for which in ("NFC", "NFD"):
        suffixes = (form("_größe", which), form("_müll", which))
        assert [name for name, _, _ in by_name(images, labels, *suffixes)] == expected


def test_two_files_that_look_alike_are_refused(folder):
    alike = [form("Bär.png", which) for which in ("NFC", "NFD")]
    images, labels = touch(folder / "a", *alike), touch(folder / "b", alike[0])
    with pytest.raises(RequestError, match=r"share a name in two Unicode forms") as raised:
        by_name(images, labels)
    for name in alike:
        assert str(images / name) in str(raised.value) or name in str(raised.value)
        assert ascii(name.removesuffix(".png")) in str(raised.value)


def test_names_that_differ_by_case_or_are_strange_are_names(folder):
    names = ["A", "a", "zeile\nzwei", "-x", "%s", "\u2028z", os.fsdecode(b"b\xfcro")]
    images = touch(folder / "a", *(f"{name}.jpg" for name in names))
    labels = touch(folder / "b", *(f"{name}.png" for name in names))
    assert {name for name, _, _ in by_name(images, labels)} == {*names}


def test_labelled_images_of_formats_that_are_not_read_are_named(folder):
    """Where labels may belong to other images, nothing else would tell."""
    images = touch(folder / "a", "x.jpg", "x.DNG", "y.heic", "logo.svg")
    labels = touch(folder / "b", "x.png", "y.png")
    with pytest.raises(RequestError, match=r"1 of the images in .* not read: y\.heic\. Save them"):
        by_name(images, labels, extra_labels=True)
    (labels / "y.png").unlink()
    assert len(by_name(images, labels, extra_labels=True)) == 1


def test_links_in_circles_end(folder):
    images, labels = (
        touch(folder / "a", "s/x.jpg", "y.jpg"),
        touch(folder / "b", "s/x.png", "y.png"),
    )
    (images / "loop").symlink_to(".")
    (images / "s" / "up").symlink_to("../..")
    (labels / "t").symlink_to("s")
    assert [name for name, _, _ in by_name(images, labels)] == ["s__x", "y"]


def test_a_list_may_have_another_unicode_form_than_the_disk(folder):
    touch(folder, form("Bilder ä/ö.jpg", "NFD"), form("Masken ä/ö.png", "NFC"))
    for which in ("NFC", "NFD"):
        (folder / "l.txt").write_text(form("Bilder ä/ö.jpg\tMasken ä/ö.png", which))
        ((name, image, label),) = lines(folder / "l.txt", folder, "")
        assert name == form("Bilder ä__ö", "NFC")
        assert image.is_file()
        assert label.is_file()
        places = [folder / form("Bilder ä/*.jpg", which)], [folder / form("Masken ä/*.png", which)]
        assert len(listed([form("ö", which)], *places, "")) == 1


def test_a_list_names_pairs_in_its_order(folder):
    touch(folder, "i/b.jpg", "i/a a.jpg", "m/b.png", "m/a a.png")
    path = folder / "train.txt"
    path.write_bytes(b"\xef\xbb\xbfi/b.jpg   m/b.png\r\n\r\ni/a a.jpg\tm/a a.png\r\n")
    assert shown(folder, lines(path, folder, "")) == [
        ("i__b", "i/b.jpg", "m/b.png"),
        ("i__a a", "i/a a.jpg", "m/a a.png"),
    ]


def test_a_list_holds_names_of_any_bytes(folder):
    names = [b"b\xfcro", "\u2028\x85 a".encode(), "東京\u3000駅".encode()]
    touch(folder, *(os.fsdecode(name + end) for name in names for end in (b".jpg", b".png")))
    (folder / "l.txt").write_bytes(b"\r\n".join(b"%s.jpg\t%s.png" % (name, name) for name in names))
    assert [name for name, *_ in lines(folder / "l.txt", folder, "")] == [*map(os.fsdecode, names)]
    (folder / "l.txt").write_bytes("東京\u3000駅.jpg 東京\u3000駅.png".encode())
    assert len(lines(folder / "l.txt", folder, "")) == 1
    (folder / "l.txt").write_bytes("bürö.jpg\tbürö.png".encode("latin-1"))
    with pytest.raises(RequestError, match="not in UTF-8: convert it"):
        lines(folder / "l.txt", folder, "")
    (folder / "l.txt").write_bytes("a.jpg\ta.png".encode("utf-16"))
    with pytest.raises(RequestError, match="UTF-16"):
        lines(folder / "l.txt", folder, "")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("i/b.jpg\n", r"line 1 .*'i/b\.jpg' is no pair"),
        ("\ni/b b.jpg m/b.png\n", r"line 1 .* is no pair.*tab"),
        ("i/b.jpg m/b.png\n" * 2, r"lists i/b\.jpg twice"),
        ("i/b.jpg m/c.png\ni/d.jpg m/b.png", r"2 of the files .*m/c\.png, .*i/d\.jpg\."),
    ],
)
def test_a_wrong_line_of_a_list_is_named(folder, text, part):
    touch(folder, "i/b.jpg", "m/b.png")
    (folder / "train.txt").write_text(text)
    with pytest.raises(RequestError, match=rf"(?s)train\.txt.*{part}|{part}"):
        lines(folder / "train.txt", folder, "")


def test_the_same_bytes_are_found_under_any_name_and_nothing_else(folder):
    noise = bytes(range(256)) * 400  # more than what is sampled
    contents = {"a": noise, "b": noise[:-1] + b"x", "c": b"", "d": noise[:-1]}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "e").write_bytes(noise)
    here = [folder / name for name in "abcd"]
    assert same_files(here, [folder / "e"]) == [(folder / "a", folder / "e")]
    assert same_files(here, [folder / "b", folder / "c"]) == [
        (folder / "b", folder / "b"), (folder / "c", folder / "c"),
    ]  # fmt: skip
    os.mkfifo(folder / "pipe")  # of no bytes, like c; to open it would wait for a writer
    assert same_files([folder / "c"], [folder / "pipe"]) == []
    with pytest.raises(RequestError, match=r"gone cannot be read: No such file"):
        same_files(here, [folder / "gone"])
