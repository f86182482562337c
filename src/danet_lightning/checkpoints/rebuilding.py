"""Build the parts that a checkpoint names: classes of a closed set of kinds, with plain arguments.

A checkpoint comes from anywhere. Hydra would call whatever it names.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib import import_module
from inspect import signature
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from danet_lightning.checkpoints.kinds import OURS, Kind
from danet_lightning.disk.names import printable
from danet_lightning.errors import RequestError, argument_problems, first_line
from danet_lightning.models import dilated_resnet
from danet_lightning.models.segmenter import EvaluationProtocol, Network
from danet_lightning.models.weights import refuse_larger

NETWORK = Kind("model", (nn.Module, Network), f"{OURS}.models")
BACKBONE = Kind("model.backbone", (nn.Module,), f"{OURS}.models", (dilated_resnet,))
PROTOCOL = Kind("protocol", (EvaluationProtocol,), f"{OURS}.evaluate.protocols")


def build_network(
    node: Mapping[str, Any], trusted: Sequence[str], weights: Mapping[str, Tensor]
) -> nn.Module:
    """Build the network that a checkpoint describes, if it is not larger than its weights.

    Args:
        node: `model` of its configuration.
        trusted: Packages whose classes it may name, beside ours.
        weights: The tensors that are to be filled in.

    Raises:
        RequestError: It cannot be built of these; see `build`.
    """
    backbone, parts = node.get("backbone"), {}
    if isinstance(backbone, dict) and "_target_" in backbone:
        parts["backbone"] = _build_module(backbone, BACKBONE, trusted, weights)
    return _build_module(node, NETWORK, trusted, weights, **parts)


def _build_module(
    node: Mapping[str, Any],
    kind: Kind,
    trusted: Sequence[str],
    weights: Mapping[str, Tensor],
    **parts: nn.Module,
) -> nn.Module:
    """Build a module without memory first, to see how much it would take."""
    try:
        with torch.device("meta"):
            draft = build(node, kind, trusted, parts=parts)
    except RequestError:
        if _is_in(node["_target_"], [OURS]):
            raise
        # a user's class may look at the values of its tensors, and there are none
    else:
        refuse_larger(draft, weights)
    module: nn.Module = build(node, kind, trusted, parts=parts)
    return module


def build(
    node: Mapping[str, Any],
    kind: Kind,
    trusted: Sequence[str],
    typed: Collection[str] = (),
    parts: Mapping[str, Any] = MappingProxyType({}),
) -> Any:
    """Build what one node of a checkpoint describes.

    Args:
        node: Its `_target_` and plain arguments; nothing else in it is built.
        kind: What is wanted there.
        trusted: Packages whose classes it may name, beside ours.
        typed: Its arguments that are the command line's.
        parts: Arguments that are built already.

    Raises:
        RequestError: It names anything else than a class of the kind, arguments are not plain or
            not what the class annotates, or the class refuses them.
    """
    name = node["_target_"]
    target = _find(name, kind, trusted)
    arguments = {key: value for key, value in node.items() if key not in ("_target_", *parts)}
    for key, value in arguments.items():
        if nested := _nested_target(value):
            raise _refused(nested, f"{kind.name}.{key}", "where only a plain value can stand")
    if "pretrained" in arguments:
        arguments["pretrained"] = False  # the weights are in the file; nothing is read or fetched
    _require_places(target, kind, arguments)
    for key, text in argument_problems(target, arguments).items():
        if key in typed:
            raise RequestError(f"{kind.name}.{key}: {text}")
        raise _wrong(kind, f"{name}: {key!s:.40}: {text}")
    try:
        return target(**arguments, **parts)
    except Exception as error:
        raise _wrong(kind, f"{name} cannot be built: {first_line(error)}") from error


def _require_places(target: Callable[..., Any], kind: Kind, arguments: Mapping[str, Any]) -> None:
    """Ask for what a data set cannot be built without, such as its root, which is not exported."""
    needed = signature(target).parameters.values() if kind.name == "dataset" else ()
    for it in needed:
        is_named = it.kind in (it.POSITIONAL_OR_KEYWORD, it.KEYWORD_ONLY)
        if is_named and it.default is it.empty and it.name not in arguments:
            raise RequestError(
                f"dataset.{it.name}: the network does not say where its images lie, as it was "
                f"exported. Give dataset.{it.name}=..."
            )


def _find(name: Any, kind: Kind, trusted: Sequence[str]) -> Callable[..., Any]:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z]\w*(\.(?!__)\w+)+", name):
        raise _refused(name, kind.name, "which is no name of a class")
    module, _, attribute = name.rpartition(".")
    is_ours = _is_in(module, [OURS])
    packages = [kind.home] if is_ours else trusted
    if not _is_in(module, packages):
        if is_ours:
            raise _refused(name, kind.name, f"where a class of {kind.home} has to stand")
        raise _refused(
            name,
            kind.name,
            f"which is outside {', '.join((OURS, *trusted))}. If you trust it, add its package: "
            "load(..., trusted=[...]) in Python, trusted=[...] on the command line",
        )
    target: Any
    try:
        target = getattr(import_module(module), attribute, None)
    except Exception as error:
        raise _wrong(
            kind,
            f"{name} cannot be imported: {first_line(error)}. Its package belongs on PYTHONPATH",
        ) from error
    is_builder = any(target is builder for builder in kind.builders)
    if not is_builder and not (
        isinstance(target, type)
        and _is_in(target.__module__, packages)  # what a module has imported is not its own
        and all(issubclass(target, base) for base in kind.bases)
    ):
        wanted = " and ".join(base.__name__ for base in kind.bases)
        raise _refused(
            name, kind.name, f"where a {wanted} has to stand, a class of {' or '.join(packages)}"
        )
    called: Callable[..., Any] = target
    return called


def _is_in(module: str, packages: Sequence[str]) -> bool:
    return any(f"{module}.".startswith(f"{package}.") for package in packages)


def _nested_target(value: Any) -> Any:
    """Return the first `_target_` inside an argument; None without any."""
    children: Sequence[Any] = ()
    if isinstance(value, dict):
        if "_target_" in value:
            return value["_target_"]
        children = list(value.values())
    elif isinstance(value, list | tuple):
        children = value
    return next(filter(None, map(_nested_target, children)), None)


def _refused(name: Any, place: str, reason: str) -> RequestError:
    shown = name if isinstance(name, str) and name.isprintable() else repr(name)
    return RequestError(
        f"ckpt_path: the checkpoint wants to call {shown[:120]} as its {place}, {reason}."
    )


def _wrong(kind: Kind, reason: str) -> RequestError:
    return RequestError(f"{kind.name} of the checkpoint: {printable(reason)}.")
