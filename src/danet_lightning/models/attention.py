"""The two attention modules of DANet (arXiv 1809.02983, section 3).

B: images, C: channels, H, W: height and width of the features, N = H * W positions,
D: channels of queries and keys, n: queries in one block.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from danet_lightning.errors import checked
from danet_lightning.models.maps import ChannelMap, PositionMap

# Queries that meet all keys at once are a quarter of all, in a block of at most 128 MiB in float32
# for each image, which is reached at N = 11585. Fewer starve the matrix products: with 256 of 9216,
# forward and backward took 1.5 times as long as with the whole map on an Intel CPU, with a quarter
# as long. Below 256, what is done between the products costs more than the memory is worth.
LARGEST_BLOCK = 2**25
LEAST_ROWS = 256
# Blocks of queries in an exported graph, whose loops have a fixed length: two float32 arrays of
# N x N / 32 exist at a time, 2 x 128 MiB for 1024 x 2048 pixels at output stride 8.
EXPORTED_BLOCKS = 32


class PositionAttention(nn.Module):
    """Position attention module (PAM, section 3.2): every position looks at every other one.

    The weights are softmax(query . key) without the factor 1 / sqrt(D) of transformers. The N x N
    map never exists as a whole: memory is linear in N, in training too, and the result is exact.

    Args:
        channels: C of the input and output.
        reduction: C / D.
        gamma_init: First value of `gamma`, the learned weight of the attention beside its input.

    Raises:
        ValueError: No channel is left for queries and keys.
    """

    def __init__(
        self, channels: PositiveInt, reduction: PositiveInt = 8, gamma_init: float = 0.0
    ) -> None:
        super().__init__()
        self.query, self.key = queries_and_keys(channels, reduction)
        self.value = nn.Conv2d(channels, channels, kernel_size=1)
        # FSDP shards no 0-dim tensor
        self.gamma = nn.Parameter(torch.full((1,), float(gamma_init)))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W), equation 2."""
        query = self.query(x).flatten(2)  # (B, D, N)
        key = self.key(x).flatten(2)  # (B, D, N)
        value = self.value(x).flatten(2)  # (B, C, N)
        context = attend(query, key, value).reshape(x.shape)  # (B, C, H, W)
        return x + (self.gamma * context).to(x.dtype)

    def attention_map(self, x: Tensor) -> PositionMap:
        """Return the map of equation 1 for one image, (1, C, H, W)."""
        return PositionMap(self.query(x)[0], self.key(x)[0])


class ChannelAttention(nn.Module):
    """Channel attention module (CAM, section 3.3): every channel looks at every other one.

    Energies grow with N, beyond float16, and in bfloat16 the strongest channel changes in a third
    of the rows: they and the softmax are computed in float32 whatever autocast says.

    Args:
        variant: `official` is softmax(rowmax - E), the authors' code, which prefers the least
            similar channel; `paper` is softmax(E), equation 3.
        gamma_init: First value of `gamma`, the learned weight of the attention beside its input.

    """

    @checked
    def __init__(
        self, variant: Literal["official", "paper"] = "official", gamma_init: float = 0.0
    ) -> None:
        super().__init__()
        self.variant = variant
        self.gamma = nn.Parameter(torch.full((1,), float(gamma_init)))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W), equation 4."""
        channels = x.flatten(2)  # (B, C, N)
        weights = self._weights(channels)  # (B, C, C)
        context = (weights.to(x.dtype) @ channels).view_as(x)  # (B, C, H, W)
        return x + (self.gamma * context).to(x.dtype)

    def attention_map(self, x: Tensor) -> ChannelMap:
        """Return the map of equation 3 for one image, (1, C, H, W)."""
        return ChannelMap(self._weights(x.flatten(2))[0])

    def _weights(self, channels: Tensor) -> Tensor:
        with torch.autocast(channels.device.type, enabled=False):
            exact = channels.to(at_least_float32(channels))
            energy = exact @ exact.transpose(1, 2)  # (B, C, C)
            if self.variant == "official":
                energy = energy.amax(-1, keepdim=True) - energy
            return energy.softmax(-1)


def queries_and_keys(channels: int, reduction: int) -> tuple[nn.Conv2d, nn.Conv2d]:
    """Build the 1x1 convolutions from C to D = C / reduction channels.

    Raises:
        ValueError: No channel is left for queries and keys.
    """
    if reduction < 1 or channels < reduction:
        raise ValueError(
            f"channels {channels} over reduction {reduction} leaves queries and keys without "
            "a channel; choose a reduction from 1 to the number of channels."
        )
    width = channels // reduction
    return nn.Conv2d(channels, width, kernel_size=1), nn.Conv2d(channels, width, kernel_size=1)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Average the values, weighted with softmax(query . key) over the keys, equation 1.

    Args:
        query: (B, D, N).
        key: (B, D, N).
        value: (B, C, N).

    Returns:
        (B, C, N) in the values' dtype.
    """
    if torch.onnx.is_in_onnx_export():
        return _exportable(query, key, value)
    # CPUs multiply faster in float32, whatever the features are in
    dtype = query.dtype if query.is_cuda else at_least_float32(query)
    context: Tensor = BlockwiseAttention.apply(query.to(dtype), key.to(dtype), value.to(dtype))
    return context.to(value.dtype)


