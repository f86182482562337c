"""Keys that no file sets, and the ones that were probably meant: where Hydra says too little."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher, get_close_matches
from typing import Any, get_type_hints

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from danet_lightning.config.commands import CommandConfig, Recipe
from danet_lightning.config.overrides import changes_value, compose, parse
from danet_lightning.config.ranges import STATED
from danet_lightning.config.rules import open_keys
from danet_lightning.config.validation import find_target
from danet_lightning.errors import argument_types, problem, unknown_key

OTHER_NAMES = {  # of other tools, too far from ours to be found by their letters
    **{"gpus": "trainer.devices", "iterations": "trainer.max_steps", "iters": "trainer.max_steps"},
    **{"wandb": "logger", "checkpoint": "ckpt_path", "weights": "init_from", "resume": "ckpt_path"},
    **{"output": "run_dir"},
    **{"learning_rate": "optimizer.lr", "num_workers": "data.workers", "data_dir": "dataset.root"},
}
OURS, NETWORKS = "danet_lightning.", "danet_lightning.models."


def unknown_keys(name: str, form: type[CommandConfig], overrides: Sequence[str]) -> dict[str, str]:
    """Name the overrides of keys that no file sets, with the key that was probably meant.

    The answer comes at once where the files have a key that is near, or all that a class takes:
    those of ours do, but for networks. Another class is imported, as it may take the key.

    Args:
        name: Of the config.
        form: Its typed top level.
        overrides: Of one job; those that choose options of groups decide which keys there are.
    """
    values = [each for each in parse(overrides) if changes_value(each)]
    lines = {each.input_line for each in values}
    plain = _settable(name, form, [each for each in overrides if each not in lines])
    groups = _chosen(form)
    problems = {str(each.key_or_group): _unknown(each, plain, groups) for each in values}
    return {key: text for key, text in problems.items() if text}


def refuse_word(word: str, name: str, form: type[CommandConfig]) -> str:
    """Tell what to say of a word on the command line that is no override."""
    meant = _choice(word, name, form) or meant_key(word, name, form)
    end = f"; did you mean {meant}?" if meant else ""
    return f"{word!r}: an override is key=value, and this has no '='{end}"


def meant_key(word: str, name: str, form: type[CommandConfig]) -> str:
    """Name the key of a config that a word probably means, with an equals sign; or nothing."""
    key = _dotted_key(word, _settable(name, form, []))
    return f"{key}=..." if key else ""


def _settable(name: str, form: type[CommandConfig], overrides: Sequence[str]) -> dict[str, Any]:
    """Compose a plain config, with the keys that its nodes may take over from a checkpoint."""
    plain: Any = OmegaConf.to_container(compose(name, overrides), resolve=False)
    return {
        **plain,
        **{key: {**_of_options(key), **(plain.get(key) or {})} for key in open_keys(form)},
    }


def _of_options(group: str) -> dict[str, Any]:
    """Return all keys that the options of a group set in its node."""
    loader = GlobalHydra.instance().config_loader()
    paths = [f"{group}/{option}" for option in loader.get_group_options(group)]
    keys: dict[str, Any] = {}
    for source in loader.get_sources():
        for path in paths:
            if source.available() and source.is_config(path):
                config: Any = OmegaConf.to_container(source.load_config(path).config)
                keys |= config[group] if isinstance(config.get(group), dict) else config
    return keys


def _unknown(override: Override, config: Mapping[str, Any], groups: Mapping[str, Any]) -> str:
    """Tell what to say of an override whose key is not in a config; nothing if it is.

    Args:
        override: Of a value.
        config: Plain.
        groups: What is chosen of each group.
    """
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
    ranges = STATED[above[:-1]].__annotations__ if above[:-1] in STATED else {}
    if part in ranges and (text := problem(ranges[part], override.value())):
        return text
    if not above and groups.get(part, part) is None:
        options = GlobalHydra.instance().config_loader().get_group_options(part)
        return f"nothing is chosen there; begin with {part}={' or '.join(options)}"
    typed = str(override.key_or_group)[len(above) :]
    inner = _dotted_key(typed, node)
    meant = f"{above}{inner}" if inner and part not in OTHER_NAMES else _dotted_key(typed, config)
    if not (part in OTHER_NAMES and meant):
        if get_close_matches(part, known, cutoff=0.8) and part == typed:
            return unknown_key(part, known)
        if _takes(node, part):
            return f"no file sets it; write +{override.input_line}"
    return f"unknown key; did you mean {meant}?" if meant else unknown_key(part, known)


def _takes(node: Mapping[str, Any], name: str) -> bool:
    """Tell whether the class of a node, imported for it, takes an argument that no file sets."""
    target = str(node.get("_target_", OURS))
    if target.startswith(OURS) and not target.startswith(NETWORKS):
        return False
    try:
        types, is_open = argument_types(find_target(target))
    except LookupError:
        return False
    return is_open or name in types


def _dotted_key(typed: str, plain: Mapping[str, Any]) -> str:
    """Return the key that is meant by another one, or by its last words; empty if none is near."""
    first, word = typed.partition(".")[0], typed.rpartition(".")[2]
    keys = list(_dotted(plain))
    ending = [key for key in keys if word != typed and key.endswith(f".{typed}")]
    if not ending and OTHER_NAMES.get(first, "").partition(".")[0] in plain:
        return OTHER_NAMES[first]
    last = {key: key.rpartition(".")[2] for key in keys}
    nearest = get_close_matches(word, last.values(), n=1, cutoff=0.75)
    matching = (
        ending
        or [key for key in keys if last[key] == word]
        or [key for key in keys if "".join(part[:1] for part in last[key].split("_")) == word]
        or [key for key in keys if len(word) > 3 and f"_{word}" in f"_{last[key]}"]
        or [key for key in keys if last[key] in nearest]
    )
    if word == typed:  # the uppermost
        return next(iter(matching), "")
    return max(matching, key=lambda key: SequenceMatcher(None, typed, key).ratio(), default="")


def _dotted(plain: Mapping[str, Any]) -> Iterator[str]:
    """Walk all dotted keys of a config, those with fewer dots first."""
    nodes = [("", plain)]
    for above, node in nodes:  # which grows
        for name, child in node.items():
            if not name.startswith("_"):
                yield f"{above}{name}"
                if isinstance(child, dict):
                    nodes.append((f"{above}{name}.", child))


def _chosen(form: type[CommandConfig]) -> dict[str, Any]:
    """Return the option of each group that the composed command uses, None where none is chosen."""
    hints = get_type_hints(form, include_extras=True)
    choices = HydraConfig.get().runtime.choices.items()
    return {str(key): each for key, each in choices if "/" not in key and hints.get(key) != Recipe}


def _choice(word: str, name: str, form: type[CommandConfig]) -> str:
    """Return the choice of a group's option that a word probably means, `group=option`."""
    compose(name, [])
    loader = GlobalHydra.instance().config_loader()
    groups = _chosen(form)
    choices = {option: group for group in groups for option in loader.get_group_options(group)}
    holding = sorted((each for each in choices if word in each and len(word) > 2), key=len)
    nearest = holding or get_close_matches(word, choices, n=1)
    return f"{choices[nearest[0]]}={nearest[0]}" if nearest else ""
