"""A new training that starts from the weights of another one."""

from pathlib import Path

from torch import Tensor, nn

from danet_lightning.checkpoints import loading as checkpoint
from danet_lightning.errors import RequestError


def initialize(net: nn.Module, path: str | Path) -> str:
    """Take from a checkpoint every tensor that the network has too, in the same shape.

    Args:
        net: filled in place; what finds no counterpart keeps its random values.
        path: of a training, or written by `convert`.

    Returns:
        Sentences on which tensors were taken, and which were not and why.

    Raises:
        RequestError: the file cannot be read, or no tensor fits.
    """
    content = checkpoint.read(path)["state_dict"].items()
    stored = {name.removeprefix("net."): t for name, t in content if isinstance(t, Tensor)}
    own = net.state_dict()
    reasons: dict[str, list[str]] = {"of another shape": [], "not in the file": []}
    taken = {}
    for name, tensor in own.items():
        if name not in stored:
            reasons["not in the file"].append(name)
        elif stored[name].shape != tensor.shape:
            reasons["of another shape"].append(name)
        else:
            taken[name] = stored[name]
    if not any(tensor.is_floating_point() for tensor in taken.values()):
        raise RequestError(
            f"init_from: none of the {len(stored)} tensors of {path} fits the model. Choose the "
            "same backbone as there."
        )
    net.load_state_dict(taken, strict=False)
    told = [f"init_from: {len(taken)} of {len(own)} tensors taken from {path}"]
    told += [f"{why}, left random: {', '.join(names)}" for why, names in reasons.items() if names]
    unused = [name for name in stored if name not in own and not name.startswith("confusion")]
    told += [f"in the file, not used: {', '.join(unused)}"] if unused else []
    return "\n  ".join(told)
