"""Read a checkpoint of ours: weights and plain facts, without Hydra, without Lightning."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from danet_lightning.errors import RequestError
from danet_lightning.models.weights import read_file


def read(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint file with `weights_only=True`.

    Returns:
        Lightning's checkpoint; `["danet_lightning"]` holds config, classes, palette, mean, std.

    Raises:
        RequestError: the file is missing, truncated, no torch file, or not one of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise RequestError(
            f"ckpt_path: no file at {path.absolute()}. Training leaves best.ckpt and last.ckpt "
            "in its run folder."
        )
    try:
        checkpoint = read_file(path)
    except ValueError as error:
        raise RequestError(f"ckpt_path: {error}") from error
    if not isinstance(checkpoint.get("danet_lightning"), dict):
        raise RequestError(
            f"ckpt_path: {path} was not written by danet_lightning; it holds "
            f"{', '.join(sorted(map(str, checkpoint))[:5]) or 'nothing'}. For weights of the "
            "authors or of MMSegmentation use danet_lightning.models.import_weights."
        )
    return checkpoint


def load(path: str | Path, trusted: Sequence[str] = ()) -> nn.Module:
    """Rebuild the network of a checkpoint, ready to predict.

    Args:
        path: `best.ckpt` or `last.ckpt` of a run folder.
        trusted: further packages whose classes the checkpoint may name (yours, if the run used
            a network of yours); classes outside them and danet_lightning are not touched.

    Returns:
        The network on the CPU in eval mode; its attributes `classes`, `palette` (RGB), `mean`,
        `std` (0..255 scale) and `protocol` are those of the run.

    Raises:
        RequestError: the file cannot be used; the message says why.
    """
    return restore(read(path), trusted)


def restore(checkpoint: Mapping[str, Any], trusted: Sequence[str] = ()) -> nn.Module:
    """The network of what `read` returned; as `load`."""
    facts = checkpoint["danet_lightning"]
    packages = ("danet_lightning", *trusted)
    net: nn.Module = build(facts["config"]["model"], packages)
    weights = {
        name.removeprefix("net."): value
        for name, value in checkpoint["state_dict"].items()
        if name.startswith("net.")
    }
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        raise RequestError(f"ckpt_path: the weights do not fit their own model: {error}") from error
    for name in ("classes", "palette", "mean", "std"):
        setattr(net, name, tuple(facts[name]))
    net.protocol = build(facts["config"]["protocol"], packages)
    return net.eval()


def build(node: Any, packages: Sequence[str]) -> Any:
    """Call the `_target_`s of a plain nested dict, of the given packages only.

    A checkpoint comes from anywhere, so it must not name arbitrary callables.
    """
    if not isinstance(node, dict):
        return node
    arguments = {key: build(value, packages) for key, value in node.items() if key != "_target_"}
    if "_target_" not in node:
        return arguments
    module, _, name = str(node["_target_"]).rpartition(".")
    target = None
    if module.split(".")[0] in packages:
        target = getattr(import_module(module), name, None)
    # what a module of ours has imported from elsewhere is not ours either
    if str(getattr(target, "__module__", "")).split(".")[0] not in packages:
        raise RequestError(
            f"ckpt_path: the checkpoint wants to call {node['_target_']}, which is outside "
            f"{', '.join(packages)}. If you trust it, add its package: load(..., trusted=[...]) "
            "in Python, trusted=[...] on the command line."
        )
    return target(**arguments)  # type: ignore[misc]  # has a __module__, so it is not None