class BlockwiseAttention(torch.autograd.Function):
    """Exact attention, one block of queries against all keys; weights are computed again backward.

    Energies, softmax and sums over blocks are in float32 at least: without 1 / sqrt(D) energies
    are large, and rounded to bfloat16 they would be off by whole units. Blocks follow one another
    in a fixed order, so results are the same bit for bit; any strides will do.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Map (B, D, N), (B, D, N), (B, C, N) of one dtype to (B, C, N) in it."""
        context = torch.empty_like(value)
        with torch.autocast(value.device.type, enabled=False):
            for block in _blocks(query.shape[2]):
                weights = _weights(query[:, :, block], key).to(value.dtype)  # (B, n, N)
                context[:, :, block] = value @ weights.transpose(1, 2)  # (B, C, n)
                del weights  # or they would live while those of the next block are made
        ctx.save_for_backward(query, key, value, context)
        return context

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Map (B, C, N) to gradients of query, key and value, None where none is asked for."""
        query, key, value, context = ctx.saved_tensors
        with_query, with_key, with_value = ctx.needs_input_grad
        exact = at_least_float32(query)
        grads = [torch.zeros_like(t, dtype=exact) for t in (query, key, value)]
        with torch.autocast(grad.device.type, enabled=False):
            for block in _blocks(query.shape[2]):
                of_block = grad[:, :, block]  # (B, C, n)
                weights = _weights(query[:, :, block], key)  # (B, n, N)
                if with_value:
                    grads[2] += _product(of_block, weights.to(value.dtype))  # (B, C, N)
                if with_query or with_key:
                    # softmax backward: P * (dP - rowsum(P * dP)), and that sum is grad . context
                    slope = _product(of_block.transpose(1, 2), value)  # (B, n, N)
                    mean = (of_block.to(exact) * context[:, :, block]).sum(1)  # (B, n)
                    slope = slope.sub_(mean.unsqueeze(2)).mul_(weights).to(query.dtype)
                    if with_query:
                        grads[0][:, :, block] = _product(key, slope.transpose(1, 2))  # (B, D, n)
                    if with_key:
                        grads[1] += _product(query[:, :, block], slope)  # (B, D, N)
                    del slope
                del weights  # as above
        return tuple(
            g.to(query.dtype) if n else None
            for g, n in zip(grads, ctx.needs_input_grad, strict=True)
        )


def _exportable(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Compute `attend` in a graph that is traced once and exact at every N, by blocks of N / 32."""
    positions = query.shape[2]
    size = (positions + EXPORTED_BLOCKS - 1) // EXPORTED_BLOCKS
    padded = F.pad(query, (0, size * EXPORTED_BLOCKS - positions)).transpose(1, 2)
    split = (query.shape[0], EXPORTED_BLOCKS, size, query.shape[1])
    blocks = padded.reshape(split).unbind(1)  # (B, n, D) each
    values = value.transpose(1, 2)  # (B, N, C)
    contexts = [torch.bmm(torch.bmm(block, key).softmax(-1), values) for block in blocks]
    return torch.cat(contexts, 1)[:, :positions].transpose(1, 2)  # (B, C, N)


def _blocks(positions: int) -> list[slice]:
    rows = max(LEAST_ROWS, min(positions // 4, LARGEST_BLOCK // positions))  # n
    return [slice(start, start + rows) for start in range(0, positions, rows)]


def _weights(query: Tensor, key: Tensor) -> Tensor:
    return _product(query.transpose(1, 2), key).softmax(-1)  # (B, n, N)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Multiply (B, i, j) by (B, j, k); factors in half precision make a product in float32."""
    exact = at_least_float32(a)
    if a.dtype == exact:
        return a @ b
    if a.is_cuda:
        return torch.bmm(a, b, out_dtype=exact)
    return a.to(exact) @ b.to(exact)


def at_least_float32(x: Tensor) -> torch.dtype:
    """Return the dtype for energies, which no softmax may get in half precision."""
    return torch.promote_types(x.dtype, torch.float32)
