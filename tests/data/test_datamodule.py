from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from fake_trees import NoiseSource
from lightning.pytorch.callbacks import ModelCheckpoint
from loaded import loaded

from danet_lightning.data import datamodule
from danet_lightning.data.base import DataSet, Pairs
from danet_lightning.data.datamodule import SegmentationDataModule
from danet_lightning.errors import RequestError

pytestmark = [
    # The number of workers is chosen here, whatever the machine that runs the tests has.
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning"),
    # A resumed run writes elsewhere here, so that each can be resumed from the same checkpoint.
    pytest.mark.filterwarnings("ignore:The dirpath has changed:UserWarning"),
]


class NoiseSet(DataSet):
    classes = ("a", "b", "c", "d", "e")
    palette = ((0, 0, 0),) * 5
    label_source = "drawn at random"

    def __init__(self, train: int = 10, val: int = 5, source: Any = NoiseSource) -> None:
        self.counts = {"train": train, "val": val, "test": 0}
        self.made = source

    def pairs(self, split: str) -> Pairs:
        return Pairs(self.made(self.counts[split]))


def Noise(*counts: int, **options: Any) -> SegmentationDataModule:  # noqa: N802
    return loaded(NoiseSet, *counts, **{"crop_size": [24, 32], "batch_size": 4, **options})


def on(data: SegmentationDataModule, rank: int, world: int) -> SegmentationDataModule:
    """As if one of several processes on this machine had attached it."""
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    data.trainer = SimpleNamespace(
        global_rank=rank,
        world_size=world,
        num_devices=world,
        strategy=strategy,
        accumulate_grad_batches=1,
    )
    return data


@pytest.mark.parametrize(("crop", "warned"), [([40, 20], True), ([20, 40], False), ([9, 9], False)])
def test_a_crop_with_its_sides_the_other_way_round_is_told(crop, warned, caplog) -> None:
    Noise(crop_size=crop).source("train")
    assert ("crop_size=[20,40] lies as they do" in caplog.text) == warned


def test_training_batches_are_cropped_bytes():
    batches = list(Noise().train_dataloader())
    assert len(batches) == 2
    for batch in batches:
        assert (batch["image"].shape, batch["image"].dtype) == ((4, 3, 24, 32), torch.uint8)
        assert (batch["mask"].shape, batch["mask"].dtype) == ((4, 24, 32), torch.uint8)
        assert len(batch["id"]) == 4


def test_the_augmentation_options_reach_the_training_images_alone():
    options = {"base_size": 30, "max_category_share": 0.15, "photometric": True}
    plain, same, changed = Noise(), Noise(flip=0.5, photometric=False), Noise(**options)
    assert torch.equal(first_images(plain), first_images(same))
    assert not torch.equal(first_images(plain), first_images(changed))
    for option, value in options.items():
        assert not torch.equal(first_images(plain), first_images(Noise(**{option: value}))), option
    for batch, other in zip(plain.val_dataloader(), changed.val_dataloader(), strict=True):
        assert torch.equal(batch["image"], other["image"])


class Unlabelled(NoiseSource):
    """Images of which at most one has a label that counts."""

    labelled: int | None = None
    asked = 0

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        type(self).asked += 1
        image, mask = super().read(index)
        return image, mask if index == self.labelled else np.full_like(mask, 255)


@pytest.mark.parametrize("stage", ["fit", "validate"])
def test_a_split_without_labels_is_refused_before_anything_is_computed(stage):
    expected = r"split=(train|val): no pixel of its .* is labelled.*format=cityscapes"
    with pytest.raises(RequestError, match=expected):
        Noise(source=Unlabelled).setup(stage)


def test_labels_are_only_read_until_there_is_one(monkeypatch):
    monkeypatch.setattr(Unlabelled, "labelled", 2)
    monkeypatch.setattr(Unlabelled, "asked", 0)
    data = Noise(source=Unlabelled)
    data.setup("validate")
    assert Unlabelled.asked == 3


