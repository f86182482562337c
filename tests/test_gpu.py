"""What only a GPU can show: `pytest -m gpu`, on one card; every test is left out without any.

B: images, C: channels, N: positions.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_net import SmallNet
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel
from trainings import EVERY_STEP, TINY, TRUSTED, killed_at, matrix_of, same_runs

from danet_lightning.models import ChannelAttention, DANet, PositionAttention
from danet_lightning.train.losses import SummedCrossEntropy

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
ON_GPU = [it for it in TINY if it not in ("trainer=cpu", "trainer.precision=32-true")]
ON_GPU += ["trainer=gpu"]
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "sliced": lambda x: x.repeat_interleave(2, 1)[:, ::2],
    "expanded": lambda x: x[:, :, :, :1].expand(x.shape),
}
PRECISIONS = {torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.01}  # relative errors


def run(verb: str, *arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """A command in a fresh interpreter: CUDA does not survive the fork of the other tests."""
    command = [sys.executable, "-m", f"danet_lightning.{verb}", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


def succeed(verb: str, *arguments: str, cwd: Path) -> None:
    result = run(verb, *arguments, cwd=cwd)
    assert result.returncode == 0, result.stderr


@pytest.fixture
def exactly() -> Iterator[None]:
    """The convolutions around the attention in true float32, and the same each time."""
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        yield


@pytest.mark.usefixtures("exactly")
@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_pam_is_exact_in_a_third_of_the_maps_memory(layout: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    pam = PositionAttention(128, gamma_init=1.0).cuda()
    x = LAYOUTS[layout](torch.randn(1, 128, 64, 72, device="cuda")).detach().requires_grad_()
    positions = 64 * 72
    grad = torch.randn_like(x, memory_format=torch.contiguous_format)

    def passed() -> list[Tensor]:
        with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
            output = pam(x)
        return [output, *torch.autograd.grad(output, [x, pam.value.weight, pam.key.weight], grad)]

    ours = passed()
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    again = passed()
    taken = torch.cuda.max_memory_allocated() - held
    features = 40 * 128 * positions * 4  # the linear part, of which there is little
    assert taken < 0.3 * 3 * 4 * positions**2 + features  # P, dP, dE of the whole map, in float32
    assert all(torch.equal(one, other) for one, other in zip(ours, again, strict=True))

    exact = PositionAttention(128).cuda().double()
    exact.load_state_dict(pam.state_dict())
    y = x.detach().double().requires_grad_()
    query, key, value = (f(y).flatten(2) for f in (exact.query, exact.key, exact.value))
    context = value @ (query.transpose(1, 2) @ key).softmax(-1).transpose(1, 2)
    output = exact.gamma * context.view(x.shape) + y
    wanted = torch.autograd.grad(output, [y, exact.value.weight, exact.key.weight], grad.double())
    for own, reference in zip(ours, [output, *wanted], strict=True):
        assert (own - reference).norm() / reference.norm() < PRECISIONS[dtype]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_cam_is_in_float32_under_autocast(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    cam = ChannelAttention(gamma_init=1.0).cuda()
    x = (5 + torch.randn(1, 64, 64, 64, device="cuda").mul(8).round() / 64).to(dtype)
    with torch.autocast("cuda", dtype):
        low = cam(x)
    assert low.dtype == dtype
    exact = cam.double()(x.double())
    torch.testing.assert_close(low.double(), exact, rtol=0.02, atol=0.02)


def test_the_compiled_network_is_the_same() -> None:
    torch.manual_seed(0)
    net = DANet(SmallNet(), 3, gamma_init=1.0, dropout=0.0).cuda()
    images = torch.randn(2, 3, 272, 200, device="cuda")
    with torch.autocast("cuda", torch.bfloat16):
        expected = net(images)
        net.compile(fullgraph=True)
        found = net(images)
        sum(it.float().square().mean() for it in found.values()).backward()
    for name, logits in expected.items():
        assert (found[name] - logits).norm() / logits.norm() < 0.05
    assert all(it.grad is not None and it.grad.isfinite().all() for it in net.parameters())


def test_a_training_in_bf16_evaluates_as_the_cpu_does(tmp_path: Path) -> None:
    """Of the validation's pixels, at most one in a thousand may change its class."""
    succeed("train", *ON_GPU, "run_dir=run", cwd=tmp_path)
    facts = torch.load(tmp_path / "run" / "best.ckpt", weights_only=True)["danet_lightning"]
    if torch.cuda.is_bf16_supported(including_emulation=False):
        assert facts["config"]["trainer"]["precision"] == "bf16-mixed"
    cost = json.loads((tmp_path / "run" / "results.json").read_text())["cost"]
    assert cost["peak_memory_gib"] > 0
    matrices = []
    for trainer in ("gpu", "cpu"):
        arguments = ["ckpt_path=run/best.ckpt", TRUSTED, f"trainer={trainer}"]
        succeed("evaluate", *arguments, f"run_dir={trainer}", cwd=tmp_path)
        matrices.append(torch.tensor(matrix_of(tmp_path / trainer)))
    on_gpu, on_cpu = matrices
    assert on_gpu.equal(torch.tensor(matrix_of(tmp_path / "run")))
    assert (on_gpu - on_cpu).abs().sum() <= 2e-3 * on_cpu.sum()


