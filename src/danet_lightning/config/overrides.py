"""Hydra's overrides: composed, swept, and judged where Hydra's own errors say too little."""

import itertools
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser  # what hydra.main itself reads a command with
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, open_dict

from danet_lightning.disk.names import is_utf_8
from danet_lightning.errors import RequestError

TEXTS = (  # paths and parts of names
    *("ckpt_path", "init_from", "run_dir", "sweep_dir", "input", "output", "source"),
    *("root", "archives", "dataset.image_suffix", "dataset.mask_suffix"),
    *(f"dataset.{key}" for key in ("root", "images", "masks", "list_file", "cache_dir")),
)
BARE = re.compile(r"[\w/\\+.$%*@?|: -]*", re.ASCII)  # what Hydra's grammar reads without quotes
STRING = r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\""""


def literal(argument: str, is_sweep: bool = False, quote: Quote = Quote.single) -> str:
    """Quote what is meant as text: Hydra's grammar has no bare ä, {split}, parentheses or 007.

    Args:
        argument: One of the command line. A path is quoted whole, but in a sweep, where commas
            divide it; any other value where Hydra cannot read it, a list in its entries.
        is_sweep: Whether commas divide a value.
        quote: The kind of quotation marks.
    """
    key, equals, value = argument.partition("=")
    if not equals or argument.startswith("-"):
        return argument
    is_text = key.lstrip("+") in TEXTS and value not in ("", "null") and not is_sweep
    if (value[:1] in "'\"" or not is_text) and _is_read(argument):
        return argument
    is_list = value[:1] in ("[", "{") and not is_text
    tries = [_quote_parts(value, ends, quote) for ends in ("[](){},:", "[],")]
    tries = tries if is_list or is_sweep else []
    tries += [] if is_list else [quoted(value, quote)]
    return next((each for each in (f"{key}={each}" for each in tries) if _is_read(each)), argument)


def quoted(value: str, quote: Quote = Quote.single) -> str:
    """A text that Hydra reads as it is."""
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


def insert(*overrides: str) -> None:
    """Add overrides to the command line, beside its own: argparse wants them together."""
    given = get_args_parser().parse_args().overrides
    place = len(sys.argv) - sys.argv[::-1].index(given[-1]) if given else len(sys.argv)
    sys.argv[place:place] = overrides


def compose(name: str, overrides: Sequence[str]) -> DictConfig:
    """Compose a config without Hydra's own part; Hydra is initialized, as for all that follows."""
    config = hydra.compose(name, list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(config)  # for ${hydra:...} in the config
    with open_dict(config):
        del config["hydra"]
    return config


def fixed() -> set[str]:
    """The overrides of the command line that are not swept, as a sweeper hands them to its jobs."""
    given = OverridesParser.create().parse_overrides(get_args_parser().parse_args().overrides)
    kept = [each for each in given if not each.is_sweep_override()]
    return {f"{each.get_key_element()}={each.get_value_element_as_str()}" for each in kept}


def compose_common(name: str, overrides: Sequence[str]) -> DictConfig:
    """The config that the jobs of a sweep have in common, Hydra initialized with it."""
    base = _base(name, _parsed(overrides))
    HydraConfig.instance().set_config(base)
    return base


def points(name: str, overrides: Sequence[str]) -> Iterator[tuple[list[str], str]]:
    """The overrides of each job of a sweep, and the swept ones among them as text."""
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


def forced(override: str) -> str:
    """The override as one that may add its key, so that the schema judges it."""
    loader = GlobalHydra.instance().config_loader()
    (parsed,) = _parsed([override])
    key = str(parsed.key_or_group)
    is_value = parsed.type is OverrideType.CHANGE and not loader.get_group_options(key)
    return f"++{override}" if is_value and not key.startswith("hydra") else override


def _base(name: str, parsed: Sequence[Override]) -> DictConfig:
    """The config that the jobs of a sweep have in common."""
    fixed = [forced(str(each.input_line)) for each in parsed if not each.is_sweep_override()]
    return hydra.compose(name, fixed, return_hydra_config=True)


def _parsed(overrides: Sequence[str]) -> list[Override]:
    loader = GlobalHydra.instance().config_loader()
    return OverridesParser.create(loader).parse_overrides(list(overrides))
