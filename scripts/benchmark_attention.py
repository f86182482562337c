"""What position attention costs beside its whole map: `python scripts/benchmark_attention.py`.

Forward and backward, with 64 channels of queries and 512 of values as behind a ResNet-50. It needs
torch and pydantic, and no network. B: images, D, C: channels of queries and values, N: positions.
"""

import argparse
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import torch
from measuring import gib, memory, milliseconds, positive, tell
from torch import Tensor

from danet_lightning.models import attention

DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}


def arguments() -> argparse.ArgumentParser:
    """Return the options of the command line."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    batch, dtypes = (2, [*DTYPES]) if device == "cuda" else (1, ["float32"])
    add = parser.add_argument
    add("--positions", nargs="+", type=positive, default=[1024, 4096, 9216], help="of a map, N")
    add("--batch", type=positive, default=batch, help="maps at once")
    add("--rows", nargs="*", type=positive, default=[], help="blocks to compare")
    add("--dtype", nargs="+", choices=DTYPES, default=dtypes, help="of the features")
    add("--device", choices=("cpu", "cuda"), default=device, help="where it is computed")
    add("--repeats", type=positive, default=5, help="after one that only warms up")
    add("--output", type=Path, default=Path("benchmark_attention.json"), help="figures as JSON")
    return parser


def main() -> None:
    """Measure what was asked for; print a table, write the figures."""
    options = arguments().parse_args()
    tell(attentions(options), options.output)


def attentions(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure the whole map, our own choice of blocks, and those that were asked for."""
    for positions, name in product(options.positions, options.dtype):
        torch.manual_seed(0)
        query, key, value, grad = (
            torch.randn(options.batch, channels, positions, device=options.device).to(DTYPES[name])
            for channels in (64, 64, 512, 512)
        )
        inputs = [each.requires_grad_() for each in (query / 8, key, value)]
        ways = {"whole map": (whole_map, None), "ours": (attention.attend, None)}
        ways |= {f"{rows} rows": (attention.attend, rows) for rows in options.rows}
        whole: dict[str, Any] = {}
        for way, (attend, rows) in ways.items():
            row = {"attention": way, "dtype": name, "B": options.batch, "N": positions}
            try:
                found = measured(attend, rows, inputs, grad, options.repeats)
            except torch.OutOfMemoryError:
                found = dict.fromkeys(("ms", "gib"))
            whole = whole or found
            ratios = {f"{key} of whole": _over(found[key], whole[key]) for key in found}
            yield row | found | ratios


def _over(value: float | None, other: float | None) -> float | None:
    return value / other if value is not None and other else None


def measured(
    attend: Callable[..., Tensor], rows: int | None, inputs: Any, grad: Tensor, repeats: int
) -> dict[str, Any]:
    """Measure a forward and a backward pass, in blocks of so many rows or of our own choice."""
    before = attention.LARGEST_BLOCK, attention.LEAST_ROWS
    if rows:
        attention.LARGEST_BLOCK, attention.LEAST_ROWS = 0, rows

    def compute() -> None:
        torch.autograd.grad(attend(*inputs), inputs, grad)

    try:
        peak = memory(grad.device.type)
        compute()
        taken = peak()
        return {"ms": milliseconds(compute, grad.device.type, repeats), "gib": gib(taken)}
    finally:
        attention.LARGEST_BLOCK, attention.LEAST_ROWS = before


def whole_map(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Equation 1 with the N x N map, in float32 as our energies are."""
    energy = (query.transpose(1, 2) @ key).float()  # (B, N, N)
    return value @ energy.softmax(-1).to(value.dtype).transpose(1, 2)  # (B, C, N)


if __name__ == "__main__":
    main()
