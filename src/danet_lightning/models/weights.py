"""Weights files: read without running their code, loaded without leaving anything out."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from danet_lightning.errors import RequestError
from danet_lightning.models.file_inspection import inspect_file
from danet_lightning.models.pickle_inspection import IGNORED, Ignored, RefusedFileError


def read_file(path: str | Path) -> dict[str, Any]:
    """Read what `torch.save` wrote, onto the CPU, with `weights_only=True`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file would run code when unpickled or take far more memory than it has
            bytes, is truncated, was not written by torch.save, or holds no dict.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no weights file at {path.absolute()}.")
    try:
        with path.open("rb") as file:
            inspect_file(file)
            file.seek(0)
            with torch.serialization.safe_globals([(Ignored, name) for name in IGNORED]):
                content = torch.load(file, map_location="cpu", weights_only=True)
    except RefusedFileError as error:
        raise ValueError(f"{path} is refused: {error}.") from error
    except Exception as error:  # each damage has its own type: EOFError, KeyError, OSError, ...
        raise ValueError(
            f"{path} cannot be read: it is truncated or was not written by torch.save "
            f"({path.stat().st_size} bytes, {type(error).__name__}). Fetch or save it again."
        ) from error
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} holds a {type(content).__name__}; a dict of tensors is wanted, as in "
            "torch.save(net.state_dict(), path)."
        )
    return content


def state_dict_of(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a training checkpoint or a bare state dict, by name.

    `module.`, which DataParallel puts before every name, is taken off.

    Raises:
        ValueError: An entry is no tensor.
    """
    for wrapper in ("state_dict", "model"):
        if isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    others = [
        str(name)[:80]
        for name, value in content.items()
        if not isinstance(value, Tensor) or not isinstance(name, str)
    ]
    if others or not content:
        raise ValueError(
            f"This is no state dict: {', '.join(others[:9]) or 'it is empty'}. Wanted are tensors "
            "by name, bare or under the key state_dict."
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
        module: Where they go.
        weights: Tensors by the source's names. Files from before PyTorch 0.4.1 count no batches;
            where no counter is there at all, all stay 0.
        source: Begins the error message.
        name_in_source: The source's name for one of the module's names.

    Raises:
        ValueError: Tensors are missing, left over or misshaped; the message lists each. Or one is
            refused by `refuse_other_numbers`.
    """
    expected = {
        name_in_source(name): (name, tensor) for name, tensor in module.state_dict().items()
    }
    if not any(map(_is_counter, weights)):
        weights = {
            n: torch.zeros_like(t) for n, (_, t) in expected.items() if _is_counter(n)
        } | dict(weights)
    findings = {
        "missing": [name for name in expected if name not in weights],
        "left over": [name for name in weights if name not in expected],
        "misshaped": [
            f"{name} {tuple(weights[name].shape)} instead of {tuple(tensor.shape)}"
            for name, (_, tensor) in expected.items()
            if name in weights and weights[name].shape != tensor.shape
        ],
    }
    if any(findings.values()):
        listed = [
            f"{kind} ({len(names)}): {', '.join(names)}"
            for kind, names in findings.items()
            if names
        ]
        raise ValueError(f"{source} do not fit. {'; '.join(listed)}")
    refuse_other_numbers({name: tensor for name, (_, tensor) in expected.items()}, weights, source)
    module.load_state_dict({name: weights[foreign] for foreign, (name, _) in expected.items()})


def refuse_other_numbers(
    expected: Mapping[str, Any], weights: Mapping[str, Any], source: str
) -> None:
    """Refuse weights that torch would convert with a loss, or that no training leaves.

    Args:
        expected: The network's tensors, by the names in `weights`.
        weights: What would be loaded.
        source: Begins the error message.

    Raises:
        RequestError: A tensor is of another kind of numbers, not finite, or a variance below 0.
    """
    for name, tensor in weights.items():
        wanted = expected.get(name)
        if not isinstance(tensor, Tensor) or not isinstance(wanted, Tensor):
            continue  # an extra state, or a name that the network has not
        where = f"{source}: {name[:80]} holds"
        if _kind(tensor) != _kind(wanted):
            raise RequestError(f"{where} {tensor.dtype}, and the model has {wanted.dtype} there.")
        if tensor.is_meta:
            continue  # it has a size and no numbers
        if tensor.is_floating_point() and not tensor.to(wanted.dtype).isfinite().all():
            raise RequestError(
                f"{where} NaN, infinity or what becomes it, of which a network computes nothing "
                "else: the training had diverged, or the file is damaged. Take an earlier one, or "
                "fetch it again."
            )
        if name.endswith("running_var") and (tensor < 0).any():  # its root would be no number
            raise RequestError(
                f"{where} a variance below 0, which no training leaves: the file is damaged. Fetch "
                "or export it again."
            )


def _kind(tensor: Tensor) -> tuple[bool, bool, bool]:
    return tensor.is_floating_point(), tensor.is_complex(), tensor.dtype == torch.bool


def _is_counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")


def refuse_larger(draft: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Refuse a network that takes many times the memory of its weights, before it is built.

    Args:
        draft: The network on the device `meta`, where tensors have sizes and no memory.
        weights: What it is to be filled with.

    Raises:
        RequestError: It does not fit to them by far.
    """
    needed = _bytes((*draft.parameters(), *draft.buffers()))
    stored = _bytes(weights.values())
    if needed > 4 * stored + 2**26:  # half precision doubles, and a head may start at random
        raise RequestError(
            f"The network would take {needed} bytes, and the weights for it have {stored}: they "
            "do not belong together. Fetch the file again from where it comes from."
        )


def _bytes(tensors: Iterable[Any]) -> int:
    sized = (t for t in tensors if isinstance(t, Tensor) and not is_lazy(t))
    return sum(t.numel() * t.element_size() for t in sized)
