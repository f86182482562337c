from pathlib import Path

import pytest

from danet_lightning.data.leakage import same_files
from danet_lightning.data.lists import pair_lines
from danet_lightning.data.pairing import pair_by_name
from danet_lightning.errors import RequestError


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
    triples = pair_by_name(images, labels)
    assert [name for name, _, _ in triples] == ["a", "b", "c"]
    assert [path.name for _, path, _ in triples] == ["a.png", "b.JPG", "c.jpeg"]
    assert [path.name for _, _, path in triples] == ["a.png", "b.png", "c.png"]


def test_missing_partners_are_counted_and_the_first_five_named(folder):
    images = touch(folder / "a", *(f"{number}.png" for number in range(9)))
    labels = touch(folder / "b", "8.png")
    with pytest.raises(RequestError, match=r"8 of the files .* partner") as raised:
        pair_by_name(images, labels)
    assert "0, 1, 2, 3, 4, ..." in str(raised.value)
    with pytest.raises(RequestError, match=r"1 of the files in .*b .*in .*a: lonely\."):
        pair_by_name(
            touch(folder / "a"), touch(folder / "b", *(f"{n}.png" for n in range(9)), "lonely.png")
        )


def test_two_images_of_one_name_are_ambiguous(folder):
    images, labels = touch(folder / "a", "x.png", "x.jpg"), touch(folder / "b", "x.png")
    with pytest.raises(RequestError, match=r"x\.jpg and x\.png share a name"):
        pair_by_name(images, labels)


def shown(folder: Path, triples) -> list[tuple[str, ...]]:
    return [
        (name, *(path.relative_to(folder).as_posix() for path in paths)) for name, *paths in triples
    ]


def test_sub_folders_are_part_of_the_name(folder):
    images = touch(folder / "a", "bonn/1.jpg", "ulm/1.jpg", ".cache/1.jpg", "bonn/.2.jpg")
    labels = touch(folder / "b", "bonn/1.png", "ulm/1.tif")
    assert shown(folder, pair_by_name(images, labels)) == [
        ("bonn__1", "a/bonn/1.jpg", "b/bonn/1.png"),
        ("ulm__1", "a/ulm/1.jpg", "b/ulm/1.tif"),
    ]
    touch(images, "bonn__1.jpg")
    with pytest.raises(RequestError, match=r"bonn__1\.jpg share a name|1\.jpg share a name"):
        pair_by_name(images, labels)


def test_suffixes_are_taken_off_and_other_files_passed_over(folder):
    images = touch(folder / "a", "x_rgb.png", "x_depth.png", "y.b_rgb.JPG")
    labels = touch(folder / "b", "x_ids.png", "x_color.png", "y.b_ids.png")
    assert shown(folder, pair_by_name(images, labels, "_rgb", "_ids")) == [
        ("x", "a/x_rgb.png", "b/x_ids.png"),
        ("y.b", "a/y.b_rgb.JPG", "b/y.b_ids.png"),
    ]
    with pytest.raises(RequestError, match=r"1 of .*a have no partner .*\(\*_ids\.png.*: z\."):
        pair_by_name(touch(images, "z_rgb.png"), labels, "_rgb", "_ids")


def test_images_and_labels_share_a_folder(folder):
    both = touch(folder / "a", "x.png", "x_mask.png", "y.jpg", "y_mask.png")
    expected = [("x", "a/x.png", "a/x_mask.png"), ("y", "a/y.jpg", "a/y_mask.png")]
    assert shown(folder, pair_by_name(both, both, "", "_mask")) == expected
    inside = touch(folder / "b", "x.jpg", "masks/x.png")
    assert shown(folder, pair_by_name(inside, inside / "masks")) == [
        ("x", "b/x.jpg", "b/masks/x.png")
    ]


def test_labels_of_other_splits_may_lie_there(folder):
    images, labels = touch(folder / "a", "x.jpg"), touch(folder / "b", "x.png", "y.png")
    assert len(pair_by_name(images, labels, extra_labels=True)) == 1
    with pytest.raises(RequestError, match=r"1 of the files in .*b .*: y\."):
        pair_by_name(images, labels)


def test_a_list_names_pairs_in_its_order(folder):
    touch(folder, "i/b.jpg", "i/a a.jpg", "m/b.png", "m/a a.png")
    path = folder / "train.txt"
    path.write_bytes(b"\xef\xbb\xbfi/b.jpg   m/b.png\r\n\r\ni/a a.jpg\tm/a a.png\r\n")
    assert shown(folder, pair_lines(path, folder, "")) == [
        ("i__b", "i/b.jpg", "m/b.png"),
        ("i__a a", "i/a a.jpg", "m/a a.png"),
    ]


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
        pair_lines(folder / "train.txt", folder, "")


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
    with pytest.raises(RequestError, match=r"gone cannot be read: No such file"):
        same_files(here, [folder / "gone"])
