"""What the benchmarks share: numbers of a command line, the machine, its clock and its memory."""

import argparse
import ctypes
import gc
import json
import os
import platform
import statistics
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from danet_lightning.data.samples.cores import cores


def positive(text: str) -> int:
    """Read a number above 0."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be 1 or more")
    return number


def image_size(text: str) -> tuple[int, int]:
    """Read a height and a width."""
    try:
        height, width = map(positive, text.split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: give HxW, as in 512x1024") from None
    return height, width


def machine() -> dict[str, Any]:
    """What the figures were measured on, and how busy it was."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    found = {
        "processor": _processor(),
        "cores": cores(),
        "load": load,
        "system": platform.platform(),
    }
    return found | ({"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {})


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def tell(rows: Iterable[Mapping[str, Any]], output: Path) -> None:
    """Print a table, and write all figures so far to a JSON file after each row of it."""
    facts = {"machine": machine(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    told: list[Mapping[str, Any]] = []
    for row in rows:
        if not told:
            print(" | ".join(row), flush=True)
        told.append(row)
        print(" | ".join(map(_shown, row.values())), flush=True)
        output.write_text(json.dumps({**facts, "rows": told}, indent=1) + "\n")


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "-" if value is None else str(value)


def gib(count: int | None) -> float | None:
    """Tell bytes in GiB."""
    return None if count is None else count / 2**30


def milliseconds(compute: Callable[[], Any], device: str, repeats: int) -> float:
    """The median time of a pass; of a GPU, between the events before and after it."""
    taken = []
    for _ in range(repeats):
        if device == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            compute()
            end.record()
            end.synchronize()
            taken.append(begin.elapsed_time(end))
        else:
            start = time.perf_counter()
            compute()
            taken.append(1000 * (time.perf_counter() - start))
    return statistics.median(taken)


def memory(device: str) -> Callable[[], int | None]:
    """Begin to watch the memory; what is returned tells the peak since then, None if unknown.

    Of a CPU it is that of the whole process, which Linux alone counts anew.
    """
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        return lambda: torch.cuda.max_memory_allocated() - held
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # or what was freed would not be seen taken again
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak becomes what is held now
        before = _status("VmRSS")
    except (OSError, StopIteration):
        return lambda: None
    return lambda: _status("VmHWM") - before


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


class Allocations(TorchDispatchMode):
    """Count the bytes of all tensors that live at once, fake ones without memory too.

    What an operation allocates and frees within itself is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._seen: Any = WeakIdKeyDictionary()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation, and count what it has made."""
        result = func(*args, **kwargs or {})
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._seen:
            return
        self._seen[storage] = True
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._free, storage.nbytes())

    def _free(self, size: int) -> None:
        self.live -= size
