"""`check` on small trees: a clean one, one planted defect of each kind, and as a user types it."""

import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import danet
from fake_trees import NoiseSource, write_camvid, write_cityscapes, write_voc2012
from PIL import Image

from danet_lightning.check import report as check_report
from danet_lightning.check import run as checking
from danet_lightning.check.splits import Report
from danet_lightning.data.base import DataSet, Pairs
from danet_lightning.data.camvid import CamVid
from danet_lightning.data.cityscapes import Cityscapes
from danet_lightning.data.files.source import FileSource
from danet_lightning.data.scenes import Scenes
from danet_lightning.data.voc2012 import Voc2012
from danet_lightning.errors import RequestError, RunError

COUNTS = {"train": 5, "val": 3, "test": 2}


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Path:
    return write_camvid(tmp_path_factory.mktemp("my data") / "Cam Vid")


@pytest.fixture
def root(clean: Path, tmp_path: Path) -> Path:
    shutil.copytree(clean, tmp_path / "Cam Vid")
    return tmp_path / "Cam Vid"


def walked(root: Path, splits: list[str] | None = None, workers: int = 2) -> Report:
    data = CamVid(str(root))
    data.images = COUNTS
    return checking.walk(data, splits, workers)


def truncate(path: Path) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 4])
    return path


def truncated_jpeg(root: Path) -> list[Path]:
    return [truncate(root / "train" / "train 000.jpg")]


def truncated_png(root: Path) -> list[Path]:
    return [truncate(root / "val" / "val 001.png")]


def truncated_label(root: Path) -> list[Path]:
    return [truncate(root / "valannot" / "val 001.png")]


def no_image_at_all(root: Path) -> list[Path]:
    path = root / "train" / "train 001.png"
    path.write_bytes(b"")
    return [path]


def mask_of_0_and_255(root: Path) -> list[Path]:
    return [label(root, np.tile(np.array([0, 255], np.uint8), (36, 24)))]


def id_out_of_range(root: Path) -> list[Path]:
    return [label(root, np.full((36, 48), 12, np.uint8))]


def colors(root: Path) -> list[Path]:
    return [label(root, np.zeros((36, 48, 3), np.uint8))]


def jpeg(root: Path) -> list[Path]:
    path = root / "trainannot" / "train 003.png"
    Image.new("L", (48, 36)).save(path, format="JPEG")
    return [path]


def greys_that_are_the_same(root: Path) -> list[Path]:
    path = label(root, np.zeros((36, 48), np.uint8))
    image = Image.fromarray(np.full((36, 48), 1, np.uint8))
    image.putpalette([0] * 6)
    image.save(path)
    return [path]


def pages(root: Path) -> list[Path]:
    path = label(root, np.zeros((36, 48), np.uint8))
    with Image.open(path) as image:
        image.load()
    image.save(path, save_all=True, append_images=[Image.new("L", (48, 36), 1)])
    return [path]


def twelve_bits(root: Path) -> list[Path]:
    path = root / "train" / "train 001.png"
    Image.fromarray(np.full((36, 48), 4095, np.uint16)).save(path)
    return [path]


def other_size(root: Path) -> list[Path]:
    return [root / "train" / "train 003.jpg", label(root, np.zeros((18, 24), np.uint8))]


def ignored_entirely(root: Path) -> list[Path]:
    return [label(root, np.full((36, 48), 11, np.uint8))]


def label(root: Path, content: np.ndarray) -> Path:
    path = root / "trainannot" / "train 003.png"
    Image.fromarray(content).save(path)
    return path


def with_orientation(path: Path, orientation: int) -> list[Path]:
    exif = Image.Exif()
    exif[0x0112] = orientation
    with Image.open(path) as image:
        image.load()
    image.save(path, exif=exif)
    return [path]


def turned(root: Path) -> list[Path]:
    return with_orientation(root / "train" / "train 003.jpg", 6)


def turned_png(root: Path) -> list[Path]:
    return with_orientation(root / "train" / "train 001.png", 3)


def turned_label(root: Path) -> list[Path]:
    return with_orientation(root / "trainannot" / "train 002.png", 3)


