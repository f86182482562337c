"""Check the nodes of a config against the signatures of what they build, which is imported."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from omegaconf import DictConfig, OmegaConf

from danet_lightning.errors import argument_problems, argument_types, nearest, problem

HYDRA_KEYS = {"_target_", "_partial_", "_convert_", "_recursive_", "_args_"}


def node_problems(value: Any, key: str = "") -> dict[str, str]:
    """Collect what is wrong with each node that has a `_target_`, at any depth of a plain value.

    Returns:
        A sentence for each dotted key.
    """
    problems: dict[str, str] = {}
    if isinstance(value, Mapping):
        if "_target_" in value:
            problems.update(_against_signature(value, key))
        for name, child in value.items():
            problems |= node_problems(child, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            problems |= node_problems(child, f"{key}[{index}]")
    return problems


def restore_texts(config: DictConfig, overrides: Sequence[str]) -> None:
    """Put back what was typed for an argument of type text, where Hydra reads a number or a list.

    Args:
        config: Composed of the overrides; changed in place.
        overrides: As they were typed.
    """
    for override in overrides:
        key, equals, text = override.lstrip("+").partition("=")
        above, _, name = key.rpartition(".")
        node = OmegaConf.select(config, above, throw_on_missing=False) if above else None
        if not equals or not isinstance(node, DictConfig) or text == "null" or name not in node:
            continue
        plain: Any = OmegaConf.to_container(node, resolve=False)
        value = plain[name]
        if isinstance(value, str) or "_target_" not in node:
            continue
        try:
            annotation = argument_types(find_target(str(node["_target_"])))[0].get(name, Any)
        except LookupError:  # is told when the node is checked
            continue
        if problem(annotation, value) and not problem(annotation, text):
            OmegaConf.update(config, key, text, merge=False, force_add=True)


def _against_signature(node: Mapping[str, Any], key: str) -> Iterator[tuple[str, str]]:
    try:
        target = find_target(str(node["_target_"]))
    except LookupError as error:
        yield f"{key}._target_", f"{node['_target_']!r}: {error}"
        return
    # what is built from nodes is checked by their signatures, and what is missing by its mark
    values = {
        name: value
        for name, value in node.items()
        if name not in HYDRA_KEYS
        and value != "???"
        and '"_target_"' not in json.dumps(value, default=str)
    }
    for name, text in argument_problems(target, values).items():
        yield f"{key}.{name}", text


def find_target(name: str) -> Callable[..., Any]:
    """Import the class or function that a `_target_` names; nothing is called.

    Raises:
        LookupError: There is none, or importing it fails; the message names the nearest one.
    """
    parts = name.split(".")
    target: Any = _import(parts[0])
    for index, part in enumerate(parts[1:], start=1):
        place = ".".join(parts[:index])
        missing = object()
        inner = getattr(target, part, missing)
        if inner is missing and isinstance(target, ModuleType):
            inner = _import(f"{place}.{part}", among=dir(target))
        elif inner is missing:
            raise LookupError(f"{place} has no {part!r}{nearest(part, dir(target))}")
        target = inner
    if isinstance(target, ModuleType):
        raise LookupError(f"{name} is a module; name a class or a function in it")
    if not callable(target):
        raise LookupError(f"{name} is a {type(target).__name__}, and cannot be called")
    return target  # type: ignore[no-any-return]


def _import(name: str, among: list[str] | None = None) -> ModuleType:
    """Import a module.

    Args:
        name: Its dotted name.
        among: The other names in its package.
    """
    place, _, part = name.rpartition(".")
    try:
        exists = bool(part) and part.isidentifier() and find_spec(name) is not None
    except (ImportError, ValueError):  # no package, or __main__
        exists = False
    if not exists:
        if among is None:
            raise LookupError(f"no module {name!r} is installed")
        raise LookupError(f"{place} has no {part!r}{nearest(part, among)}")
    try:
        return import_module(name)
    except Exception as error:
        raise LookupError(f"importing {name} fails: {type(error).__name__}: {error}") from error
