"""Exports of annotation tools, written by hand in the form in which each tool writes them."""

import base64
import io
import json
import shlex
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import danet
from PIL import Image

from danet_lightning.data.folder import Folder
from danet_lightning.errors import RequestError
from danet_lightning.prepare.labels import convert

HEIGHT, WIDTH = 8, 12


def photo(path: Path, orientation: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    color = tuple(zlib.crc32(path.name.encode()).to_bytes(4)[:3])  # no two images are the same
    Image.new("RGB", (WIDTH, HEIGHT), color).save(path, exif=exif)


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def mask_of(path: Path) -> np.ndarray:
    with Image.open(path) as mask:
        assert mask.mode == "L"
        return np.asarray(mask)


def boxes(*areas: tuple[int, int, int, int, int], rest: int = 0) -> np.ndarray:
    """A mask of boxes: left, top, right, bottom, id."""
    mask = np.full((HEIGHT, WIDTH), rest, np.uint8)
    for left, top, right, bottom, value in areas:
        mask[top:bottom, left:right] = value
    return mask


def box(left: float, top: float, right: float, bottom: float) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


def coco(*annotations: dict[str, Any], images: tuple[str, ...] = ("a.jpg",)) -> dict[str, Any]:
    return {
        "images": [
            {"id": 10 + number, "file_name": name, "width": WIDTH, "height": HEIGHT}
            for number, name in enumerate(images)
        ],
        "categories": [
            {"id": 7, "name": "tree", "supercategory": "things"},
            {"id": 3, "name": "road, wet", "supercategory": "things"},
            {"id": 0, "name": "things", "supercategory": "none"},  # Roboflow's group of all
        ],
        "annotations": [{"image_id": 10, "iscrowd": 0, **each} for each in annotations],
    }


def read_next(printed: str) -> list[str]:
    """The overrides of the command that is printed."""
    (line,) = (line for line in printed.splitlines() if line.startswith("next "))
    return shlex.split(line)[3:]


def test_roboflows_coco(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One JSON for each split, a group before the classes, holes by order, crowds by runs."""
    for name in ("train/a.jpg", "train/empty.jpg", "train/new.jpg", "valid/b.jpg"):
        photo(tmp_path / name)
    small = {"category_id": 3, "segmentation": [box(2, 2, 4, 4)]}
    large = {"category_id": 7, "segmentation": [box(0, 1, 6, 6), box(8, 0, 30, 2)]}
    point = {"category_id": 7, "segmentation": [], "bbox": [0, 0, 1, 1]}
    runs = [HEIGHT * 10, HEIGHT + 3, HEIGHT - 3]  # columns 10 and the upper 3 pixels of 11
    crowd = {"category_id": 3, "iscrowd": 1, "segmentation": {"counts": runs, "size": [8, 12]}}
    first = coco(small, large, point, images=("a.jpg", "empty.jpg", "gone.jpg"))
    write(tmp_path / "train" / "_annotations.coco.json", first)
    write(tmp_path / "valid" / "_annotations.coco.json", coco(crowd, images=("b.jpg",)))
    convert(str(tmp_path), None, "background")

    masks = tmp_path / "masks"
    expected = boxes((0, 1, 6, 6, 2), (8, 0, 12, 2, 2), (2, 2, 4, 4, 1))
    np.testing.assert_array_equal(mask_of(masks / "train" / "a.png"), expected)
    np.testing.assert_array_equal(mask_of(masks / "train" / "empty.png"), boxes())
    expected = boxes((10, 0, 11, 8, 1), (11, 0, 12, 3, 1))
    np.testing.assert_array_equal(mask_of(masks / "valid" / "b.png"), expected)
    printed = capsys.readouterr().out
    assert "COCO: 3 masks in" in printed
    assert "0 background, 1 road, wet, 2 tree" in printed
    assert "left out       1 points, lines or boxes" in printed
    assert "not there      1 annotated images, as gone.jpg" in printed
    assert "without labels 1 images" in printed

    options = read_next(printed)
    assert options == [
        "dataset=folder",
        f"dataset.root={tmp_path}",
        'dataset.classes=[background,"road, wet",tree]',
        "dataset.images={split}",
        "dataset.masks=masks/{split}",
        "dataset.skip_unlabelled=true",
    ]
    done = danet("check", *options, "run_dir=check", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stdout
    assert "WARNING" in done.stdout.upper()
    assert "[unlabelled]" in done.stdout
    report = json.loads((tmp_path / "check" / "check.json").read_text())
    assert {split: facts["images"] for split, facts in report["splits"].items()} == {
        "train": 2,
        "val": 1,
    }
    convert(str(tmp_path), None, None)  # again, over its own masks; pixels outside are ignored
    assert mask_of(masks / "train" / "a.png").max() == 255


def test_labelme(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Later shapes cover earlier ones; points are no areas; all is of one folder."""
    photo(tmp_path / "a b.jpg")
    bits = io.BytesIO()
    Image.fromarray(np.array([[255, 0], [255, 255]], np.uint8)).save(bits, "PNG")
    shapes = [
        ("sky", "polygon", [[0, 0], [12, 0], [12, 3], [0, 3]]),
        ("car", "rectangle", [[1, 2], [5, 6]]),
        ("__ignore__", "rectangle", [[0, 7], [12, 8]]),
        ("car", "point", [[1, 1]]),
        ("sign", "mask", [[8, 4], [9, 5]]),
    ]
    content = {
        "version": "5.4.1",
        "imagePath": "a b.jpg",
        "imageData": base64.b64encode((tmp_path / "a b.jpg").read_bytes()).decode(),
        "imageWidth": WIDTH,
        "imageHeight": HEIGHT,
        "shapes": [
            {"label": label, "shape_type": kind, "points": points}
            | ({"mask": base64.b64encode(bits.getvalue()).decode()} if kind == "mask" else {})
            for label, kind, points in shapes
        ],
    }
    write(tmp_path / "a b.json", content)
    convert(str(tmp_path), None, "background")
    expected = boxes((0, 0, 12, 3, 3), (1, 2, 5, 6, 1), (0, 7, 12, 8, 255))
    expected[[4, 5, 5], [8, 8, 9]] = 2
    np.testing.assert_array_equal(mask_of(tmp_path / "masks" / "a b.png"), expected)
    printed = capsys.readouterr().out
    assert "left out       1 points" in printed
    assert read_next(printed)[-3:] == [
        "dataset.images=.",
        "dataset.masks=masks",
        "dataset.val_fraction=0.2",
    ]


def test_a_circle_has_its_area(tmp_path: Path) -> None:
    Image.new("RGB", (200, 200)).save(tmp_path / "a.png")
    circle = {"label": "moon", "shape_type": "circle", "points": [[100, 100], [160, 180]]}
    write(tmp_path / "a.json", {"imagePath": "a.png", "shapes": [circle]})
    convert(str(tmp_path / "a.json"), None, "background")
    assert mask_of(tmp_path / "masks" / "a.png").sum() == pytest.approx(np.pi * 100**2, rel=0.01)


def test_yolos_segments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """images/ beside labels/, shares of the image's size, names by number."""
    for name in ("images/train/a.jpg", "images/train/bare.jpg", "images/val/b.png"):
        photo(tmp_path / name)
    write(tmp_path / "data.yaml", "path: .\ntrain: images/train\nnames:\n  0: cat\n  1: dog\n")
    write(tmp_path / "labels/train/a.txt", "1 0 0 0.5 0 0.5 1 0 1\n0 0.25 0.25 0.5 0.25 0.5 0.5\n")
    write(tmp_path / "labels/val/b.txt", "")
    convert(str(tmp_path), None, "background")
    mask = mask_of(tmp_path / "masks" / "images" / "train" / "a.png")
    assert [np.count_nonzero(mask == value) for value in (2, 1)] == [48 - 3, 3]
    np.testing.assert_array_equal(mask_of(tmp_path / "masks" / "images" / "val" / "b.png"), boxes())
    assert read_next(capsys.readouterr().out)[2:] == [
        "dataset.classes=[background,cat,dog]",
        "dataset.images=images/{split}",
        "dataset.masks=masks/images/{split}",
        "dataset.skip_unlabelled=true",
    ]


def test_cvats_masks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Colors by labelmap.txt, which names the background; images in a folder of their own."""
    export = tmp_path / "export"
    write(
        export / "labelmap.txt",
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nroad:128,64,128::\nsky:7,0,255::\n",
    )
    colors = np.array([(0, 0, 0), (128, 64, 128), (7, 0, 255)], np.uint8)
    expected = boxes((0, 4, 12, 8, 1), (3, 0, 9, 2, 2))
    for name, ids in {"a": expected, "gone": boxes()}.items():
        path = export / "SegmentationClass" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(colors[ids]).save(path)
    photo(tmp_path / "photos" / "2024" / "a.jpg")
    convert(str(export), str(tmp_path / "photos"), "background")
    np.testing.assert_array_equal(mask_of(tmp_path / "photos/masks/2024/a.png"), expected)
    printed = capsys.readouterr().out
    assert "0 background, 1 road, 2 sky" in printed
    assert "not there      1 annotated images, as gone.png" in printed
    write(export / "labelmap.txt", "background:0,0,0::\nroad:128,64,128::\n")
    with pytest.raises(RequestError, match=r"a\.png holds the color \[7, 0, 255\]"):
        convert(str(export), str(tmp_path / "photos"), "background")
    Image.new("RGB", (5, 4)).save(export / "SegmentationClass" / "a.png")
    with pytest.raises(RequestError, match=r"12 x 8 .*SegmentationClass.a\.png were made on 5 x 4"):
        convert(str(export), str(tmp_path / "photos"), "background")


def test_the_image_of_a_mask_is_no_mask_and_the_only_one(tmp_path: Path) -> None:
    write(tmp_path / "labelmap.txt", "background:0,0,0::\nroad:128,64,128::\n")
    (tmp_path / "SegmentationClass").mkdir()
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "SegmentationClass" / "a.png")
    photo(tmp_path / "photos" / "a.jpg")
    convert(str(tmp_path), str(tmp_path / "photos"), "background")
    convert(str(tmp_path), None, "background")  # as the masks of the first time lie there
    masks = sorted(path.relative_to(tmp_path) for path in (tmp_path / "masks").rglob("*.png"))
    assert masks == [Path("masks/photos/a.png")]
    photo(tmp_path / "more" / "a.jpg")
    with pytest.raises(RequestError, match=r"a\.png may be more/a\.jpg or photos/a\.jpg"):
        convert(str(tmp_path), None, "background")


@pytest.mark.parametrize(
    ("size", "expected"),
    [((HEIGHT, WIDTH), [7, 0]), ((WIDTH, HEIGHT), [0, 0])],
    ids=["labelled as a viewer shows it", "labelled as it is stored"],
)
def test_a_photo_that_viewers_turn(
    tmp_path: Path, size: tuple[int, int], expected: list[int]
) -> None:
    """Masks belong to the stored pixels, which training reads."""
    photo(tmp_path / "a.jpg", orientation=6)  # a quarter turn to the right
    content = coco({"category_id": 3, "segmentation": [box(0, 0, 1, 1)]})
    content["images"][0] |= {"width": size[0], "height": size[1]}
    write(tmp_path / "a.json", content)
    convert(str(tmp_path), None, "background")
    assert np.argwhere(mask_of(tmp_path / "masks" / "a.png")).tolist() == [expected]


def test_classes_of_a_labelled_split_train(tmp_path: Path) -> None:
    """The masks are what dataset=folder reads; images without one are left out and counted."""
    for name in ("a", "b", "bare"):
        photo(tmp_path / f"{name}.jpg")
    area = {"category_id": 7, "segmentation": [box(0, 0, 6, 8)]}
    write(tmp_path / "all.json", coco(area, images=("a.jpg", "b.jpg")))
    convert(str(tmp_path), None, "background")
    options = {"images": ".", "masks": "masks", "val_fraction": 0.5}
    classes = ("background", "tree", "road")
    with pytest.raises(RequestError, match=r"1 of the files .*skip_unlabelled=true"):
        Folder(str(tmp_path), classes, **options).image_files("train")
    data = Folder(str(tmp_path), classes, **options, skip_unlabelled=True, split_seed=1)
    found = [name for split in ("train", "val") for name, _ in data.image_files(split)]
    assert sorted(found) == ["a", "b"]
    (problem,) = data.pairs("train").problems
    assert str(problem).startswith("1 of the files in")
    assert "bare.jpg" in str(problem.files[0])
    with pytest.raises(RequestError, match="skip_unlabelled: a list names the mask"):
        Folder("x", classes, list_file="{split}.txt", skip_unlabelled=True)


BROKEN = {
    "no format": ({"a.json": {}}, "no labels there; give the export of one: labelmap.txt"),
    "two formats": (
        {"a.json": coco(), "b.json": {"shapes": [], "imagePath": "a.jpg"}},
        "labels of COCO and Labelme there",
    ),
    "another size": (
        {"a.json": coco() | {"images": [{"id": 1, "file_name": "a.jpg", "width": 9, "height": 8}]}},
        r"has 12 x 8 pixels, and its labels in .*a\.json were made on 9 x 8",
    ),
    "runs of another size": (
        {"a.json": coco({"category_id": 3, "segmentation": {"counts": [9, 11], "size": [4, 5]}})},
        r"has 12 x 8 pixels, and its labels in .*a\.json were made on 5 x 4",
    ),
    "two files of COCO": (
        {"a.json": coco(), "b.json": coco()},
        r"a\.jpg is labelled twice, in .*a\.json and in .*b\.json\. Merge",
    ),
    "two files of Labelme": (
        {
            f"{name}.json": {
                "shapes": [{"label": name, "points": [[0, 0], [1, 0], [1, 1]]}],
                "imagePath": "a.jpg",
            }
            for name in ("cat", "dog")
        },
        r"a\.jpg is labelled twice, in .*cat\.json and in .*dog\.json\. Merge",
    ),
    "one name of two classes": (
        {"data.yaml": "names: [x, x]", "a.txt": ""},
        r"labels=.*: 3 classes.* x occurs 2 times.*\. Add, rename",
    ),
    "more classes than ids": (
        {"data.yaml": {"names": [f"c{number}" for number in range(300)]}, "a.txt": ""},
        r"labels=.*: 301 classes.* must be 2 to 254 names.*\. Add, rename",
    ),
    "a class that is a key": (
        {"data.yaml": 'names: ["${x}"]', "a.txt": ""},
        r"labels=.*: \$\{x\}: \$\{ stands for .*\. Add, rename",
    ),
    "outside": ({"a.json": coco(images=("../../a.png",))}, "none of its 1 annotated images"),
    "compressed": (
        {"a.json": coco({"category_id": 3, "segmentation": {"counts": "a0", "size": [8, 12]}})},
        "compressed run lengths: decode them by pycocotools",
    ),
    "runs too short": (
        {"a.json": coco({"category_id": 3, "segmentation": {"counts": [5], "size": [8, 12]}})},
        "run lengths that do not make 12 x 8 pixels",
    ),
    "no number": (
        {"a.json": coco({"category_id": 3, "segmentation": [[0, 0, 1, "x", 2, 2]]})},
        "is no COCO file of instances",
    ),
    "two corners": (
        {"a.json": coco({"category_id": 3, "segmentation": [[0, 0, 1, 1]]})},
        "a polygon needs three corners",
    ),
    "no category": (
        {"a.json": coco({"category_id": 99, "segmentation": [box(0, 0, 1, 1)]})},
        "is no COCO file of instances",
    ),
    "no class": (
        {"data.yaml": "names: [cat]", "a.txt": "5 0 0 1 0 1 1"},
        r"a\.txt is no file of YOLO's segments",
    ),
    "no color": ({"labelmap.txt": "road:1,2:::"}, "is no labelmap"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    files, message = BROKEN[name]
    photo(tmp_path / "in" / "a.jpg")
    photo(tmp_path / "a.png")
    for file, content in files.items():
        write(tmp_path / "in" / file, content)
    with pytest.raises(RequestError, match=message):
        convert(str(tmp_path / "in"), None, "background")
    assert not list(tmp_path.rglob("masks/*.png"))


def test_two_images_or_labels_never_share_a_mask(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "a.jpg")
    write(tmp_path / "data.yaml", "names: [cat]")
    for folder in ("images", "labels"):
        write(tmp_path / folder / "a.txt", "0 0 0 1 0 1 1\n")
    with pytest.raises(RequestError, match=r"twice, in .*labels.a\.txt and in .*images.a\.txt"):
        convert(str(tmp_path), None, "background")
    (tmp_path / "images" / "a.txt").unlink()
    photo(tmp_path / "images" / "a.png")
    with pytest.raises(RequestError, match=r"a\.jpg and .*a\.png would share a mask.* Rename one"):
        convert(str(tmp_path), None, "background")
    assert not (tmp_path / "masks").exists()


@pytest.mark.parametrize("content", [coco(), {"shapes": [], "imagePath": "a.jpg"}])
def test_a_name_of_two_images_is_told_as_it_is(tmp_path: Path, content: dict[str, Any]) -> None:
    photo(tmp_path / "x" / "a.jpg")
    photo(tmp_path / "y" / "a.jpg")
    write(tmp_path / "a.json", content)
    with pytest.raises(RequestError, match=r"^a\.jpg may be x/a\.jpg or y/a\.jpg: give"):
        convert(str(tmp_path), None, "background")


def test_names_of_any_kind_reach_the_next_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["null", "no", "1", "True", 'a"b\\', "bad\x1b[31m\nnext"]
    for name in ("train/a", "val/b"):
        photo(tmp_path / f"{name}.jpg")
        write(tmp_path / f"{name}.txt", "0 0 0 1 0 1 1\n")
    write(tmp_path / "data.yaml", {"names": names})
    convert(str(tmp_path), None, "background")
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    done = danet("check", *read_next(printed), "run_dir=check", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "check" / "check.json").read_text())
    assert report["classes"] == ["background", *names[:-1], "bad\ufffd[31m\ufffdnext"]


def test_masks_of_another_origin_are_kept(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    photo(tmp_path / "masks" / "a.png")
    write(tmp_path / "a.json", coco())
    with pytest.raises(RequestError, match="holds files of another origin"):
        convert(str(tmp_path), None, "background")


def test_the_command(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    write(tmp_path / "a.json", coco({"category_id": 3, "segmentation": [box(0, 0, 6, 8)]}))
    done = danet("prepare", "labels=a.json", "background=null", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert set(np.unique(mask_of(tmp_path / "masks" / "a.png"))) == {0, 255}
    assert "Traceback" not in done.stderr
    for options in (["dataset=camvid", "labels=a.json"], []):
        done = danet("prepare", *options, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert "give the one to fetch (dataset=camvid), or labels=" in done.stderr
    done = danet("prepare", "labels=nowhere", cwd=tmp_path)
    assert done.returncode == 2
    assert "labels=nowhere: no such file or folder" in done.stderr
