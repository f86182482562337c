import os

import commands
import pytest
import torch
import torch.nn.functional as F
from torch import distributed, multiprocessing, nn

from danet_lightning.train.losses import SummedCrossEntropy


def logits_and_mask(seed: int, batch: int = 4, ignored: float = 0.3):
    generator = torch.Generator().manual_seed(seed)
    outputs = {
        name: torch.randn(batch, 5, 9, 11, generator=generator)
        for name in ("fused", "position", "channel")
    }
    mask = torch.randint(0, 5, (batch, 9, 11), generator=generator)
    mask[torch.rand(mask.shape, generator=generator) < ignored] = 255
    return outputs, mask.to(torch.uint8)


def test_is_the_plain_sum_of_cross_entropies(seed):
    outputs, mask = logits_and_mask(seed)
    terms = SummedCrossEntropy()(outputs, mask)
    assert set(terms) == set(outputs)
    expected = sum(F.cross_entropy(o, mask.long(), ignore_index=255) for o in outputs.values())
    torch.testing.assert_close(sum(terms.values()), expected)


def test_auxiliary_output_is_weighted(seed):
    outputs, mask = logits_and_mask(seed)
    outputs = {"fused": outputs["fused"], "aux": outputs["fused"].clone()}
    terms = SummedCrossEntropy(aux_weight=0.25)(outputs, mask)
    torch.testing.assert_close(terms["aux"], 0.25 * terms["fused"])


def test_a_batch_without_labels_is_no_nan(seed):
    outputs, mask = logits_and_mask(seed, ignored=2.0)
    outputs["fused"].requires_grad_()
    term = SummedCrossEntropy()(outputs, mask)["fused"]
    term.backward()
    assert term.item() == 0
    assert not outputs["fused"].grad.any()


def gradient_on_rank(
    rank: int, world: int, port: int, seed: int, folder: str, options: dict
) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    distributed.init_process_group("gloo", rank=rank, world_size=world)
    net, outputs, mask = model_and_batch(seed)
    net = nn.parallel.DistributedDataParallel(net)
    part = slice(rank, None, world)
    loss = SummedCrossEntropy(**options)
    sum(loss({"fused": net(outputs[part])}, mask[part]).values()).backward()
    if rank == 0:
        torch.save(net.module.weight.grad, f"{folder}/gradient.pt")
    distributed.destroy_process_group()


def model_and_batch(seed: int):
    outputs, mask = logits_and_mask(seed)
    mask[::2, :8] = 255  # the first process sees hardly any labelled pixel
    torch.manual_seed(seed)
    return nn.Conv2d(5, 5, 1), outputs["fused"], mask


IMBALANCE = {
    "class_weights": [0.5, 3.0, 0.0, 1.0, 10.0],
    "ohem": {"threshold": 0.3, "min_kept": 7},
    "dice": 0.7,
}


@pytest.mark.ddp
@pytest.mark.parametrize("options", [{}, IMBALANCE], ids=["plain", "imbalance"])
def test_two_processes_give_the_gradient_of_one(options, seed, tmp_path):
    net, outputs, mask = model_and_batch(seed)
    sum(SummedCrossEntropy(**options)({"fused": net(outputs)}, mask).values()).backward()
    port = 29500 + seed % 1000
    arguments = (2, port, seed, str(tmp_path), options)
    method = commands.SERVER.get_start_method()  # forks of a process that has imported torch
    multiprocessing.start_processes(gradient_on_rank, arguments, nprocs=2, start_method=method)
    distributed_gradient = torch.load(tmp_path / "gradient.pt", weights_only=True)
    torch.testing.assert_close(distributed_gradient, net.weight.grad, rtol=1e-5, atol=1e-7)
