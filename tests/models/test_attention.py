"""B: images, C: channels, N: positions, D: channels of queries and keys."""

import pytest
import torch
from torch import Tensor
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


def test_pam_equals_the_whole_map_forward_and_backward(seed: int) -> None:
    torch.manual_seed(seed)
    pam = PositionAttention(16, reduction=4, gamma_init=0.7).double()
    x = torch.randn(2, 16, 17, 33, dtype=torch.float64, requires_grad=True)  # 561: 2 blocks + rest
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
    monkeypatch.setattr(attention, "BLOCK", 3)  # 7 positions: three blocks, the last one short
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


def largest_tensor(forward, height: int, width: int) -> int:  # type: ignore[no-untyped-def]
    pam = PositionAttention(8)
    with Largest() as largest:
        forward(pam, torch.randn(1, 8, height, width)).sum().backward()
    return largest.numel


def test_pam_memory_is_linear_in_positions() -> None:
    def blockwise(pam: PositionAttention, x: Tensor) -> Tensor:
        return pam(x)

    small, large = (largest_tensor(blockwise, 32, width) for width in (32, 128))  # N: 1024, 4096
    assert large == 4 * small
    assert large < 4096**2 / 10
    # and the measure sees a whole map where there is one
    assert largest_tensor(naive_position_attention, 32, 32) == 1024**2


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