def same_in_two_splits(root: Path) -> list[Path]:
    """Other bytes, same pixels."""
    original, copy = root / "train" / "train 001.png", root / "val" / "val 001.png"
    with Image.open(original) as image:
        image.save(copy, compress_level=0)
    return [copy, original]


def lonely_image(root: Path) -> list[Path]:
    for number in (1, 3):
        (root / "trainannot" / f"train 00{number}.png").unlink()
    return [root / "train" / "train 001.png", root / "train" / "train 003.jpg"]


def lonely_label(root: Path) -> list[Path]:
    (root / "val" / "val 000.jpg").unlink()
    return [root / "valannot" / "val 000.png"]


def one_name_twice(root: Path) -> list[Path]:
    path = root / "train" / "train 000.png"
    shutil.copy(root / "train" / "train 001.png", path)
    return [root / "train" / "train 000.jpg", path]


def another_count(root: Path) -> list[Path]:
    for folder, suffix in (("train", "png"), ("trainannot", "png")):
        (root / folder / f"train 004.{suffix}").unlink()
    return []


def empty_split(root: Path) -> list[Path]:
    for path in (*(root / "val").iterdir(), *(root / "valannot").iterdir()):
        path.unlink()
    return []


def no_label_folder(root: Path) -> list[Path]:
    shutil.rmtree(root / "valannot")
    return []


def no_test(root: Path) -> list[Path]:
    shutil.rmtree(root / "test")
    return []


PLANTED: dict[Callable[[Path], list[Path]], tuple[str, str]] = {
    truncated_jpeg: ("unreadable", "cannot be read"),
    truncated_png: ("unreadable", "cannot be read"),
    truncated_label: ("unreadable", "cannot be read"),
    no_image_at_all: ("unreadable", "cannot be read"),
    mask_of_0_and_255: ("mask_0_255", "label 255 (864 pixels)"),
    id_out_of_range: ("illegal_label", "label 12 (1728 pixels)"),
    colors: ("color_mask", "3 channels (RGB)"),
    jpeg: ("lossy_label", "JPEG"),
    greys_that_are_the_same: ("illegal_label", "indices 0 and 1 of the palette are the same grey"),
    pages: ("unreadable", "holds 2 pages"),
    twelve_bits: ("unreadable", "below 4096"),
    other_size: ("size_mismatch", "is 48 x 36"),
    ignored_entirely: ("all_ignored", "every pixel"),
    turned: ("exif_rotation", "orientation 6"),
    turned_png: ("exif_rotation", "orientation 3"),
    turned_label: ("exif_rotation", "orientation 3"),
    same_in_two_splits: ("duplicate", "same pixels"),
    lonely_image: ("missing_partner", "2 of the files"),
    lonely_label: ("missing_partner", "1 of the files"),
    one_name_twice: ("ambiguous_name", "share a name"),
    another_count: ("count", "4 images, 5 as published"),
    empty_split: ("empty_split", "'val' holds no images"),
    no_label_folder: ("absent", "valannot"),
    no_test: ("left_out", "Cam Vid/test"),
}
WARNED = {"all_ignored", "exif_rotation", "count", "left_out"}


def test_a_clean_tree_has_no_findings(clean):
    report = walked(clean)
    assert report.findings == []
    assert {split: tally.images for split, tally in report.splits.items()} == COUNTS
    for split, tally in report.splits.items():
        masks = [np.array(Image.open(path)) for path in (clean / f"{split}annot").iterdir()]
        expected = np.bincount(np.concatenate([mask.ravel() for mask in masks]), minlength=12)
        assert tally.counts[:11].tolist() == expected[:11].tolist()
        assert (tally.counts[255], tally.counts.sum()) == (expected[11], expected.sum())
        assert tally.sizes == {(48, 36): COUNTS[split]}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_defect_is_found_and_named_and_nothing_else_is(root, plant):
    files = plant(root)
    kind, text = PLANTED[plant]
    report = walked(root)
    # the count follows from what has no partner, or is no split any more
    found = [each for each in report.findings if each.kind != "count" or kind == "count"]
    (finding,) = found
    assert finding.kind == kind
    assert text in finding.message
    assert sorted(finding.files) == sorted(map(str, files))
    assert finding.remedy or kind in ("absent", "left_out")
    assert finding.is_warning == (kind in WARNED)
    assert bool(report.errors) != (kind in WARNED)


