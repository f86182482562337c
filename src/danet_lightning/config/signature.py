"""The arguments of a `_target_` and their types, read from its source text."""

import ast
import builtins
import collections.abc
import functools
import pathlib
import typing
from dataclasses import dataclass
from typing import Annotated, Any

import annotated_types
import pydantic
from pydantic import AfterValidator, ConfigDict, PydanticUserError, TypeAdapter
from pydantic_core import PydanticCustomError

from danet_lightning.config.source import Found, Module, attribute, find_module, imports, locate

MODULES = (typing, collections.abc, pydantic, pathlib, annotated_types)
VOCABULARY = {module.__name__: module for module in MODULES}  # what an annotation may come from

Adapter = TypeAdapter[Any]


def _refuse(value: Any) -> Any:
    raise PydanticCustomError("foreign", "must be built by a _target_")


Foreign = Annotated[Any, AfterValidator(_refuse)]  # a class of no YAML value, like torch.Tensor


def adapter(annotation: Any) -> Adapter | None:
    """Pydantic's check for an annotation; None for one that it cannot judge."""
    try:
        found = TypeAdapter(annotation, config=ConfigDict(allow_inf_nan=False))
    except (PydanticUserError, TypeError):
        return None
    return found if found.pydantic_complete else None  # a name inside it may mean nothing here


@dataclass(frozen=True)
class Parameter:
    """One argument of a target."""

    module: Module
    annotation: ast.expr | None
    default: ast.expr | None = None

    @functools.cached_property
    def adapter(self) -> Adapter | None:
        """What checks a value of it."""
        return adapter(self.type)

    @property
    def type(self) -> Any:
        """Its annotation, evaluated; Any when that needs more than the vocabulary."""
        if self.annotation is None:
            return Any
        try:
            kind = _evaluate(self.module, self.annotation)
        except Exception:  # whatever evaluating another package's text may raise
            return Any
        is_optional = isinstance(self.default, ast.Constant) and self.default.value is None
        return typing.Optional[kind] if is_optional else kind  # noqa: UP045 - kind may be no class


@dataclass(frozen=True)
class Arguments:
    """What a target takes: its parameters by name, and whether it takes other names as well."""

    named: dict[str, Parameter]
    is_open: bool


OPEN = Arguments({}, is_open=True)


@functools.cache
def arguments(target: str) -> Arguments:
    """The keyword arguments of a class or function.

    Raises:
        LookupError: there is no such target.
    """
    found = locate(target)
    return _arguments(found) if found else OPEN


def _arguments(found: Found) -> Arguments:
    if isinstance(found.node, ast.FunctionDef):
        return _signature(found.module, found.node, OPEN)
    for statement in found.node.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            return _signature(found.module, statement, _inherited(found.module, found.node))
    inherited = _inherited(found.module, found.node)
    if not any("dataclass" in ast.unparse(mark) for mark in found.node.decorator_list):
        return inherited
    fields = {
        ast.unparse(field.target): Parameter(found.module, field.annotation)
        for field in found.node.body
        if isinstance(field, ast.AnnAssign) and "ClassVar" not in ast.unparse(field.annotation)
    }
    return Arguments({**inherited.named, **fields}, inherited.is_open)


def _inherited(module: Module, node: ast.ClassDef) -> Arguments:
    """The arguments of the first base class that takes any."""
    for base in node.bases:
        try:
            above = attribute(module, ast.unparse(base).partition("[")[0].split("."))
        except LookupError:
            above = None
        taken = _arguments(above) if above else OPEN
        if taken.named or taken.is_open:
            return taken
    return Arguments({}, is_open=False)


def _signature(module: Module, function: ast.FunctionDef, inherited: Arguments) -> Arguments:
    signature = function.args
    named = [*signature.posonlyargs, *signature.args, *signature.kwonlyargs]
    defaults = [*signature.defaults, *signature.kw_defaults]
    defaults = [*[None] * (len(named) - len(defaults)), *defaults]
    own = {
        argument.arg: Parameter(module, argument.annotation, default)
        for argument, default in zip(named, defaults, strict=True)
        if argument.arg not in {"self", "cls"}
    }
    if signature.kwarg is None:
        return Arguments(own, is_open=False)
    given = _given_to_super(function, signature.kwarg.arg)
    if given is None:
        return Arguments(own, is_open=True)
    passed = {name: it for name, it in inherited.named.items() if name not in {*given, *own}}
    return Arguments({**own, **passed}, inherited.is_open)


def _given_to_super(function: ast.FunctionDef, rest: str) -> set[str] | None:
    """The keywords given to `super().__init__` beside `**rest`; None without such a call."""
    for call in ast.walk(function):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "super().__init__":
            keywords = {word.arg or f"**{ast.unparse(word.value)}" for word in call.keywords}
            if f"**{rest}" in keywords:
                return keywords
    return None


def _evaluate(module: Module, expression: ast.expr) -> Any:
    if isinstance(expression, ast.Constant) and isinstance(expression.value, str):
        expression = ast.parse(expression.value, mode="eval").body
    code = compile(ast.Expression(expression), str(module.file), "eval")
    return eval(code, {}, _Names(module))


class _Names(dict[str, Any]):
    """What the names in a module's annotations stand for, looked up when they are asked for."""

    def __init__(self, module: Module) -> None:
        super().__init__()
        self.module = module

    def __missing__(self, name: str) -> Any:
        for statement in self.module.statements:
            match statement:
                case ast.Import() | ast.ImportFrom():
                    if origin := imports(self.module, statement).get(name):
                        return _imported(origin)
                case ast.Assign(targets=[ast.Name(id=alias)], value=value) if alias == name:
                    return _evaluate(self.module, value)
        if hasattr(builtins, name):
            raise KeyError(name)  # eval finds it there
        return _foreign(attribute(self.module, [name]))


class _Package:
    """A module outside the vocabulary: its attributes are looked up in its text."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return _imported(f"{self._name}.{name}")


def _imported(origin: str) -> Any:
    owner, _, member = origin.rpartition(".")
    if origin in VOCABULARY:
        return VOCABULARY[origin]
    if owner in VOCABULARY:
        return getattr(VOCABULARY[owner], member)
    if find_module(origin):
        return _Package(origin)
    module = find_module(owner)  # None: a class inside a class
    return _Names(module)[member] if module else _foreign(locate(origin))


def _foreign(found: Found | None) -> Any:
    """The type for a class that is not in the vocabulary; enumerations are given by name."""
    if found is None or not isinstance(found.node, ast.ClassDef):
        raise LookupError("not a class")
    bases = [ast.unparse(base) for base in found.node.bases]
    return Any if any("Enum" in base or "str" in base for base in bases) else Foreign
