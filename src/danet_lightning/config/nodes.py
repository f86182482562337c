"""A config's nodes against the signatures of their targets."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from danet_lightning.config.signature import Adapter, arguments
from danet_lightning.config.source import nearest

HYDRA_KEYS = {"_target_", "_partial_", "_convert_", "_recursive_", "_args_"}
SHOWN = 80  # characters of a wrong value


def node_problems(value: Any, key: str = "") -> dict[str, str]:
    """What is wrong with each node that has a `_target_`, at any depth of a plain value."""
    found: dict[str, str] = {}
    if isinstance(value, Mapping):
        if "_target_" in value:
            found.update(_against_signature(value, key))
        for name, child in value.items():
            found |= node_problems(child, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            found |= node_problems(child, f"{key}[{index}]")
    return found


def unknown_key(name: str, known: Mapping[str, Any]) -> str:
    """What to say of a key that is not among the known ones."""
    return f"unknown key{nearest(name, list(known))} Known: {', '.join(known) or 'none'}"


def wrong(adapter: Adapter | None, value: Any) -> str:
    """Why a YAML value does not fit; empty when it does."""
    if adapter is None or value == "???":  # what is missing is told apart
        return ""
    try:  # strict JSON: a list may stand for a tuple and an int for a float, but not true for 1
        adapter.validate_json(json.dumps(value, default=str), strict=True)
    except ValidationError as error:
        details = error.errors(include_url=False)
        told = [each for each in details if each["type"] != "foreign"] or details
        shown = json.dumps(value, default=str, ensure_ascii=False)
        shown = shown if len(shown) < SHOWN else f"{shown[:SHOWN]} ..."
        return f"{shown}: {' or '.join(dict.fromkeys(map(_rule, told)))}"
    return ""


def _against_signature(node: Mapping[str, Any], key: str) -> Iterator[tuple[str, str]]:
    try:
        taken = arguments(str(node["_target_"]))
    except LookupError as error:
        yield f"{key}._target_", f"{node['_target_']!r}: {error}"
        return
    for name, value in node.items():
        if name in HYDRA_KEYS:
            continue
        if name not in taken.named:
            text = "" if taken.is_open else unknown_key(str(name), taken.named)
        elif '"_target_"' in json.dumps(value, default=str):
            text = ""  # built from nodes that have signatures of their own
        else:
            text = wrong(taken.named[name].adapter, value)
        if text:
            yield f"{key}.{name}", text


def _rule(detail: Any) -> str:
    """One of pydantic's findings as half a sentence."""
    entry = "".join(f"entry {place} " for place in detail["loc"] if isinstance(place, int))
    if detail["type"] == "missing":
        return f"{entry}is missing"
    if detail["type"] == "string_type" and entry:  # of a list of names
        return f'{entry}must be text, which names like no, null and 1 are in quotes: ["no","1"]'
    message = str(detail["msg"]).removeprefix("Value error, ").replace(" after validation", "")
    message = message.replace("a valid array", "a list").replace("an object", "a mapping of keys")
    return entry + re.sub(r"^\w+ should", "must", message)