def test_a_rotation_explains_a_size_mismatch(root):
    turned(root)
    label(root, np.zeros((48, 36), np.uint8))
    (finding,) = walked(root).findings
    assert finding.kind == "size_mismatch"
    assert "is 36 x 48" in finding.message
    assert "EXIF orientation 6" in finding.message


def test_each_bad_file_is_told_and_the_good_ones_still_count(root):
    """Both files of one pair, others beside it, the rest of a split with a missing partner."""
    truncated_jpeg(root)
    Image.new("RGB", (48, 36)).save(root / "trainannot" / "train 000.png")
    id_out_of_range(root)
    lonely_label(root)
    truncated_png(root)
    reports = [walked(root, workers=workers) for workers in (1, 3)]
    assert reports[0].findings == reports[1].findings
    found = {(each.kind, each.name) for each in reports[0].findings}
    assert found == {
        ("missing_partner", ""),
        ("unreadable", "train 000"),
        ("color_mask", "train 000"),
        ("illegal_label", "train 003"),
        ("unreadable", "val 001"),
        ("count", ""),
    }
    train = reports[0].splits["train"]
    assert train.sizes[48, 36] == 4  # without the truncated one
    assert train.counts.sum() == 3 * 36 * 48  # without the two bad labels


def test_masks_of_0_and_255_are_told_where_255_is_legal(tmp_path):
    root = write_voc2012(tmp_path)
    for path in (root / "VOCdevkit/VOC2012/SegmentationClass").iterdir():
        with Image.open(path) as image:
            mask = np.where(np.array(image) > 10, 255, 0).astype(np.uint8)
        Image.fromarray(mask).save(path)
    data = Voc2012(str(root), train_split="train")
    assert [each.kind for each in checking.walk(data).errors] == ["mask_0_255"] * 2


def test_training_on_what_is_validated_is_told_with_its_files(tmp_path):
    root = write_voc2012(tmp_path)
    report = checking.walk(Voc2012(str(root), train_split="trainval"))
    (finding,) = [each for each in report.findings if each.kind == "shared_files"]
    assert (finding.splits, len(finding.files)) == (("train", "val"), 3)
    assert report.splits["train"].published == 2913
    assert report.errors == []


def test_test_labels_that_a_server_keeps_are_no_error(tmp_path):
    root = write_cityscapes(tmp_path)
    data = Cityscapes(str(root))
    report = checking.walk(data)
    (dummies,) = [each for each in report.findings if each.kind != "count"]
    assert (dummies.kind, dummies.splits) == ("all_ignored", ("test",))
    assert report.splits["trainval"].images == 8
    for path in (root / "gtFine" / "test").rglob("*.png"):
        path.unlink()
    report = checking.walk(data, ["test", "val"])
    assert {each.kind for each in report.findings} == {"no_labels", "count"}
    assert list(report.splits) == ["val"]


class Noise(DataSet):
    """A user's own data set without files: three classes, labels 0..4, and a reader that fails."""

    classes = ("a", "b", "c")
    palette = ((0, 0, 0), (255, 255, 255), (9, 9, 9))
    label_source = "noise"
    splits = ("train", "val")

    def pairs(self, split: str) -> Pairs:
        return Pairs(Failing(2) if split == "train" else NoiseSource(2))


class Failing(NoiseSource):
    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if index == 1:
            raise OSError("the disk is gone")
        image, mask = super().read(index)
        return image, mask // 2


def test_a_source_without_files_is_checked_too():
    report = checking.walk(Noise())
    found = [(each.kind, each.splits, each.name) for each in report.findings]
    assert found == [
        ("unusable", ("train",), "noise_1"),
        ("illegal_label", ("val",), "noise_0"),
        ("duplicate", ("val",), "noise_0"),  # noise depends on the index alone
        ("illegal_label", ("val",), "noise_1"),
    ]
    assert "OSError: the disk is gone" in report.findings[0].message


def test_scenes_are_clean():
    small = {"train_images": 4, "val_images": 3, "test_images": 2, "size": (36, 48)}
    report = checking.walk(Scenes(**small))
    assert report.findings == []
    assert [tally.images for tally in report.splits.values()] == [4, 3, 2]


