import numpy as np
import pytest
from fake_trees import write_ade20k
from loaded import loaded
from PIL import Image

from danet_lightning.data.ade20k import Ade20k
from danet_lightning.data.datamodule import SegmentationDataModule
from danet_lightning.errors import RequestError


def ade20k(root, **options) -> SegmentationDataModule:
    return loaded(Ade20k, str(root), **options)


@pytest.fixture
def root(tmp_path):
    return write_ade20k(tmp_path / "ADE 20k")


def test_0_is_ignored_and_150_ids_are_classes(root):
    data = ade20k(root)
    path = data.source("val").files[0][2]
    labels = np.asarray(Image.open(path)).copy()
    labels[0, :4] = 0, 1, 2, 150
    Image.fromarray(labels).save(path)
    assert data.source("val").read(0)[1][0, :4].tolist() == [255, 0, 1, 149]
    assert data.dataset.raw_ids[:2] == (1, 2)
    Image.fromarray(labels + 1).save(path)
    with pytest.raises(RequestError, match=r"label 151 .* allowed 0-150"):
        data.source("val").read(0)


def test_names_and_colors_are_the_benchmarks(root):
    data = ade20k(root)
    assert len(data.dataset.classes) == len(data.dataset.palette) == 150
    facts = {
        0: ("wall", (120, 120, 120)), 7: ("bed", (204, 5, 255)), 20: ("car", (0, 102, 200)),
        48: ("skyscraper", (140, 140, 140)), 149: ("flag", (92, 0, 255)),
    }  # fmt: skip
    assert {
        index: (data.dataset.classes[index], data.dataset.palette[index]) for index in facts
    } == facts
    assert all(name == name.strip() for name in data.dataset.classes)
    assert len(set(data.dataset.palette)) == 149


def test_the_root_is_the_folder_itself_or_the_one_above(root):
    for folder in (root, root / "ADEChallengeData2016"):
        data = ade20k(folder)
        assert [len(data.source(split)) for split in ("train", "val")] == [5, 3]
    names = [data.source("val").name(index) for index in range(3)]
    assert names == [f"ADE_val_{number:08d}" for number in (1, 2, 3)]


def test_there_is_no_test_split(root):
    with pytest.raises(RequestError, match="split=test: there are train, val"):
        ade20k(root).source("test")
