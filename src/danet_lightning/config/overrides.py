"""Hydra's overrides: composed, swept, and judged where Hydra's own errors say too little."""

import itertools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict

from danet_lightning.config.ranges import STATED
from danet_lightning.config.validation import find_target
from danet_lightning.disk.names import is_utf_8
from danet_lightning.errors import RequestError, argument_types, problem, unknown_key
from danet_lightning.processes.internals import command_line_parser

BARE = re.compile(r"[\w/\\+.$%*@?|: -]*", re.ASCII)  # what Hydra's grammar reads without quotes
OTHER_NAMES = {  # of other tools, too far from ours to be found by their letters
    **{"gpus": "trainer.devices", "iterations": "trainer.max_steps", "iters": "trainer.max_steps"},
    **{"wandb": "logger", "checkpoint": "ckpt_path", "weights": "init_from", "resume": "ckpt_path"},
    **{"learning_rate": "optimizer.lr", "num_workers": "data.workers", "data_dir": "dataset.root"},
}
NAME = re.compile(r"[\w.,=+() -]{1,150}", re.ASCII)  # what a sweep may call its folders by
STRING = r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\""""


def literal(
    argument: str,
    is_sweep: bool = False,
    quote: Quote = Quote.single,
    texts: Collection[str] = (),
) -> str:
    """Quote what is meant as text: Hydra's grammar has no bare ä, {split}, parentheses or 007.

    Args:
        argument: One of the command line. It is quoted where Hydra cannot read it, a list in its
            entries.
        is_sweep: Whether commas divide a value.
        quote: The kind of quotation marks.
        texts: Keys whose values are texts, and quoted whole, but in a sweep.
    """
    key, equals, value = argument.partition("=")
    if not equals or argument.startswith("-"):
        return argument
    is_text = key.lstrip("+") in texts and value not in ("", "null") and not is_sweep
    if (value[:1] in "'\"" or not is_text) and _is_read(argument):
        return argument
    is_list = value[:1] in ("[", "{") and not is_text
    tries = [_quote_parts(value, ends, quote) for ends in ("[](){},:", "[],")]
    tries = tries if is_list or is_sweep else []
    tries += [] if is_list else [quoted(value, quote)]
    return next((each for each in (f"{key}={each}" for each in tries) if _is_read(each)), argument)


def quoted(value: str, quote: Quote = Quote.single) -> str:
    """Return a text that Hydra reads as it is."""
    return QuotedString(value, quote).with_quotes()


def _quote_parts(value: str, ends: str, quote: Quote) -> str:
    """Quote what lies between such characters where it needs quotation marks and has none."""

    def part(match: re.Match[str]) -> str:
        text = match[0].rstrip()
        if match["kept"] or BARE.fullmatch(text):
            return match[0]
        return quoted(text, quote) + match[0][len(text) :]

    ends = re.escape(ends)
    return re.sub(rf"(?P<kept>{STRING}|[{ends}\s]+)|[^{ends}]+", part, value)


def _is_read(argument: str) -> bool:
    try:
        OverridesParser.create().parse_override(argument)
    except HydraException:
        return False
    return True


def added(argument: str, nodes: Collection[str]) -> str:
    """Let an override add its key, if that is in a node that takes any.

    Args:
        argument: One of the command line.
        nodes: The names of such nodes.
    """
    node, dot, _ = argument.partition("=")[0].partition(".")
    return f"++{argument}" if dot and node in nodes else argument


def inserted(arguments: Sequence[str], *overrides: str) -> list[str]:
    """Add overrides to a command line, beside its own: argparse wants them together."""
    typed = command_line_parser().parse_args(arguments).overrides
    place = len(arguments) - arguments[::-1].index(typed[-1]) if typed else len(arguments)
    return [*arguments[:place], *overrides, *arguments[place:]]


def compose(name: str, overrides: Sequence[str]) -> DictConfig:
    """Compose a config without Hydra's own part; Hydra is initialized, as for all that follows."""
    config = hydra.compose(name, list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(config)  # for ${hydra:...} in the config
    with open_dict(config):
        del config["hydra"]
    return config


def fixed(overrides: Sequence[str]) -> set[str]:
    """Return the overrides of a sweep that are not swept, as a sweeper hands them to its jobs."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    kept = [each for each in parsed if not each.is_sweep_override()]
    return {f"{each.get_key_element()}={each.get_value_element_as_str()}" for each in kept}


def compose_common(name: str, overrides: Sequence[str]) -> DictConfig:
    """Return the config that the jobs of a sweep have in common, Hydra initialized with it."""
    base = _base(name, _parsed(overrides))
    HydraConfig.instance().set_config(base)
    return base


def sweep_settings(overrides: Sequence[str], base: DictConfig) -> list[str]:
    """Return the overrides of Hydra's part that a sweep has by default.

    A sweeper that searches makes the most of what a run returns, its mIoU. The folder of a point is
    called by the values that are swept: a point of another sweep in the same folder is then the
    same one, or has another folder. Where they make no name of a folder, folders are numbered.

    Args:
        overrides: Of the sweep.
        base: The config that its jobs have in common, Hydra's part included.
    """
    params = (base.hydra.sweeper.get("params") or {}).items()
    parsed = _parsed([*(f"{key}={value}" for key, value in params), *overrides])
    swept = [each for each in parsed if each.is_sweep_override()]
    fixed_keys = [quoted(each.key_or_group) for each in parsed if not each.is_sweep_override()]
    text = ",".join(str(each.input_line) for each in swept)
    chosen = {str(each.key_or_group) for each in parsed}
    settings = []
    if "direction" in base.hydra.sweeper and "hydra.sweeper.direction" not in chosen:
        settings.append("hydra.sweeper.direction=maximize")
    if "hydra.sweep.subdir" in chosen or not NAME.fullmatch(text):
        return settings
    number = "" if all(each.is_discrete_sweep() for each in swept) else "${hydra.job.num}_"
    return [
        *settings,
        f"hydra.sweep.subdir={number}${{hydra.job.override_dirname}}",
        f"hydra.job.config.override_dirname.exclude_keys=[{','.join(fixed_keys)}]",
    ]


def points(name: str, overrides: Sequence[str]) -> Iterator[tuple[list[str], str]]:
    """Return the overrides of each job of a sweep, and the swept ones among them as text."""
    parsed = _parsed(overrides)
    base = _base(name, parsed)
    params = base.hydra.sweeper.get("params") or {}
    choices: dict[str, list[str]] = {}
    for each in [*_parsed([f"{key}={value}" for key, value in params.items()]), *parsed]:
        key = each.get_key_element()
        if not each.is_sweep_override():
            choices[key] = [str(each.input_line)]
        elif each.is_discrete_sweep():  # an interval is sampled, and checked, when its job starts
            choices[key] = [f"{key}={value}" for value in each.sweep_string_iterator()]
    swept = [key for key, options in choices.items() if len(options) > 1]
    for values in itertools.product(*choices.values()):
        point = dict(zip(choices, values, strict=True))
        yield list(values), " ".join(point[key] for key in swept)


def check_choices(overrides: Sequence[str]) -> None:
    """Refuse what is not the name of an option, where Hydra would fail with an error of its own."""
    loader = GlobalHydra.instance().config_loader()
    for parsed in _parsed(overrides):
        if not is_utf_8(str(parsed.input_line)):
            raise RequestError(
                f"{parsed.key_or_group}={parsed.value()}: the bytes of this name are no UTF-8, and "
                "no record of it could be read back. Give a link to the folder (ln -s) or, of "
                "images, their folder or a pattern; what lies below may have such names."
            )
        if not parsed.key_or_group:
            raise RequestError(f"{parsed.input_line!r}: an override is key=value; this has no key")
        is_key = "." in parsed.key_or_group  # a group's path has slashes
        if is_key or parsed.type is not OverrideType.CHANGE or parsed.is_sweep_override():
            continue
        value: Any = parsed.value()
        names = value if isinstance(value, list) else [value]
        if all(isinstance(name, str) for name in names):
            continue
        options = loader.get_group_options(str(parsed.key_or_group))  # slow: asked for last
        if options:
            raise RequestError(f"{parsed.input_line}: choose from {', '.join(options)}")


def unknown_keys(name: str, overrides: Sequence[str]) -> dict[str, str]:
    """Name the overrides of keys that no file sets, with the key that was probably meant.

    Nothing that the config describes is imported for it, so the answer comes at once.

    Args:
        name: Of the config.
        overrides: Of one job; those that choose options of groups decide which keys there are.
    """
    parsed = [each for each in _parsed(overrides) if _is_value(each)]
    lines = {each.input_line for each in parsed}
    config = compose(name, [each for each in overrides if each not in lines])
    plain: Any = OmegaConf.to_container(config, resolve=False)
    problems = {}
    for each in parsed:
        key = str(each.key_or_group)
        node, above = plain, ""
        for part in key.split("."):
            if not isinstance(node, dict) or part in node:
                node = node[part] if isinstance(node, dict) else None
                above = f"{above}{part}."
                continue
            known = [name for name in node if not name.startswith("_")]
            addition = f" write +{each.input_line}" if _takes(node, part) else ""
            meant = _dotted_key(part, plain)
            stated = STATED[above[:-1]].__annotations__ if above[:-1] in STATED else {}
            if part in stated and (text := problem(stated[part], each.value())):
                problems[key] = text
            elif part in OTHER_NAMES and meant:
                problems[key] = f"unknown key; did you mean {meant}?"
            elif get_close_matches(part, known, cutoff=0.8) or not (addition or meant):
                problems[key] = unknown_key(part, known)
            elif addition:
                problems[key] = f"no file sets it;{addition}"
            else:
                problems[key] = f"unknown key; did you mean {meant}?"
            break
    return problems


def _takes(node: Mapping[str, Any], name: str) -> bool:
    """Tell whether what a node builds, which is imported, takes an argument that no file sets."""
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


def _is_value(override: Override) -> bool:
    """Tell whether it changes a value, and not the choice of a group's option."""
    loader = GlobalHydra.instance().config_loader()
    key = str(override.key_or_group)
    is_changed = override.type is OverrideType.CHANGE and not key.startswith("hydra")
    return is_changed and not loader.get_group_options(key)


def forced(override: str) -> str:
    """Return the override as one that may add its key, so that the schema judges it."""
    (parsed,) = _parsed([override])
    return f"++{override}" if _is_value(parsed) else override


def _base(name: str, parsed: Sequence[Override]) -> DictConfig:
    """Return the config that the jobs of a sweep have in common."""
    fixed = [forced(str(each.input_line)) for each in parsed if not each.is_sweep_override()]
    return hydra.compose(name, fixed, return_hydra_config=True)


def _parsed(overrides: Sequence[str]) -> list[Override]:
    loader = GlobalHydra.instance().config_loader()
    return OverridesParser.create(loader).parse_overrides(list(overrides))
