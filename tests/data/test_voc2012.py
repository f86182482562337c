import random

import numpy as np
import pytest
from fake_trees import write_list, write_mask, write_sbd, write_voc2012
from loaded import loaded
from PIL import Image

from danet_lightning.data.datamodule import SegmentationDataModule
from danet_lightning.data.files.label_file import read_label
from danet_lightning.data.voc2012 import Voc2012
from danet_lightning.errors import RequestError


def voc2012(root, **options) -> SegmentationDataModule:
    return loaded(Voc2012, str(root), **options)


@pytest.fixture
def root(tmp_path):
    return write_voc2012(tmp_path / "voc")


@pytest.fixture
def sbd(tmp_path, root):
    return write_sbd(tmp_path / "sbd", root)


def names(data: Voc2012, split: str) -> list[str]:
    return [name for name, _, _ in data.source(split).files]


TRAIN = [f"2007_{number:06d}" for number in range(4)]
VAL = [f"2008_{number:06d}" for number in range(3)]
EXTRA = [f"2009_{number:06d}" for number in range(3)]


def test_masks_are_read_by_index(root):
    source = voc2012(root).source("val")
    for index, (_, _, path) in enumerate(source.files):
        _, mask = source.read(index)
        assert np.array_equal(mask, read_label(path).values)
        assert mask.max() == 255
    write_mask(path, np.full(mask.shape, 21, np.uint8))
    with pytest.raises(RequestError, match=r"label 21 .* allowed 0-20, 255"):
        source.read(index)


@pytest.mark.parametrize("below", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_the_root_may_be_any_of_the_nested_folders(root, below):
    assert names(voc2012(root / below), "val") == VAL


@pytest.mark.parametrize(("train_split", "expected"), [("train", TRAIN), ("trainval", TRAIN + VAL)])
def test_train_reads_the_list_that_was_chosen(root, train_split, expected):
    assert names(voc2012(root, train_split=train_split), "train") == expected


@pytest.mark.parametrize("below", ["", "benchmark_RELEASE", "benchmark_RELEASE/dataset"])
def test_sbd_adds_what_is_in_neither_of_vocs_lists(root, sbd, below):
    data = voc2012(root, sbd_root=str(sbd / below))
    assert names(data, "train") == TRAIN + EXTRA
    assert names(data, "val") == VAL


def test_vocs_own_masks_go_before_sbds(root, sbd):
    source = voc2012(root, sbd_root=str(sbd)).source("train")
    suffixes = [(path.parent.name, path.suffix) for _, _, path in source.files]
    assert suffixes == [("SegmentationClass", ".png")] * 4 + [("cls", ".mat")] * 3
    _, mask = source.read(4)
    assert set(np.unique(mask)) <= set(range(21))
    assert len(np.unique(mask)) > 5


def test_the_order_of_the_lists_does_not_matter(root, sbd):
    before = names(voc2012(root, sbd_root=str(sbd)), "train")
    for path in (sbd / "benchmark_RELEASE/dataset").glob("*.txt"):
        lines = path.read_text().split()
        random.Random(1).shuffle(lines)
        path.write_text("\r\n".join(lines))
    assert names(voc2012(root, sbd_root=str(sbd)), "train") == before


@pytest.fixture
def ready(root, sbd):
    """SegmentationClassAug as people pass it on: the masks of SBD's lists, val's among them."""
    voc = root / "VOCdevkit/VOC2012"
    for path in (sbd / "benchmark_RELEASE/dataset/cls").glob("*.mat"):
        with Image.open(voc / f"JPEGImages/{path.stem}.jpg") as photo:
            mask = np.full((photo.height, photo.width), 5, np.uint8)
        write_mask(voc / f"SegmentationClassAug/{path.stem}.png", mask)
    return voc


def test_a_ready_folder_is_used_without_val(root, ready):
    data = voc2012(root)
    assert names(data, "train") == TRAIN + EXTRA
    folders = [path.parent.name for _, _, path in data.source("train").files]
    assert folders == ["SegmentationClass"] * 4 + ["SegmentationClassAug"] * 3


@pytest.mark.parametrize("name", ["train_aug", "trainaug"])
def test_a_ready_list_decides(root, ready, name):
    listed = [*EXTRA[:2], TRAIN[1], VAL[0]]  # one of val: a leak
    lines = [f"/JPEGImages/{name}.jpg /SegmentationClassAug/{name}.png" for name in listed]
    write_list(ready / f"ImageSets/Segmentation/{name}.txt", lines)
    assert names(voc2012(root), "train") == [TRAIN[1], *EXTRA[:2]]


def test_without_extra_masks_the_ways_out_are_named(root):
    with pytest.raises(RequestError, match="train_split=train_aug") as raised:
        voc2012(root).setup("fit")
    for part in ("VOC2012/SegmentationClassAug", "dataset.sbd_root", "dataset.train_split=train"):
        assert part in str(raised.value)
    with pytest.raises(RequestError, match=r"(?s)no such.*benchmark_RELEASE/dataset/ with cls"):
        voc2012(root, sbd_root="no such").source("train")
