from itertools import chain

import pytest

from danet_lightning.data.samples.sampler import UNCOUNTED, EpochSampler, EvaluationSampler
from danet_lightning.errors import RequestError


def global_batches(length: int, batch_size: int, world: int, seed: int, epoch: int) -> list[list]:
    """The addresses of each step, joined over the processes."""
    shares = []
    for rank in range(world):
        sampler = EpochSampler(length, batch_size, rank, world, seed)
        sampler.set_epoch(epoch)
        share = list(sampler)
        assert len(share) == len(sampler)
        shares.append(share)
    per_process = batch_size // world
    return [
        [address for share in shares for address in share[start : start + per_process]]
        for start in range(0, len(shares[0]), per_process)
    ]


@pytest.mark.parametrize("world", [2, 3, 4, 6, 12])
def test_steps_hold_the_same_images_for_any_number_of_processes(world, seed):
    expected = global_batches(53, 12, 1, seed, epoch=3)
    assert global_batches(53, 12, world, seed, epoch=3) == expected


def test_an_epoch_repeats_no_image_and_drops_less_than_a_batch(seed):
    addresses = list(chain(*global_batches(53, 12, 1, seed, epoch=0)))
    assert len(addresses) == len(set(addresses)) == 48
    assert {epoch for epoch, _ in addresses} == {0}
    assert {index for _, index in addresses} <= set(range(53))


def test_the_order_is_a_function_of_seed_and_epoch():
    orders = {
        (seed, epoch): [index for _, index in global_batches(40, 4, 1, seed, epoch)[0]]
        for seed in (0, 1, 2)
        for epoch in (0, 1, 2)
    }
    assert len({tuple(order) for order in orders.values()}) == 9
    assert orders[1, 2] == [index for _, index in global_batches(40, 4, 1, 1, 2)[0]]


def test_every_image_comes_first_equally_often():
    sampler = EpochSampler(5, 5, seed=7)
    first = [0] * 5
    for epoch in range(2000):
        sampler.set_epoch(epoch)
        first[next(iter(sampler))[1]] += 1
    assert max(abs(count - 400) for count in first) < 5 * (2000 * 0.2 * 0.8) ** 0.5, first


def test_a_batch_that_cannot_be_divided_names_both_numbers():
    with pytest.raises(RequestError, match=r"batch_size=8 .* over 3 processes.*multiple of 3"):
        EpochSampler(100, 8, world=3)


def test_a_batch_larger_than_the_data_names_both_numbers():
    with pytest.raises(RequestError, match=r"batch_size=8 is more than the 7 .*batch_size=7"):
        EpochSampler(7, 8)


@pytest.mark.parametrize("world", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("length", [1, 2, 13])
def test_evaluation_reads_each_image_once(length, world):
    shares = [list(EvaluationSampler(length, rank, world)) for rank in range(world)]
    read = sorted(index for index in chain(*shares) if index != UNCOUNTED)
    assert read == list(range(length))
    assert all(shares)  # or Lightning would leave a process out, and the others would wait for it
    sizes = [len(EvaluationSampler(length, rank, world)) for rank in range(world)]
    assert sizes == [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1
