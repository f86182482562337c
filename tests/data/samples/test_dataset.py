import numpy as np
import pytest
import torch
from fake_trees import NoiseSource
from torch.utils.data import DataLoader

from danet_lightning.data.samples.dataset import SegmentationDataset, sample_seed
from danet_lightning.data.samples.sampler import EpochSampler
from danet_lightning.data.samples.transforms import Augmentation

# 4 workers on 2 cores are meant; Python 3.12 dislikes any fork beside torch's threads.
pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning"),
]


def training_set(seed: int = 0) -> SegmentationDataset:
    transform = Augmentation((32, 40), (0.5, 2.0), 0.5, color_jitter=0.5, blur=0.5).transform()
    return SegmentationDataset(NoiseSource(12), transform, seed)


def epoch_of(workers: int, epoch: int, method: str | None = None) -> list[dict]:
    sampler = EpochSampler(12, 3, seed=1)
    sampler.set_epoch(epoch)
    loader = DataLoader(
        training_set(),
        batch_size=3,
        sampler=sampler,
        num_workers=workers,
        multiprocessing_context=method,
    )
    return list(loader)


def equal(first: list[dict], second: list[dict]) -> bool:
    return all(
        a["id"] == b["id"]
        and torch.equal(a["image"], b["image"])
        and torch.equal(a["mask"], b["mask"])
        for a, b in zip(first, second, strict=True)
    )


@pytest.mark.parametrize(
    ("workers", "method"),
    [(2, None), (4, None), (1, "forkserver")],
)
def test_samples_do_not_depend_on_the_workers(workers, method):
    assert equal(epoch_of(0, 1), epoch_of(workers, 1, method))


def test_samples_differ_between_epochs_seeds_and_each_other():
    sets = {seed: training_set(seed) for seed in (0, 1)}
    samples = {
        (seed, epoch, index): sets[seed][epoch, index]["mask"].numpy().tobytes()
        for seed in (0, 1)
        for epoch in (0, 1)
        for index in range(12)
    }
    assert len(set(samples.values())) == len(samples)


def test_a_sample_does_not_depend_on_those_before_it():
    dataset = training_set()
    first = dataset[2, 5]
    for index in range(5):
        dataset[0, index]
    assert equal([first], [dataset[2, 5]])


def test_a_sample_is_bytes_ready_to_collate():
    sample = training_set()[0, 3]
    assert (sample["image"].shape, sample["image"].dtype) == ((3, 32, 40), torch.uint8)
    assert (sample["mask"].shape, sample["mask"].dtype) == ((32, 40), torch.uint8)
    assert sample["id"] == "noise_3"
    assert sample["image"].is_contiguous()


def test_evaluation_changes_nothing():
    source = NoiseSource(4)
    sample = SegmentationDataset(source)[3]
    image, mask = source.read(3)
    assert np.array_equal(sample["image"].numpy(), image.transpose(2, 0, 1))
    assert np.array_equal(sample["mask"].numpy(), mask)
    assert sample["mask"].shape == (60, 83)


def test_seeds_of_neighbouring_samples_are_all_different():
    seeds = {sample_seed(s, e, i) for s in range(20) for e in range(20) for i in range(50)}
    assert len(seeds) == 20 * 20 * 50
