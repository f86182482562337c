import numpy as np
import torch
from loaded import loaded

from danet_lightning.data.datamodule import SegmentationDataModule
from danet_lightning.data.scenes import Scenes


def scenes(scenes_seed: int = 0, **options) -> SegmentationDataModule:
    options = {"crop_size": [32, 64], **options}
    return loaded(Scenes, 4, 3, 2, [48, 96], scenes_seed, **options)


def test_the_splits_have_their_counts_size_and_labels():
    data = scenes()
    for split, count in {"train": 4, "val": 3, "test": 2}.items():
        samples = list(data.evaluation_dataloader(split))
        assert [sample["id"][0] for sample in samples] == [f"{split}_{i:05d}" for i in range(count)]
        for sample in samples:
            assert sample["image"].shape == (1, 3, 48, 96)
            labels = sample["mask"][sample["mask"] != 255]
            assert labels.max() < len(data.dataset.classes)
    assert len(data.dataset.classes) == len(data.dataset.palette)


def test_scenes_differ_between_splits_and_seeds_but_not_with_the_training_seed():
    first = {
        (seed, split): next(iter(scenes(seed).evaluation_dataloader(split)))["image"]
        for seed in (0, 1)
        for split in ("train", "val", "test")
    }
    assert len({image.numpy().tobytes() for image in first.values()}) == 6
    again = next(iter(scenes(0, seed=99).evaluation_dataloader("val")))["image"]
    assert torch.equal(again, first[0, "val"])


def test_a_scene_is_drawn_once_and_not_spoilt_by_training():
    data = scenes(scale_range=[1.0, 1.0], color_jitter=1.0, blur=1.0, crop_size=[48, 96])
    source = data.source("train")
    image, mask = source.read(1)
    before = image.copy(), mask.copy()
    assert source.read(1)[0] is image
    data._sources["train"] = source
    for _ in range(3):
        list(data.train_dataloader())
    assert np.array_equal(source.read(1)[0], before[0])
    assert np.array_equal(source.read(1)[1], before[1])


def test_workers_draw_the_same_scenes():
    batches = [list(scenes(workers=workers).train_dataloader()) for workers in (0, 2)]
    for here, there in zip(*batches, strict=True):
        assert here["id"] == there["id"]
        assert torch.equal(here["image"], there["image"])
