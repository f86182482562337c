"""Start a training from the weights of another one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from danet_lightning.checkpoints import loading
from danet_lightning.errors import RequestError
from danet_lightning.models.weights import refuse_other_numbers


def initialize(net: nn.Module, wider: nn.Module, path: Path, facts: Mapping[str, Any]) -> str:
    """Fill a network with the tensors of a checkpoint.

    The layers that score classes are taken only where the classes are the same, in their order;
    else they stay random. So do branches that the other network did not have.

    Args:
        net: What is filled.
        wider: The same network for one more class: where shapes differ, a tensor scores classes.
        path: Written by a training, or by `convert`.
        facts: Of this training, see `checkpoints.metadata`.

    Returns:
        Sentences on which tensors were taken, and which were not and why.

    Raises:
        RequestError: The file cannot be read, is of another network, or holds NaN.
    """
    try:
        content = loading.read(path)
    except RequestError as error:  # in the words of the key that was typed
        raise RequestError(str(error).replace("ckpt_path:", "init_from:", 1)) from error
    other = content["danet_lightning"]
    tensors = content["state_dict"].items()
    stored = {name.removeprefix("net."): t for name, t in tensors if isinstance(t, Tensor)}
    wanted = net.state_dict()
    shapes = {name: tensor.shape for name, tensor in wider.state_dict().items()}
    of_classes = {name for name in wanted if shapes[name] != wanted[name].shape}
    unusable = of_classes if other["classes"] != facts["classes"] else set()
    misfits = [n for n in wanted if n in stored and stored[n].shape != wanted[n].shape]
    misfits += [n for n in wanted if n.startswith("backbone.") and n not in stored]
    misfits = [name for name in misfits if name not in unusable]
    if misfits:
        raise RequestError(
            f"init_from: {path} is of another network: {len(misfits)} of {len(wanted)} tensors do "
            f"not fit, the first is {misfits[0]}. {_remedy(facts['config'], other['config'])}"
        )
    fits = {name: stored[name] for name in wanted if name in stored and name not in unusable}
    refuse_other_numbers(wanted, fits, f"init_from: {path}")
    net.load_state_dict(fits, strict=False)
    lists = {
        "of other classes, left random": [n for n in wanted if n in unusable],
        "not in the file, left random": [n for n in wanted if n not in stored],
        "in the file, not used": [
            n for n in stored if n not in wanted and not n.startswith("confusion")
        ],
    }
    lines = [f"init_from: {len(fits)} of {len(wanted)} tensors taken from {path}"]
    return "\n  ".join([*lines, *(f"{k}: {', '.join(v)}" for k, v in lists.items() if v)])


def _remedy(config: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Return the overrides that give this training the network of another one."""
    nodes = {"backbone": "model", "model": ""}
    overrides = []
    for node, above in nodes.items():
        here, there = ((each[above] if above else each)[node] for each in (config, other))
        overrides += [
            f"{'' if key in here else '+'}{node}.{key}={there.get(key)}"
            for key in {**there, **here}
            if key not in ("backbone", "num_classes", "pretrained")
            and here.get(key) != there.get(key)
        ]
    if not overrides:
        return "Train from its weights the network that it is of."
    return f"The checkpoint's is {' '.join(overrides)}"