def test_the_json_has_every_finding_and_the_screen_the_first_twenty(tmp_path, capsys):
    root = write_camvid(tmp_path / "Cam Vid", train=30)
    for path in sorted((root / "trainannot").iterdir())[:25]:
        mask = np.full((36, 48), 3, np.uint8)
        mask[0] = 77
        Image.fromarray(mask).save(path)
    report = walked(root)
    check_report.write(report, tmp_path)
    told = json.loads((tmp_path / "check.json").read_text())
    assert (told["errors"], told["warnings"]) == (25, 1)
    illegal = [each for each in told["findings"] if each["kind"] == "illegal_label"]
    assert len({each["files"][0] for each in illegal}) == 25
    assert illegal[0].keys() == {
        "severity", "kind", "splits", "image", "files", "message", "remedy",
    }  # fmt: skip
    val = told["splits"]["val"]
    assert (val["images"], val["published"], val["pixels"]) == (3, 3, 3 * 36 * 48)
    assert sum(val["class_share"].values()) == pytest.approx(1)
    ignored = val["pixels"] - sum(val["class_pixels"].values())
    assert val["ignored_share"] == ignored / val["pixels"] > 0
    assert val["sizes"]["most_common"] == [48, 36]
    printed = capsys.readouterr().out
    assert printed.count("label 77") == 20
    assert "and 5 more" in printed
    assert printed.count("Usual causes") == 1


def test_unseen_classes_are_named_and_the_picture_has_the_palettes_colors(root, tmp_path, capsys):
    for path in (root / "valannot").iterdir():
        Image.fromarray(np.full((36, 48), 3, np.uint8)).save(path)
    report = walked(root, ["val"])
    check_report.write(report, tmp_path)
    assert "unseen in val: sky, building, pole, pavement" in capsys.readouterr().out
    assert (
        "road" not in json.loads((tmp_path / "check.json").read_text())["splits"]["val"]["unseen"]
    )
    with Image.open(tmp_path / "classes.png") as picture:
        colors = {color for _, color in picture.convert("RGB").getcolors(1 << 24)}
    assert CamVid.palette[3] in colors
    assert CamVid.palette[1] not in colors
    assert sorted(path.suffix for path in tmp_path.iterdir()) == ["", ".json", ".png"]


def test_an_interrupt_ends_the_walk_and_reads_no_further(root, monkeypatch):
    read, begun = FileSource.read, []

    def slow(source, index):
        begun.append(index)
        time.sleep(0.2)
        return read(source, index)

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(FileSource, "read", slow)
    monkeypatch.setattr(checking, "_add", interrupt)
    with pytest.raises(KeyboardInterrupt):
        walked(root, workers=1)
    for thread in threading.enumerate():
        if thread.name.startswith("ThreadPool"):
            thread.join()
    assert len(begun) <= 3


def test_wrong_requests_are_refused(tmp_path, clean):
    with pytest.raises(RequestError, match=r"no folder .*nowhere(.|\n)*git clone"):
        walked(tmp_path / "nowhere")
    with pytest.raises(RequestError, match="no 'vall'; choose among train, val, test"):
        walked(clean, ["vall"])
    with pytest.raises(RequestError, match="empty"):
        walked(clean, [])
    report = walked(clean)
    (tmp_path / "gone").touch()
    with pytest.raises(RunError, match=r"gone/classes\.png cannot be written \("):
        check_report.write(report, tmp_path / "gone")


def test_check_as_typed(root):
    folder, ask = root.parent, ("dataset=camvid", "dataset.root=Cam Vid")
    done = danet("check", *ask, "run_dir=checks/first one", "splits=[train,val]", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "0 errors, 2 warnings" in done.stdout  # the counts
    assert {path.name for path in (folder / "checks" / "first one").iterdir()} == {
        "check.json",
        "classes.png",
    }
    truncated_jpeg(root)
    done = danet("check", *ask, "workers=1", cwd=folder)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "train 000.jpg cannot be read" in done.stdout
    refused = danet("check", "dataset=camvid", "dataset.root=no where", cwd=folder)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "no where" in refused.stderr
    assert "Traceback" not in refused.stderr
