import numpy as np
import pytest
from fake_trees import write_cityscapes
from loaded import loaded
from PIL import Image

from danet_lightning.data.cityscapes import Cityscapes
from danet_lightning.data.datamodule import SegmentationDataModule
from danet_lightning.errors import RequestError


def cityscapes(root, **options) -> SegmentationDataModule:
    return loaded(Cityscapes, str(root), **options)


@pytest.fixture
def root(tmp_path):
    return write_cityscapes(tmp_path / "Cityscapes")


def relabel(root, labels: list[int], kind: str = "labelIds") -> None:
    """Write these into the first validation label, one after another; the rest is road."""
    path = root / f"gtFine/val/valstadt0/valstadt0_000000_000000_gtFine_{kind}.png"
    mask = np.full((32, 64), 7 if kind == "labelIds" else 0, np.uint8)
    mask[0, : len(labels)] = labels
    Image.fromarray(mask).save(path)


def test_label_ids_become_train_ids(root):
    ids = [7, 8, 33, 0, 9, 29, 30, 31, 255, 26]
    relabel(root, ids)
    _, mask = cityscapes(root).source("val").read(0)
    expected = [0, 1, 18, 255, 255, 255, 255, 16, 255, 13]
    assert mask[0, : len(ids)].tolist() == expected
    assert (mask[1:] == 0).all()


def test_an_id_that_cityscapes_does_not_have_is_refused(root):
    relabel(root, [34])
    with pytest.raises(RequestError, match=r"label 34 \(1 pixel\) .* allowed 0-33, 255"):
        cityscapes(root).source("val").read(0)


def test_converted_labels_are_read_as_they_are(root):
    write_cityscapes(root, labels="labelTrainIds")
    relabel(root, [0, 18, 255], "labelTrainIds")
    data = cityscapes(root, labels="labelTrainIds")
    assert data.source("val").read(0)[1][0, :3].tolist() == [0, 18, 255]
    assert (data.dataset.label_source, cityscapes(root).dataset.label_source) == (
        "gtFine labelTrainIds",
        "gtFine labelIds",
    )
    relabel(root, [19], "labelTrainIds")
    with pytest.raises(RequestError, match="label 19"):
        data.source("val").read(0)


def test_converted_labels_that_are_not_there_are_asked_for_by_their_tool(root):
    with pytest.raises(RequestError, match=r"(?s)_gtFine_labelTrainIds\.png.*csCreateTrainId"):
        cityscapes(root, labels="labelTrainIds").source("train")


def test_trainval_is_both(root):
    data = cityscapes(root)
    names = {
        split: [name for name, _, _ in data.dataset.pairs(split).source.files]
        for split in data.dataset.splits
    }
    assert names["trainval"] == names["train"] + names["val"]
    assert names["train"] == sorted(names["train"])
    assert names["val"][0] == "valstadt0_000000_000000"


def test_labels_of_test_are_dummies_and_missing_ones_are_no_puzzle(root, caplog):
    _, mask = cityscapes(root).dataset.pairs("test").source.read(0)
    assert (mask == 255).all()
    assert "dummies" in caplog.text
    for path in (root / "gtFine/test").rglob("*.png"):
        path.unlink()
    with pytest.raises(RequestError, match="are not published") as raised:
        cityscapes(root).source("test")
    for part in (str(root / "gtFine/test"), "split=val", "predict"):
        assert part in str(raised.value)


def test_a_label_without_its_frame_is_named(root):
    (root / "leftImg8bit/val/valstadt1/valstadt1_000000_000001_leftImg8bit.png").unlink()
    with pytest.raises(RequestError, match=r"have no image .*: valstadt1/valstadt1_000000_000001"):
        cityscapes(root).source("val")


def test_what_a_mac_leaves_in_archives_is_passed_over(root):
    (root / "leftImg8bit/val/valstadt0/._valstadt0_000000_000000_leftImg8bit.png").touch()
    assert len(cityscapes(root).source("val")) == 3
