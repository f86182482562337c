"""Hydra's overrides: composed, swept, and judged where Hydra's own errors say too little."""

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, open_dict

from danet_lightning.config.spelling import quoted
from danet_lightning.disk.names import is_utf_8
from danet_lightning.errors import RequestError

NAME = re.compile(r"[\w.,=+() -]{1,150}", re.ASCII)  # what a sweep may call its folders by


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
    """Return the config that the jobs of a sweep have in common, Hydra initialized with it.

    An override may add its key there: the schema judges it in each job.
    """
    shared = [each for each in parse(overrides) if not each.is_sweep_override()]
    lines = ["++" * changes_value(each) + str(each.input_line) for each in shared]
    base = hydra.compose(name, lines, return_hydra_config=True)
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
    parsed = _of_sweep(overrides, base)
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


def points(overrides: Sequence[str], base: DictConfig) -> Iterator[tuple[list[str], str]]:
    """Return the overrides of each job of a sweep, and the swept ones among them as text.

    Args:
        overrides: Of the sweep.
        base: The config that its jobs have in common, Hydra's part included.
    """
    choices: dict[str, list[str]] = {}
    for each in _of_sweep(overrides, base):
        key = each.get_key_element()
        if not each.is_sweep_override():
            choices[key] = [str(each.input_line)]
        elif each.is_discrete_sweep():  # an interval is sampled, and checked, when its job starts
            choices[key] = [f"{key}={value}" for value in each.sweep_string_iterator()]
    swept = [key for key, options in choices.items() if len(options) > 1]
    for values in itertools.product(*choices.values()):
        point = dict(zip(choices, values, strict=True))
        yield list(values), " ".join(point[key] for key in swept)


def _of_sweep(overrides: Sequence[str], base: DictConfig) -> list[Override]:
    """Return the overrides of a sweep, after the parameters that its sweeper has of its own."""
    params = (base.hydra.sweeper.get("params") or {}).items()
    return parse([*(f"{key}={value}" for key, value in params), *overrides])


def check_choices(overrides: Sequence[str]) -> None:
    """Refuse what is not the name of an option, where Hydra would fail with an error of its own."""
    loader = GlobalHydra.instance().config_loader()
    for parsed in parse(overrides):
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


def changes_value(override: Override) -> bool:
    """Tell whether it changes a value, and not the choice of a group's option."""
    loader = GlobalHydra.instance().config_loader()
    key = str(override.key_or_group)
    is_changed = override.type is OverrideType.CHANGE and not key.startswith("hydra")
    return is_changed and not loader.get_group_options(key)


def parse(overrides: Sequence[str]) -> list[Override]:
    """Read overrides with the names of groups known, as Hydra does once it is initialized."""
    loader = GlobalHydra.instance().config_loader()
    return OverridesParser.create(loader).parse_overrides(list(overrides))
