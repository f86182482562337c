"""Errors that are told in their own words, and the check of arguments that raises them.

The annotation of an argument is its rule: `checked` enforces it where an object is built in
Python, and `argument_problems` before one is built from a configuration, in the same words.
"""

import functools
import inspect
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from importlib.util import find_spec
from inspect import Parameter
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Optional, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

SHOWN = 80  # characters of a wrong value


class Mark:
    """Says whether an argument may change when a training goes on: Annotated[str, PASSING]."""


PASSING = Mark()  # may change: it makes none of the numbers, like how often something is told
PLACED = Mark()  # may change, and differ between machines: where files lie, how fast they are read
ROUNDING = Mark()  # may change, and the numbers then agree to rounding, no longer to the last bit
Called = TypeVar("Called", bound=Callable[..., Any])


class RequestError(ValueError):
    """The request was wrong: a bad config, missing or broken data, a bad checkpoint.

    Its message is one self-contained text that names the value, the rule and the remedy: commands
    print it without a traceback and exit with code 2.

    Attributes:
        is_listed_by_check: Whether `check` finds it too, and all else of its kind.
    """

    is_listed_by_check = False


class RunError(RuntimeError):
    """A run that was asked for rightly has failed, for a reason that has a name: exit code 1."""


def nearest(word: str, known: Sequence[str]) -> str:
    """Return the end of a sentence about an unknown word: `; did you mean ...?`, or a full stop."""
    match = get_close_matches(word, known, n=1)
    return f"; did you mean {match[0]}?" if match else "."


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its kind where there is none."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def require_extra(extra: str, modules: Sequence[str], purpose: str) -> None:
    """Refuse what needs packages that are not installed, naming the extra that brings them.

    Args:
        extra: Of our package.
        modules: What is imported of it.
        purpose: Begins the message.

    Raises:
        RequestError: One of them is not there.
    """
    if missing := [name for name in modules if find_spec(name) is None]:
        raise RequestError(
            f"{purpose} needs {', '.join(missing)}, which the extra {extra} brings: "
            f"pip install 'danet-lightning[{extra}]'"
        )


def checked(called: Called) -> Called:
    """Let an `__init__` or a function check and convert its arguments by their annotations.

    A list becomes the tuple, a text the path that is annotated. All wrong arguments are named at
    once, in a RequestError.
    """
    signature = inspect.signature(called)

    @functools.wraps(called)
    def checking(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        values = {name: value for name, value in bound.arguments.items() if name in hints()}
        problems = argument_problems(called, values)
        if problems:
            title = type(args[0]).__name__ if called.__name__ == "__init__" else called.__name__
            raise RequestError("\n".join(f"{title}({key}=): {problems[key]}" for key in problems))
        for name, value in values.items():
            adapter = _adapter(hints()[name])
            bound.arguments[name] = adapter.validate_python(value) if adapter else value
        return called(*bound.args, **bound.kwargs)

    @functools.cache
    def hints() -> dict[str, Any]:  # when first built: a name may be defined below the class
        return argument_types(called)[0]

    return checking  # type: ignore[return-value]


def argument_problems(target: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, str]:
    """Tell what is wrong with the arguments of a call, by name; empty when nothing is.

    Args:
        target: A class or function.
        values: Keyword arguments for it. One that it does not take is a problem as well.
    """
    types, is_open = argument_types(target)
    problems = {
        name: problem(types[name], value) if name in types else unknown_key(name, types)
        for name, value in values.items()
        if name in types or not is_open
    }
    return {name: text for name, text in problems.items() if text}


def argument_types(target: Callable[..., Any]) -> tuple[dict[str, Any], bool]:
    """Return the annotation of each argument, and whether others are taken as well.

    Where a constructor passes `**options` on, the arguments of the base class count too.
    """
    constructors = [target]
    if isinstance(target, type):
        constructors = [vars(cls)["__init__"] for cls in target.__mro__ if "__init__" in vars(cls)]
    types: dict[str, Any] = {}
    for constructor in constructors:
        try:
            hints = get_type_hints(inspect.unwrap(constructor), include_extras=True)
        except Exception:  # a name that only type checkers see
            hints = {}
        try:
            parameters = inspect.signature(constructor).parameters.values()
        except ValueError:  # written in C
            return types, True
        for parameter in parameters:
            is_named = parameter.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
            if is_named and parameter.name != "self":
                hint = hints.get(parameter.name, Any)
                optional = Optional[hint] if parameter.default is None else hint  # noqa: UP045
                types.setdefault(parameter.name, optional)
        if all(each.kind is not Parameter.VAR_KEYWORD for each in parameters):
            return types, False
    return types, True


def unknown_key(name: str, known: Collection[str]) -> str:
    """Return the sentence about a key that is not among the known ones."""
    return f"unknown key{nearest(name, list(known))} Known: {', '.join(known) or 'none'}"


def problem(annotation: Any, value: Any) -> str:
    """Return the value and the rule of the annotation that it breaks; empty when it fits.

    Plain values are held to the rules of strict JSON: a list may stand for a tuple and an int for
    a float, but not true for 1, nor a text for a number.
    """
    adapter = _adapter(annotation)
    if adapter is None:
        return ""
    try:
        shown = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):  # an object
        shown = ""
    if shown == '""' and mentions(annotation, Path, PLACED):
        return '"": is empty, which would be the working folder; give a path'
    try:
        adapter.validate_json(shown, strict=True) if shown else adapter.validate_python(value)
    except ValidationError as error:
        text = shown or f"a {type(value).__name__}"
        text = text if len(text) < SHOWN else f"{text[:SHOWN]} ..."
        details = [*error.errors(include_url=False)]
        if any(each["type"] == "needs_python_object" for each in details):
            try:  # again, for the name of the class
                adapter.validate_python(value)
            except ValidationError as other:
                details = [*other.errors(include_url=False)]
        plain = [each for each in details if each["type"] not in OBJECT_NEEDED] or details
        return f"{text}: {_all_rules(plain, value)}"
    return ""


