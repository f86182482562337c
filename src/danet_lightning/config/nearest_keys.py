"""Keys that no file sets, and the ones that were probably meant: where Hydra says too little."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from danet_lightning.config.overrides import changes_value, compose, parse
from danet_lightning.config.ranges import STATED
from danet_lightning.config.validation import find_target
from danet_lightning.errors import argument_types, problem, unknown_key

OTHER_NAMES = {  # of other tools, too far from ours to be found by their letters
    **{"gpus": "trainer.devices", "iterations": "trainer.max_steps", "iters": "trainer.max_steps"},
    **{"wandb": "logger", "checkpoint": "ckpt_path", "weights": "init_from", "resume": "ckpt_path"},
    **{"output": "run_dir"},
    **{"learning_rate": "optimizer.lr", "num_workers": "data.workers", "data_dir": "dataset.root"},
}


def unknown_keys(name: str, overrides: Sequence[str]) -> dict[str, str]:
    """Name the overrides of keys that no file sets, with the key that was probably meant.

    Nothing that the config describes is imported for it, so the answer comes at once.

    Args:
        name: Of the config.
        overrides: Of one job; those that choose options of groups decide which keys there are.
    """
    values = [each for each in parse(overrides) if changes_value(each)]
    lines = {each.input_line for each in values}
    config = compose(name, [each for each in overrides if each not in lines])
    plain: Any = OmegaConf.to_container(config, resolve=False)
    problems = {str(each.key_or_group): _unknown(each, plain) for each in values}
    return {key: text for key, text in problems.items() if text}


def _unknown(override: Override, config: Mapping[str, Any]) -> str:
    """Tell what to say of an override whose key is not in a config; nothing if it is."""
    node: Any = config
    above = ""
    for part in str(override.key_or_group).split("."):
        if not isinstance(node, dict):
            return ""
        if part not in node:
            break
        node, above = node[part], f"{above}{part}."
    else:
        return ""
    known = [name for name in node if not name.startswith("_")]
    is_taken, meant = _takes(node, part), _dotted_key(part, config)
    ranges = STATED[above[:-1]].__annotations__ if above[:-1] in STATED else {}
    if part in ranges and (text := problem(ranges[part], override.value())):
        return text
    if not (part in OTHER_NAMES and meant):
        if get_close_matches(part, known, cutoff=0.8) or not (is_taken or meant):
            return unknown_key(part, known)
        if is_taken:
            return f"no file sets it; write +{override.input_line}"
    return f"unknown key; did you mean {meant}?"


def _takes(node: Mapping[str, Any], name: str) -> bool:
    """Tell whether the class of a node, imported for it, takes an argument that no file sets."""
    if "_target_" not in node or get_close_matches(name, node, cutoff=0.8):
        return False
    try:
        types, is_open = argument_types(find_target(str(node["_target_"])))
    except LookupError:
        return False
    return is_open or name in types


def meant_key(word: str, name: str) -> str:
    """Name the key of a config that a word probably means, with an equals sign; or nothing."""
    plain: Any = OmegaConf.to_container(compose(name, []), resolve=False)
    key = _dotted_key(word, plain)
    return f"{key}=..." if key else ""


def _dotted_key(word: str, plain: Mapping[str, Any]) -> str:
    """Return the key whose last word is the nearest to a word; empty when none is near."""
    if word in OTHER_NAMES and OTHER_NAMES[word].partition(".")[0] in plain:
        return OTHER_NAMES[word]
    keys: dict[str, str] = {}

    def walk(node: Mapping[str, Any], above: str) -> None:
        for name, child in node.items():
            keys.setdefault(str(name), f"{above}{name}")
            if isinstance(child, dict):
                walk(child, f"{above}{name}.")

    walk(plain, "")
    match = get_close_matches(word, keys, n=1)
    return keys[match[0]] if match else ""