def first_images(data: Noise) -> torch.Tensor:
    return next(iter(data.train_dataloader()))["image"]


def test_validation_keeps_each_images_own_size():
    shapes = [tuple(batch["mask"].shape) for batch in Noise().val_dataloader()]
    assert shapes == [(1, 60 + i % 3, 80 + i % 5) for i in range(5)]


@pytest.mark.parametrize("world", [2, 4])
def test_processes_share_the_batch_of_one(world):
    alone = [batch["image"] for batch in Noise().train_dataloader()]
    shares = [list(on(Noise(), rank, world).train_dataloader()) for rank in range(world)]
    for step, whole in enumerate(alone):
        joined = torch.cat([share[step]["image"] for share in shares])
        assert torch.equal(joined, whole)


def test_processes_evaluate_each_image_once_even_when_they_are_too_many():
    shares = [list(on(Noise(val=3), rank, 4).val_dataloader()) for rank in range(4)]
    counted = [batch for share in shares for batch in share if (batch["mask"] != 255).any()]
    assert sorted(batch["id"][0] for batch in counted) == ["noise_0", "noise_1", "noise_2"]


def test_a_batch_that_does_not_divide_ends_with_both_numbers():
    with pytest.raises(RequestError, match=r"batch_size=4 .* 3 processes"):
        on(Noise(), 0, 3).train_dataloader()


def test_an_empty_split_is_named():
    data = Noise(val=0)
    with pytest.raises(RequestError, match="split 'val' holds no images"):
        data.setup("fit")


def test_an_unknown_split_is_answered_with_the_known_ones():
    with pytest.raises(RequestError, match="split=vla: there are train, val, test"):
        Noise().evaluation_dataloader("vla")


def test_a_reversed_scale_range_is_refused():
    with pytest.raises(RequestError, match=r"scale_range=\): \[2.0, 0.5\]: the smaller"):
        Noise(scale_range=[2.0, 0.5])


def test_workers_never_outnumber_the_cores(monkeypatch):
    monkeypatch.setattr(datamodule, "cores", lambda: 6)
    assert Noise(workers=4).train_dataloader().num_workers == 4
    assert Noise(workers=9).train_dataloader().num_workers == 6
    assert on(Noise(workers=4), 0, 2).train_dataloader().num_workers == 3
    assert on(Noise(workers=4, batch_size=8), 0, 8).val_dataloader().num_workers == 1
    assert Noise(workers=0).train_dataloader().num_workers == 0


def test_two_classes_of_one_name_are_refused(monkeypatch):
    monkeypatch.setattr(NoiseSet, "classes", ("a", "b", "a"))
    with pytest.raises(RequestError, match="every class needs a name of its own"):
        Noise()


class Recorder(lightning.LightningModule):
    """Trains nothing and remembers the images of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[tuple[int, bytes]] = []

    def training_step(self, batch, _):
        self.seen.append((self.current_epoch, batch["image"].numpy().tobytes()))
        return self.weight.sum()

    def validation_step(self, batch, _):
        assert batch["image"].shape[0] == 1

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(folder: Path, workers: int, epochs: int, resumed: Path | None = None) -> list:
    recorder = Recorder()
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        callbacks=[ModelCheckpoint(folder, filename="last")],
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(recorder, Noise(workers=workers), ckpt_path=resumed, weights_only=True)
    return recorder.seen


def test_lightning_sees_new_samples_each_epoch_and_the_same_ones_after_resuming(tmp_path):
    whole = fit(tmp_path / "whole", workers=0, epochs=3)
    assert len(whole) == len({image for _, image in whole}) == 6
    assert fit(tmp_path / "workers", workers=2, epochs=3) == whole
    fit(tmp_path / "first", workers=0, epochs=1)
    first = tmp_path / "first/last.ckpt"
    for workers in (0, 2):
        rest = fit(tmp_path / f"rest {workers}", workers, epochs=3, resumed=first)
        assert rest == whole[2:], workers
