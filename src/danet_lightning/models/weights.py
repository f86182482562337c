"""Weights files: read without running their code, loaded without leaving anything out."""

import pickletools
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# Training scripts of 2019 stored their best score as a NumPy scalar; these build numbers only.
NUMBERS: list[Any] = [
    np.dtype,
    np.dtypes.Float64DType,
    np.dtypes.Float32DType,
    np.dtypes.Int64DType,
    (np.float64(0).__reduce__()[0], "numpy.core.multiarray.scalar"),
    (np.float64(0).__reduce__()[0], "numpy._core.multiarray.scalar"),
]


class Ignored:
    """Stands for what a weights file holds beside its tensors."""

    def __new__(cls, *arguments: Any) -> "Ignored":
        """Be made from anything, by nothing of it."""
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Forget it."""


# MMSegmentation 1.x keeps its log beside the weights: buffers that hold NumPy arrays and, looked
# up by getattr, their own methods. None of it is called here.
MMENGINE_LOG: list[Any] = [
    (Ignored, "mmengine.logging.history_buffer.HistoryBuffer"),
    (Ignored, "numpy.core.multiarray._reconstruct"),
    (Ignored, "numpy._core.multiarray._reconstruct"),
    (Ignored, "numpy.ndarray"),
    (Ignored, "builtins.getattr"),
]


def read_file(path: str | Path) -> dict[str, Any]:
    """Read what `torch.save` wrote, onto the CPU, with `weights_only=True`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file would run code when unpickled, is truncated, was not written by
            torch.save, or holds no dict.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no weights file at {path.absolute()}.")
    try:
        with torch.serialization.safe_globals(NUMBERS + MMENGINE_LOG):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each damage has its own type: EOFError, KeyError, OSError, ...
        raise ValueError(_reason(path, error)) from error
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} holds a {type(content).__name__}; a dict of tensors is wanted, as in "
            "torch.save(net.state_dict(), path)."
        )
    return content


def state_dict_of(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a training checkpoint or a bare state dict, by name.

    `module.`, which DataParallel puts before every name, is taken off.

    Raises:
        ValueError: an entry is no tensor.
    """
    for wrapper in ("state_dict", "model"):
        if isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    others = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if others or not content:
        raise ValueError(
            f"This is no state dict: {', '.join(others) or 'it is empty'}. Wanted are tensors by "
            "name, bare or under the key state_dict."
        )
    wrapped = all(name.startswith("module.") for name in content)
    return {name.removeprefix("module.") if wrapped else name: t for name, t in content.items()}


def load_strictly(
    module: nn.Module,
    weights: Mapping[str, Tensor],
    source: str,
    name_in_source: Callable[[str], str] = str,
) -> None:
    """Copy weights into a module; all of them, into every parameter and buffer.

    Args:
        module: where they go.
        weights: tensors by the source's names. Files from before PyTorch 0.4.1 count no batches;
            where no counter is there at all, all stay 0.
        source: begins the error message.
        name_in_source: the source's name for one of the module's names.

    Raises:
        ValueError: tensors are missing, left over or misshaped; the message lists each.
    """
    own = {name_in_source(name): (name, tensor) for name, tensor in module.state_dict().items()}
    if not any(map(_is_counter, weights)):
        weights = {n: torch.zeros_like(t) for n, (_, t) in own.items() if _is_counter(n)} | dict(
            weights
        )
    findings = {
        "missing": [name for name in own if name not in weights],
        "left over": [name for name in weights if name not in own],
        "misshaped": [
            f"{name} {tuple(weights[name].shape)} instead of {tuple(tensor.shape)}"
            for name, (_, tensor) in own.items()
            if name in weights and weights[name].shape != tensor.shape
        ],
    }
    if any(findings.values()):
        listed = [
            f"{kind} ({len(found)}): {', '.join(found)}"
            for kind, found in findings.items()
            if found
        ]
        raise ValueError(f"{source} do not fit. {'; '.join(listed)}")
    module.load_state_dict({name: weights[foreign] for foreign, (name, _) in own.items()})


def _is_counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")


def _reason(path: Path, error: Exception) -> str:
    """Why a file could not be read: it is dangerous, or it is damaged."""
    wanted = re.findall(r"GLOBAL ([\w.]+) (?:was|whose)", str(error)) or _callables(path)
    if wanted:
        return (
            f"{path} is refused: unpickling it would run code ({wanted[0]}), which a weights file "
            "has no need of. If you trust it, save its tensors alone: "
            "torch.save(net.state_dict(), path)."
        )
    return (
        f"{path} cannot be read: it is truncated or was not written by torch.save "
        f"({path.stat().st_size} bytes, {type(error).__name__}). Fetch or save it again."
    )


def _callables(path: Path) -> list[str]:
    """What a pickle would import, tensors' own parts aside; the pickle is parsed, never run."""
    found, strings = [], ["", ""]
    try:
        for code, argument, _ in pickletools.genops(_pickle_of(path)):
            if code.name == "GLOBAL":
                found.append(str(argument).replace(" ", ".", 1))
            elif code.name == "STACK_GLOBAL":
                found.append(".".join(strings[-2:]))
            elif isinstance(argument, str):
                strings.append(argument)
    except (ValueError, zipfile.BadZipFile):
        pass  # damaged from here on; what came before counts
    harmless = ("torch.", "collections.", "numpy.")
    names = [name for name in found if re.fullmatch(r"\w+\.[\w.]+", name)]  # else plain text
    return [name for name in names if not name.startswith(harmless)]


def _pickle_of(path: Path) -> bytes:
    if not zipfile.is_zipfile(path):
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith("data.pkl")]
        return archive.read(names[0]) if names else b""
