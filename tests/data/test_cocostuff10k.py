import numpy as np
import pytest
from fake_trees import write_cocostuff10k, write_mask, write_mat
from loaded import loaded

from danet_lightning.data.cocostuff10k import CocoStuff10k
from danet_lightning.data.datamodule import SegmentationDataModule
from danet_lightning.errors import RequestError


def cocostuff(root, **options) -> SegmentationDataModule:
    return loaded(CocoStuff10k, str(root), **options)


@pytest.fixture
def root(tmp_path):
    return write_cocostuff10k(tmp_path / "cocostuff")


LABELS = [0, 1, 11, 12, 13, 90, 91, 92, 182]
EXPECTED = [255, 0, 10, 255, 11, 79, 255, 80, 170]


def labels(values: list[int], dtype: type = np.uint8) -> np.ndarray:
    mask = np.ones((36, 48), dtype)
    mask[0, : len(values)] = values
    return mask


def first_mat(root):
    return cocostuff(root).source("val").files[0][2]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float64])
def test_182_ids_become_171_classes(root, dtype):
    write_mat(first_mat(root), {"S": labels(LABELS, dtype)})
    data = cocostuff(root)
    assert data.source("val").read(0)[1][0, : len(LABELS)].tolist() == EXPECTED
    assert len(data.dataset.classes) == 171
    assert [data.dataset.classes[index] for index in (0, 11, 80, 170)] == [
        "person",
        "stop sign",
        "banner",
        "wood",
    ]


def test_val_is_the_benchmarks_test_list(root):
    names = {split: cocostuff(root).source(split).files for split in ("train", "val", "test")}
    assert names["val"] == names["test"]
    assert (len(names["train"]), len(names["val"])) == (4, 3)


def test_converted_annotations_of_the_same_ids_are_read(root):
    for path in (root / "annotations").glob("*.mat"):
        write_mask(path.with_suffix(".png"), labels(LABELS))
        path.unlink()
    assert cocostuff(root).source("val").read(0)[1][0, : len(LABELS)].tolist() == EXPECTED


def test_version_1_0_is_refused_by_name(tmp_path):
    root = write_cocostuff10k(tmp_path / "old", classes=172)
    with pytest.raises(RequestError, match=r"v1\.0.*172") as raised:
        cocostuff(root).setup("fit")
    assert "cocostuff-10k-v1.1.zip" in str(raised.value)


def test_an_id_outside_the_table_is_refused(root):
    write_mat(first_mat(root), {"S": labels([183])})
    with pytest.raises(RequestError, match=r"\.mat: label 183 .* allowed 0-182"):
        cocostuff(root).source("val").read(0)