def _all_rules(details: Sequence[Any], value: Any) -> str:
    """Join pydantic's findings: every entry has to be right, by one of the kinds in a union."""
    kinds: dict[str, dict[str, dict[str, None]]] = {}
    for each in details:
        kind, entry, inner = "", "", value
        for part in each["loc"]:
            is_key = isinstance(inner, Mapping) and (part in inner or each["type"] == "missing")
            if is_key or isinstance(part, int):
                entry += f"entry {part} " if isinstance(part, int) else f"{part} "
                with suppress(LookupError, TypeError):
                    inner = inner[part]
            elif not entry:
                kind += part  # the name of a union's part
        kinds.setdefault(kind, {}).setdefault(entry, {})[_rule(each, entry)] = None
    texts = ["; ".join(map(" or ".join, entries.values())) for entries in kinds.values()]
    return " or ".join(dict.fromkeys(texts))


def mentions(annotation: Any, *kinds: Any) -> bool:
    """Tell whether an annotation, or a part of a union, is one of some types or has their mark."""
    parts = get_args(annotation) if get_origin(annotation) in (Annotated, Union, UnionType) else ()
    return annotation in kinds or any(mentions(part, *kinds) for part in parts)


OBJECT_NEEDED = {"needs_python_object", "is_instance_of", "callable_type"}


def _rule(detail: Any, entry: str) -> str:
    """Return one of pydantic's findings, of an entry of the value, as half a sentence."""
    if words := {"missing": "is missing", "extra_forbidden": "is no key"}.get(detail["type"]):
        return entry + words
    if detail["type"] in OBJECT_NEEDED:
        kind = detail.get("ctx", {}).get("class")
        return f"{entry}must be built by a _target_" + (f" that makes a {kind}" if kind else "")
    if detail["type"] == "string_type" and entry:  # of a list of names
        return f'{entry}must be text, which names like no, null and 1 are in quotes: ["no","1"]'
    message = str(detail["msg"]).removeprefix("Value error, ").replace(" after validation", "")
    message = message.replace("a valid array", "a list").replace("an object", "a mapping of keys")
    return entry + re.sub(r"^\w+ should", "must", message)


def _adapter(annotation: Any) -> TypeAdapter[Any] | None:
    """Return pydantic's check for an annotation; None for one that it cannot judge."""
    try:
        return _cached_adapter(annotation)
    except TypeError:  # metadata that cannot be hashed
        return _new_adapter(annotation)


def _new_adapter(annotation: Any) -> TypeAdapter[Any] | None:
    config = ConfigDict(allow_inf_nan=False, arbitrary_types_allowed=True)
    for options in (config, None):  # None: of a class with a configuration of its own
        try:
            adapter: TypeAdapter[Any] = TypeAdapter(annotation, config=options)
        except (PydanticUserError, TypeError, RuntimeError):
            continue
        return adapter if adapter.pydantic_complete else None
    return None


_cached_adapter = functools.cache(_new_adapter)
