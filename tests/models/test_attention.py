"""B: images, C: channels, N: positions, D: channels of queries and keys."""

from types import SimpleNamespace

import pytest
import torch
from benchmark_attention import whole_map
from measuring import Allocations
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from danet_lightning.models import ChannelAttention, PositionAttention, attention


def naive_position_attention(pam: PositionAttention, x: Tensor) -> Tensor:
    query, key, value = (layer(x).flatten(2) for layer in (pam.query, pam.key, pam.value))
    energy = torch.einsum("bdi,bdj->bij", query, key)
    weights = energy.exp() / energy.exp().sum(-1, keepdim=True)
    context = torch.einsum("bij,bcj->bci", weights, value)
    return pam.gamma * context.reshape(x.shape) + x


def gradients(module: torch.nn.Module, x: Tensor, output: Tensor, grad: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(output, [x, *module.parameters()], grad))


LAYOUTS = {
    "contiguous": lambda x: x,
    "channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "sliced": lambda x: x.repeat_interleave(2, 1).repeat_interleave(3, 3)[:, ::2, :, 1::3],
    "expanded": lambda x: x[:1, :, :, :1].expand(x.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pam_equals_the_whole_map_forward_and_backward(layout: str, seed: int) -> None:
    torch.manual_seed(seed)
    pam = PositionAttention(16, reduction=4, gamma_init=0.7).double()
    x = torch.randn(2, 16, 17, 33, dtype=torch.float64)  # 561: 2 blocks + rest
    x = LAYOUTS[layout](x).requires_grad_()
    grad = torch.randn_like(x)
    ours, naive = pam(x), naive_position_attention(pam, x)
    torch.testing.assert_close(ours, naive, rtol=1e-10, atol=1e-12)
    for own, reference in zip(
        gradients(pam, x, ours, grad), gradients(pam, x, naive, grad), strict=True
    ):
        torch.testing.assert_close(own, reference, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("needed", [(1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1)], ids=str)
def test_pam_gradients_for_any_choice_of_inputs(
    needed: tuple[int, ...], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "LEAST_ROWS", 3)  # 7 positions: three blocks, the last one short
    torch.manual_seed(seed)
    shapes = ((1, 2, 7), (1, 2, 7), (1, 3, 7))
    inputs = [
        torch.randn(s, dtype=torch.float64, requires_grad=bool(n))
        for s, n in zip(shapes, needed, strict=True)
    ]
    assert torch.autograd.gradcheck(attention.attend, inputs)


class Largest(TorchDispatchMode):
    """The most elements that any tensor has, temporaries included."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **kwargs or {})
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor):
                self.numel = max(self.numel, tensor.numel())
        return result


def largest_tensor(forward, x: Tensor) -> int:  # type: ignore[no-untyped-def]
    with torch.device(x.device):
        pam = PositionAttention(x.shape[1])
    with Largest() as largest:
        forward(pam, x).sum().backward()
    return largest.numel


def pam_forward(pam: PositionAttention, x: Tensor) -> Tensor:
    return pam(x)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_pam_has_a_quarter_of_the_map_at_most(layout: str, autocast: bool) -> None:
    x = LAYOUTS[layout](torch.randn(1, 8, 32, 48)).requires_grad_()  # N: 1536
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        assert largest_tensor(pam_forward, x) == 1536**2 / 4
    # and the measure sees a whole map where there is one
    assert largest_tensor(naive_position_attention, x) == 1536**2


def test_pam_memory_is_bounded_however_many_positions_there_are() -> None:
    with FakeTensorMode():
        images = [torch.empty(1, 8, side, side) for side in (120, 160)]  # N: 14400 and 25600
        largest = [largest_tensor(pam_forward, x) for x in images]
    assert all(0.99 * 2**25 < numel <= 2**25 for numel in largest)


def test_pam_has_a_quarter_of_the_memory_of_the_whole_map() -> None:
    """Of all tensors that live at once in forward and backward, features included."""

    def peak(attend) -> int:  # type: ignore[no-untyped-def]
        with FakeTensorMode(), Allocations() as counted:
            inputs = [torch.empty(1, c, 9216).requires_grad_() for c in (64, 64, 512)]
            torch.autograd.grad(attend(*inputs), inputs, torch.empty(1, 512, 9216))
        return counted.peak

    assert peak(attention.attend) < 0.25 * peak(whole_map)


def test_the_block_is_an_images_own(seed: int) -> None:
    """What a picture's neighbors in the batch are changes nothing, to the last bit."""
    torch.manual_seed(seed)
    inputs = [torch.randn(3, c, 1100) for c in (4, 4, 8)]
    together = attention.attend(*inputs)
    alone = torch.cat([attention.attend(*(t[i : i + 1] for t in inputs)) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("transposed", [False, True])
def test_pam_on_cuda_without_a_map(dtype: torch.dtype, transposed: bool) -> None:
    """Shapes, types and sizes of each step on a GPU, computed without any."""
    with FakeTensorMode(), torch.no_grad(), Largest() as largest:
        inputs = [torch.empty(2, c, 2048, dtype=dtype, device="cuda") for c in (8, 8, 64)]
        if transposed:
            inputs = [t.transpose(1, 2).contiguous().transpose(1, 2) for t in inputs]
        context = SimpleNamespace(needs_input_grad=(True, True, True))
        context.save_for_backward = lambda *kept: setattr(context, "saved_tensors", kept)
        output = attention.BlockwiseAttention.forward(context, *inputs)
        grads = attention.BlockwiseAttention.backward(context, output)
    assert largest.numel == 2 * 2048**2 / 4
    for given, made in zip((*inputs, inputs[2]), (*grads, output), strict=True):
        assert (made.shape, made.dtype, made.device) == (given.shape, dtype, given.device)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_pam_in_half_precision_is_as_exact_as_its_inputs(dtype: torch.dtype, seed: int) -> None:
    """What GPUs compute, on the CPU: products of halves in float32, energies of 0 to 60."""
    torch.manual_seed(seed)
    inputs = [torch.randn(2, c, 600).to(dtype).requires_grad_() for c in (64, 64, 32)]
    query, key, value = (t.detach().double().requires_grad_() for t in inputs)
    grad = torch.randn_like(inputs[2])
    ours = attention.BlockwiseAttention.apply(*inputs)
    exact = value @ (query.transpose(1, 2) @ key).softmax(-1).transpose(1, 2)
    low = [ours, *torch.autograd.grad(ours, inputs, grad)]
    high = [exact, *torch.autograd.grad(exact, (query, key, value), grad.double())]
    for name, own, reference in zip(("output", *"qkv"), low, high, strict=True):
        assert own.dtype == dtype
        assert (own - reference).norm() / reference.norm() < 0.01, name


def test_pam_is_the_same_bit_for_bit(seed: int) -> None:
    torch.manual_seed(seed)
    pam = PositionAttention(32, gamma_init=1.0)
    x = torch.randn(2, 32, 25, 31, requires_grad=True)
    runs = [gradients(pam, x, pam(x), torch.ones_like(x)) for _ in range(2)]
    assert all(torch.equal(first, second) for first, second in zip(*runs, strict=True))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_pam_under_bfloat16_autocast(layout: torch.memory_format, seed: int) -> None:
    torch.manual_seed(seed)
    pam = PositionAttention(32, gamma_init=1.0)
    x = torch.randn(1, 32, 20, 20).to(memory_format=layout).requires_grad_()
    grad = torch.randn_like(x)
    exact = [pam(x), *gradients(pam, x, pam(x), grad)]
    with torch.autocast("cpu", torch.bfloat16):
        output = pam(x)
        low = [output, *gradients(pam, x, output, grad)]
    assert output.dtype == x.dtype
    names = ["output", "x", *(name for name, _ in pam.named_parameters())]
    for name, own, reference in zip(names, low, exact, strict=True):
        if not name.endswith(("bias", "gamma")):  # whose gradients are sums that cancel out
            assert (own - reference).norm() / reference.norm() < 0.02, name


def test_pam_backward_inside_autocast_is_exact(seed: int) -> None:
    torch.manual_seed(seed)
    inputs = [torch.randn(1, 8, 300, requires_grad=True) for _ in range(3)]
    outside = torch.autograd.grad(attention.attend(*inputs).square().sum(), inputs)
    context = attention.attend(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        inside = torch.autograd.grad(context.square().sum(), inputs)
    assert all(torch.equal(first, second) for first, second in zip(inside, outside, strict=True))


@pytest.mark.parametrize("autocast", [True, False])
def test_pam_keeps_large_energies_exact_in_bfloat16(autocast: bool) -> None:
    """Two keys whose energies differ by 1 in 200: bfloat16 would see them equal."""
    query = torch.full((1, 1, 2), 10.0, dtype=torch.bfloat16)
    key = torch.tensor([[[20.0, 20.125]]], dtype=torch.bfloat16)
    value = torch.tensor([[[0.0, 1.0]]], dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        context = attention.attend(query, key, value)
    expected = torch.sigmoid(torch.tensor(1.25)).item()
    assert context[0, 0, 0].item() == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("variant", ["official", "paper"])
def test_cam_equals_its_definition(variant: str, seed: int) -> None:
    torch.manual_seed(seed)
    cam = ChannelAttention(variant, gamma_init=0.7).double()
    x = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    output = cam(x)
    for image, result in zip(x, output, strict=True):
        for row in range(5):
            energies = torch.stack([(image[row] * image[other]).sum() for other in range(5)])
            if variant == "official":
                energies = energies.max() - energies
            weights = energies.exp() / energies.exp().sum()
            expected = 0.7 * sum(w * channel for w, channel in zip(weights, image, strict=True))
            torch.testing.assert_close(result[row], expected + image[row])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("variant", ["official", "paper"])
def test_cam_energies_are_float32_under_autocast(
    variant: str, dtype: torch.dtype, seed: int
) -> None:
    """Energies near 1e5 that differ by units: beyond float16, and equal in bfloat16."""
    torch.manual_seed(seed)
    cam = ChannelAttention(variant, gamma_init=1.0)
    x = torch.ones(1, 16, 64, 64) * 5 + torch.randn(1, 16, 64, 64).mul(8).round() / 64
    x = x.to(dtype)  # the same numbers in every precision from here on
    exact = cam(x.float())
    with torch.autocast("cpu", dtype):
        low = cam(x)
    assert low.dtype == dtype
    torch.testing.assert_close(low.float(), exact, rtol=0.02, atol=0.02)


def test_attention_starts_as_the_identity(seed: int) -> None:
    x = torch.randn(1, 8, 4, 4)
    for module in (PositionAttention(8), ChannelAttention()):
        assert torch.equal(module(x), x)
        assert [name for name, _ in module.named_parameters() if name.endswith("gamma")]


def test_impossible_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="channels 4 over reduction 8"):
        PositionAttention(4)
    with pytest.raises(ValueError, match="must be 'official' or 'paper'"):
        ChannelAttention("softmin")  # type: ignore[arg-type]
