import json

import numpy as np
import pytest
from fake_trees import write_list, write_mask, write_mat, write_pascal_context
from loaded import loaded
from PIL import Image

from danet_lightning.data.datamodule import SegmentationDataModule
from danet_lightning.data.pascal_context import PascalContext
from danet_lightning.errors import RequestError


def context(root, **options) -> SegmentationDataModule:
    return loaded(PascalContext, str(root), **options)


@pytest.fixture
def root(tmp_path):
    return write_pascal_context(tmp_path / "context")


def first_row(root, labels: list[int], kind: str = "mat", **options) -> list[int]:
    """The train ids that these labels of the first validation image become."""
    mask = np.ones((36, 48), np.uint16)
    mask[0, : len(labels)] = labels
    if kind == "mat":
        write_mat(root / "trainval/2010_val_000000.mat", {"LabelMap": mask})
    else:
        for number in range(3):
            path = f"VOCdevkit/VOC2010/SegmentationClassContext/2010_val_{number:06d}.png"
            write_mask(root / path, mask.astype(np.uint8))
    return context(root, **options).source("val").read(0)[1][0, : len(labels)].tolist()


LABELS = [2, 9, 458, 415, 1, 3, 431, 459, 0]


def test_the_59_classes_are_found_among_459_labels(root):
    data = context(root)
    assert (len(data.dataset.classes), data.dataset.classes[0], data.dataset.classes[-1]) == (
        59,
        "aeroplane",
        "wood",
    )
    assert first_row(root, LABELS) == [0, 1, 58, 50, 255, 255, 255, 255, 255]
    assert data.dataset.classes[50] == "track"


def test_the_background_is_class_0_of_60_if_wanted(root):
    data = context(root, background=True)
    assert (len(data.dataset.classes), data.dataset.classes[0], data.dataset.classes[51]) == (
        60,
        "background",
        "track",
    )
    assert first_row(root, LABELS, background=True) == [1, 2, 59, 51, 0, 0, 0, 0, 0]
    assert data.dataset.palette[0] == (0, 0, 0)
    assert (
        data.dataset.palette[1:] == context(root).dataset.palette
    )  # a class has one color under both rules
    assert data.dataset.label_source != context(root).dataset.label_source


def test_a_label_above_459_is_refused(root):
    with pytest.raises(RequestError, match=r"label 460 .* allowed 0-459"):
        first_row(root, [460])


@pytest.mark.parametrize("below", ["VOCdevkit", "VOCdevkit/VOC2010"])
def test_the_root_may_be_any_of_the_nested_folders(root, below):
    for name in ("trainval", "train.txt", "val.txt"):
        (root / name).rename(root / below / name)
    for given in (root / below, *([root] if below.endswith("2010") else [])):
        assert len(context(given).source("val")) == 3


def test_ready_png_maps_count_the_background_as_0(root):
    (root / "trainval").rename(root / "elsewhere")
    assert first_row(root, [0, 1, 59], "png") == [255, 0, 58]
    assert first_row(root, [0, 1, 59], "png", background=True) == [0, 1, 59]
    with pytest.raises(RequestError, match=r"label 255 .* allowed 0-59"):
        first_row(root, [255], "png")  # perhaps one with 0..58, where 0 is aeroplane


def test_the_detail_apis_file_gives_the_split(root):
    phases = {"val": ["2010_train_000001", "2010_val_000002"], "train": ["2010_train_000000"]}
    images = [
        {"file_name": f"{name}.jpg", "phase": phase, "image_id": 7}
        for phase, listed in phases.items()
        for name in listed
    ]
    (root / "trainval_merged.json").write_text(json.dumps({"images": images}))
    assert len(context(root).source("val")) == 3  # the lists go first
    for split in phases:
        (root / f"{split}.txt").unlink()
    for split, listed in phases.items():
        assert [name for name, _, _ in context(root).source(split).files] == listed
    (root / "trainval_merged.json").write_text('{"annotations": []}')
    with pytest.raises(RequestError, match=r"trainval_merged\.json .*'images'"):
        context(root).source("val")
    (root / "trainval_merged.json").unlink()
    with pytest.raises(RequestError, match=r"(?s)no list .*val\.txt.*trainval_merged\.json"):
        context(root).source("val")


def test_vocs_own_lists_are_not_mistaken_for_the_split(root):
    lists = root / "VOCdevkit/VOC2010/ImageSets"
    write_list(lists / "Segmentation/val.txt", ["2010_train_000000"])
    (root / "val.txt").unlink()
    with pytest.raises(RequestError, match=r"no list .*val\.txt"):
        context(root).source("val")
    write_list(lists / "SegmentationContext/val.txt", ["2010_val_000001"])  # MMSegmentation's
    assert len(context(root).source("val")) == 1


def test_an_image_of_another_size_than_its_labels_is_named(root):
    path = root / "VOCdevkit/VOC2010/JPEGImages/2010_val_000000.jpg"
    Image.new("RGB", (40, 36)).save(path)
    with pytest.raises(RequestError, match=r"000000\.jpg is 40 x 36, .*000000\.mat is 48 x 36"):
        context(root).source("val").read(0)