def test_a_killed_training_ends_as_one_that_was_left_alone(tmp_path: Path) -> None:
    arguments = [*ON_GPU, "trainer.deterministic=true"]
    succeed("train", *arguments, "run_dir=alone", cwd=tmp_path)
    killed = [*arguments, "run_dir=run", EVERY_STEP, *killed_at("step2", "validation4")]
    codes = [run("train", *killed, cwd=tmp_path).returncode for _ in range(3)]
    assert codes == [-9, -9, 0]
    same_runs(tmp_path / "alone", tmp_path / "run")


def half_of_a_step(rank: int, folder: str, backend: str) -> None:
    """One of two processes, each with one of two images: what DDP and SyncBatchNorm make of it."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": Path(folder, "port").read_text()}
    device = torch.device("cuda", rank if backend == "nccl" else 0)
    torch.cuda.set_device(device)
    torch.backends.cudnn.allow_tf32 = False
    distributed.init_process_group(backend, rank=rank, world_size=2)
    net, images, mask = example(device)
    synced = nn.SyncBatchNorm.convert_sync_batchnorm(net)  # type: ignore[no-untyped-call]
    kinds = {type(module) for module in synced.modules()}
    assert nn.SyncBatchNorm in kinds
    assert nn.BatchNorm2d not in kinds
    parallel = DistributedDataParallel(synced, device_ids=[device.index])
    step(parallel, images[rank : rank + 1], mask[rank : rank + 1])
    if rank == 0:
        torch.save(state(net=synced), Path(folder, "state.pt"))
    distributed.destroy_process_group()


def example(device: torch.device) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    net = DANet(SmallNet(), 3, gamma_init=1.0, dropout=0.0).to(device)
    images, mask = torch.randn(2, 3, 64, 96), torch.randint(0, 3, (2, 64, 96))
    mask[0, :48] = 255  # images with unequal numbers of labelled pixels
    return net, images.to(device), mask.to(device)


def step(net: nn.Module, images: Tensor, mask: Tensor) -> None:
    terms: dict[str, Tensor] = SummedCrossEntropy()(net(images), mask)
    torch.stack([*terms.values()]).sum().backward()


def state(net: nn.Module) -> dict[str, Tensor]:
    """The gradients and the running statistics."""
    grads = {name: it.grad.cpu() for name, it in net.named_parameters() if it.grad is not None}
    return grads | {name: it.cpu() for name, it in net.named_buffers()}


@pytest.mark.usefixtures("exactly")
def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    """With NCCL on two GPUs; on one, which NCCL refuses to share, with gloo."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        (tmp_path / "port").write_text(str(free.getsockname()[1]))
    backend = "nccl" if torch.cuda.device_count() > 1 else "gloo"
    multiprocessing.spawn(half_of_a_step, (str(tmp_path), backend), nprocs=2)
    net, images, mask = example(torch.device("cuda"))
    step(net, images, mask)
    found: dict[str, Any] = torch.load(tmp_path / "state.pt", weights_only=True)
    alone = state(net)
    assert found.keys() == alone.keys()
    largest = max(float(it.abs().max()) for it in alone.values() if it.is_floating_point())
    for name, expected in alone.items():
        torch.testing.assert_close(found[name], expected, rtol=1e-3, atol=1e-4 * largest)
