"""What was typed, written so that Hydra's grammar reads it."""

import re
from collections.abc import Collection, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from danet_lightning.config.commands import CommandConfig
from danet_lightning.config.rules import open_keys, text_keys
from danet_lightning.processes.internals import command_line_parser

BARE = re.compile(r"[\w/\\+.$%*@?|: -]*", re.ASCII)  # what Hydra's grammar reads without quotes
STRING = r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\""""


def understood(arguments: Sequence[str], form: type[CommandConfig]) -> list[str]:
    """Write what was typed so that Hydra reads it: texts in quotes, keys of open nodes added."""
    is_sweep = bool({"-m", "--multirun"} & set(arguments))
    texts, nodes = text_keys(form), open_keys(form)
    return [literal(added(each, nodes), is_sweep, texts=texts) for each in arguments]


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
    """Put `++` before an override below a node that takes any key: Hydra refuses a new key without.

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
