"""What every data set in conf/dataset promises, on a small tree in its real layout."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from inspect import signature
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from fake_trees import (
    write_ade20k,
    write_camvid,
    write_cityscapes,
    write_cocostuff10k,
    write_folder,
    write_pascal_context,
    write_sbd,
    write_voc2012,
)
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_class
from lightning import Trainer
from loaded import again
from torch import Tensor, nn

from danet_lightning.check.run import walk
from danet_lightning.checkpoints.metadata import dataset_facts, facts_for_module
from danet_lightning.config.overrides import compose
from danet_lightning.config.request import conf_dir
from danet_lightning.data.base import DataSet
from danet_lightning.data.datamodule import SegmentationDataModule
from danet_lightning.data.files.readings import UNMAPPED
from danet_lightning.data.samples.dataset import SegmentationDataset
from danet_lightning.errors import RequestError
from danet_lightning.evaluate.protocols import MultiView
from danet_lightning.models.segmenter import normalization
from danet_lightning.train.losses import SummedCrossEntropy
from danet_lightning.train.module import SegmentationModule

pytestmark = [
    # The number of workers is chosen here, whatever the machine that runs the tests has.
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning"),
]


@dataclass
class Case:
    """A data set's tree, the values that lead to it, and what is known of it.

    Attributes:
        write: Writes the tree and returns what to give the data set; None: it needs no files.
        splits: The splits that must have no image in common.
        expected: What a missing root's message must say of the layout and its origin.
        given: Values without which the data set cannot be built.
        published: Whether it is known how many images there are.
        same_color: Classes that have one color in the benchmark's palette.
        paper: Batch size and epochs of the paper's recipe, if it has one for this data set.
    """

    write: Callable[[Path], dict[str, Any]] | None
    splits: tuple[str, ...]
    expected: tuple[str, ...] = ()
    given: dict[str, Any] = field(default_factory=dict)
    published: bool = True
    same_color: tuple[str, ...] = ()
    paper: tuple[int, int] | None = None
    small: dict[str, Any] = field(default_factory=dict)


def rooted(write: Callable[[Path], Path]) -> Callable[[Path], dict[str, Any]]:
    return lambda folder: {"root": str(write(folder))}


def voc_with_sbd(folder: Path) -> dict[str, Any]:
    voc = write_voc2012(folder / "voc")
    return {"root": str(voc), "sbd_root": str(write_sbd(folder / "sbd", voc))}


CASES = {
    "camvid": Case(rooted(write_camvid), ("train", "val", "test"), ("trainannot/", "git clone")),
    "scenes": Case(
        None,
        ("train", "val", "test"),
        small={"train_images": 4, "val_images": 3, "test_images": 2, "size": [36, 48]},
    ),
    "cityscapes": Case(
        rooted(write_cityscapes),
        ("train", "val", "test"),
        ("_gtFine_labelIds.png", "gtFine_trainvaltest.zip", "cityscapes-dataset.com"),
        paper=(8, 240),
    ),
    "voc2012": Case(
        voc_with_sbd,
        ("train", "val"),
        ("JPEGImages", "ImageSets/Segmentation", "VOCtrainval_11-May-2012.tar"),
        paper=(16, 240),
    ),
    "pascal_context": Case(
        rooted(write_pascal_context),
        ("train", "val"),
        ("trainval/*.mat", "SegmentationClassContext", "VOCtrainval_03-May-2010.tar"),
        paper=(16, 240),
    ),
    "cocostuff10k": Case(
        rooted(write_cocostuff10k),
        ("train", "val"),
        ("imageLists/", "cocostuff-10k-v1.1.zip"),
        paper=(16, 180),
    ),
    "ade20k": Case(
        rooted(write_ade20k),
        ("train", "val"),
        ("annotations/{training,validation}/*.png", "ADEChallengeData2016.zip"),
        same_color=("road", "skyscraper"),
    ),
    "folder": Case(
        rooted(write_folder),
        ("train", "val", "test"),
        ("{train,val}/images/", "dataset.val_fraction=0.2", "danet prepare labels="),
        given={"root": "my_data", "classes": ["road", "sky", "person"]},
        published=False,
    ),
}
NAMES = sorted(path.stem for path in (conf_dir() / "dataset").glob("*.yaml"))
ON_DISK = [name for name, case in CASES.items() if case.write]


@cache
def composed(name: str) -> Any:
    """What training is given of a data set; nobody changes it."""
    try:
        with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return compose("train", [f"dataset={name}"])
    finally:
        HydraConfig.instance().cfg = None


def build(name: str, **values: Any) -> DataSet:
    values = {**CASES[name].given, **values}
    return hydra.utils.instantiate(composed(name).dataset, **values, _convert_="all")


def with_loaders(dataset: DataSet, config: Any, **values: Any) -> SegmentationDataModule:
    augmentation = hydra.utils.instantiate(config.augmentation, crop_size=[32, 32])
    values = {"batch_size": 2, "workers": 0, **values}
    options = {
        key: value
        for key, value in config.data.items()
        if key not in ("_target_", "dataset", "augmentation")
    }
    return SegmentationDataModule(dataset, augmentation, **{**options, **values})


@pytest.fixture
def small(tmp_path: Path) -> Callable[..., SegmentationDataModule]:
    """Builds a data set on its tree, which is written once."""
    trees: dict[str, dict[str, Any]] = {}

    def make(name: str, **values: Any) -> SegmentationDataModule:
        case = CASES[name]
        if name not in trees:
            trees[name] = case.write(tmp_path / "Daten Ä") if case.write else case.small
        known = signature(get_class(composed(name).dataset._target_)).parameters
        own = {key: values.pop(key) for key in known if key in values}
        return with_loaders(build(name, **trees[name], **own), composed(name), **values)

    return make


def without_tree(configs: Mapping[str, Any]) -> set[str]:
    """The data sets that read files, or that nobody has described, and have no fake tree."""
    described = {name for name, case in CASES.items() if case.write}
    return {
        name
        for name, config in configs.items()
        if name not in described and ("root" in config.dataset or name not in CASES)
    }


def test_every_data_set_is_held_to_the_contract() -> None:
    assert not without_tree({name: composed(name) for name in NAMES}), "add its writer to CASES"
    assert set(CASES) <= set(NAMES)


def test_a_data_set_without_a_fake_tree_is_found(monkeypatch) -> None:
    configs = {name: composed(name) for name in ("camvid", "scenes")}
    assert without_tree({**configs, "mapillary": composed("scenes")}) == {"mapillary"}
    monkeypatch.setitem(CASES, "camvid", Case(None, ("train",)))
    assert without_tree(configs) == {"camvid"}


@pytest.mark.parametrize("name", NAMES)
def test_it_is_built_without_data_and_knows_its_facts(name, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = build(name)
    assert 1 < len(data.classes) == len(data.palette) == len(set(data.classes))
    colors = [color for color, label in zip(data.palette, data.classes, strict=True)
              if label not in CASES[name].same_color]  # fmt: skip
    assert len(set(colors)) == len(colors)
    assert all(0 <= value <= 255 for color in data.palette for value in color)
    assert isinstance(data.label_source, str)
    assert data.label_source
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", CASES)
def test_samples_are_bytes_with_train_ids_and_unique_names(name, small) -> None:
    data = small(name)
    for split in CASES[name].splits:
        samples = list(SegmentationDataset(data.dataset.pairs(split).source))
        for sample in samples:
            image, mask = sample["image"], sample["mask"]
            assert sample.keys() == {"image", "mask", "id"}
            assert image.dtype == mask.dtype == torch.uint8
            assert image.shape == (3, *mask.shape)
            labels = mask[mask != 255]
            assert labels.numel() == 0 or labels.max() < len(data.dataset.classes)
        ids = [sample["id"] for sample in samples]
        assert len(set(ids)) == len(ids) > 0
        assert not any("/" in name or name.endswith((".png", ".jpg", ".mat")) for name in ids)
        assert ids == [data.dataset.pairs(split).source.name(index) for index in range(len(ids))]


@pytest.mark.parametrize("name", ON_DISK)
def test_the_label_table_leads_to_every_class_and_to_no_other(name, small) -> None:
    data = small(name)
    train_ids = {int(value) for value in data.source("val").legend.table} - {UNMAPPED, 255}
    assert train_ids == {*range(len(data.dataset.classes))}


class TinyNet(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Conv2d(4, num_classes, 1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"fused": self.predict_logits(images)}

    def predict_logits(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images))


@pytest.mark.parametrize("name", CASES)
def test_two_steps_of_training_and_validation_work(name, small) -> None:
    data = small(name)
    facts = dataset_facts(data.dataset) | normalization(nn.Identity())
    sgd = partial(torch.optim.SGD, lr=0.01)
    net = TinyNet(len(data.dataset.classes))
    module = SegmentationModule(
        net,
        **facts_for_module(facts),
        protocol=MultiView(),
        loss=SummedCrossEntropy(),
        optimizer=sgd,
    )
    before = net.head.weight.detach().clone()
    trainer = Trainer(
        accelerator="cpu", fast_dev_run=2, logger=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(module, data)
    assert trainer.global_step == 2
    assert torch.isfinite(trainer.callback_metrics["train/loss"])
    assert 0 <= trainer.callback_metrics["val/miou"] <= 1
    assert not torch.equal(net.head.weight, before)


@pytest.mark.parametrize("name", CASES)
def test_check_finds_nothing_wrong(name, small) -> None:
    data = small(name)
    report = walk(data.dataset)
    assert [finding.message for finding in report.errors] == []
    assert all(tally.images and tally.sizes for tally in report.splits.values())
    assert {"train", "val"} <= report.splits.keys()


@pytest.mark.parametrize("name", CASES)
def test_splits_have_no_image_in_common(name, small) -> None:
    sources = [small(name).dataset.pairs(split).source for split in CASES[name].splits]
    ids = [source.name(index) for source in sources for index in range(len(source))]
    assert len(set(ids)) == len(ids)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_workers_read_the_same_samples(name, small) -> None:
    loaders = ("train_dataloader", "val_dataloader")
    both = [
        [batch for loader in loaders for batch in getattr(small(name, workers=workers), loader)()]
        for workers in (0, 2)
    ]
    for here, there in zip(*both, strict=True):
        assert here["id"] == there["id"]
        assert torch.equal(here["image"], there["image"])
        assert torch.equal(here["mask"], there["mask"])


@pytest.mark.parametrize("name", ON_DISK)
def test_a_missing_root_says_where_it_looked_what_belongs_there_and_its_origin(
    name, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = build(name, root="no such/folder")
    with pytest.raises(RequestError) as raised:
        SegmentationDataModule(data).setup("fit")
    fetch = [f"danet prepare dataset={name} "] if data.archives else []
    for part in (str(tmp_path / "no such/folder"), "dataset.root", *fetch, *CASES[name].expected):
        assert part in str(raised.value)


@pytest.mark.parametrize("name", ON_DISK)
def test_a_missing_image_is_named(name, small) -> None:
    data = small(name)
    (victim,) = {data.source("val").files[1][1]}
    victim.unlink()
    with pytest.raises(RequestError) as raised:
        again(data).source("val")
    assert victim.stem.removesuffix("_leftImg8bit") in str(raised.value)


@pytest.mark.parametrize("name", ON_DISK)
def test_a_missing_label_is_named(name, small) -> None:
    data = small(name)
    for _, _, label in data.source("val").files[:2]:
        label.unlink()
    with pytest.raises(RequestError, match="2 of the") as raised:
        again(data).source("val")
    assert all(part in str(raised.value) for part in (label.parent.name, label.suffix))


@pytest.mark.parametrize("name", [name for name in ON_DISK if CASES[name].published])
def test_another_count_than_published_is_told_once_with_both(name, small, caplog) -> None:
    data = small(name)
    published = data.dataset.images["val"]
    with caplog.at_level(logging.WARNING):
        data.source("val")
        data.dataset.images = {"train": 5, "val": 3}
        again(data).source("val")
    (told,) = [record.getMessage() for record in caplog.records]
    assert "val holds 3 images" in told
    assert f"{published} as published" in told


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.paper])
def test_the_recipe_is_the_papers(name) -> None:
    config = composed(name)
    assert (config.batch_size, config.trainer.max_epochs) == CASES[name].paper
    assert (config.data.batch_size, config.optimizer.lr) == (config.batch_size, 0.01)
    assert (config.backbone.name, config.backbone.multi_grid) == ("resnet101", [4, 8, 16])
