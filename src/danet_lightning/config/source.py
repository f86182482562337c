"""Find where a dotted name is defined, in source text: nothing is imported.

Importing torch and Lightning takes ten seconds of CPU; parsing the few files in question a tenth.
"""

import ast
import functools
import importlib.machinery
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

Definition = ast.ClassDef | ast.FunctionDef
SUFFIXES = (".py", *importlib.machinery.EXTENSION_SUFFIXES)


@dataclass(frozen=True)
class Module:
    """A module that was found, not imported: its file, if it is Python, and its folders, if any."""

    name: str
    file: Path | None
    folders: tuple[Path, ...] = ()

    @functools.cached_property
    def statements(self) -> tuple[ast.stmt, ...]:
        """Its top-level statements, with those inside `if`, `try` and `with`."""
        if self.file is None or self.file.suffix != ".py":
            return ()
        return tuple(_flat(ast.parse(self.file.read_bytes()).body))


@dataclass(frozen=True)
class Found:
    """A class or function, and the module that defines it."""

    module: Module
    node: Definition


@functools.cache
def find_module(name: str) -> Module | None:
    """Find a module by its dotted name; importlib would import its parents on the way."""
    parent, _, last = name.rpartition(".")
    if not parent:
        return _find_top(name)
    above = find_module(parent)
    for folder in above.folders if above else ():
        entries = _entries(folder)  # compared as text: some file systems take SGD.py for sgd.py
        if last in entries and (folder / last).is_dir():
            file = folder / last / "__init__.py"
            return Module(name, file if file.is_file() else None, (folder / last,))
        for suffix in SUFFIXES:
            if last + suffix in entries:
                return Module(name, folder / (last + suffix))
    return None


def locate(dotted: str) -> Found | None:
    """Follow a dotted name to its class or function, through re-exports.

    Returns:
        None when it exists but its text does not tell what it is: compiled, assigned, or lazy.

    Raises:
        LookupError: there is no such module or name; the message offers the nearest one.
    """
    head, *names = dotted.split(".")
    module = find_module(head)
    if module is None:
        raise LookupError(f"no module {head!r} is installed")
    while names and (child := find_module(f"{module.name}.{names[0]}")):
        module, names = child, names[1:]
    if not names:
        raise LookupError(f"{dotted} is a module; name a class or function in it")
    return attribute(module, names)


def attribute(module: Module, names: list[str]) -> Found | None:
    """Follow names inside a module; returns and raises as `locate`."""
    for statement in module.statements:
        match statement:
            case ast.ClassDef(name=name) if name == names[0]:
                return _member(Found(module, statement), names[1:])
            case ast.FunctionDef(name=name) if name == names[0] and not _is_overload(statement):
                return Found(module, statement)
            case ast.Import() | ast.ImportFrom():
                if origin := imports(module, statement).get(names[0]):
                    return locate(".".join([origin, *names[1:]]))
            case ast.Assign(targets=[ast.Name(id=name)]) if name == names[0]:
                return None
    return _from_star(module, names)


def imports(module: Module, statement: ast.Import | ast.ImportFrom) -> dict[str, str]:
    """The names an import statement binds, each with the dotted name it stands for."""
    if isinstance(statement, ast.Import):
        return {a.asname or a.name.partition(".")[0]: _bound(a) for a in statement.names}
    origin = _origin(module, statement)
    return {a.asname or a.name: f"{origin}.{a.name}" for a in statement.names if a.name != "*"}


def nearest(word: str, known: list[str]) -> str:
    """The end of a sentence about an unknown word: `; did you mean ...?`, or a full stop."""
    match = get_close_matches(word, known, n=1)
    return f"; did you mean {match[0]}?" if match else "."


def _find_top(name: str) -> Module | None:
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # __main__, or an empty name
        return None
    if spec is None:
        return None
    file = Path(spec.origin) if spec.has_location and spec.origin else None
    return Module(name, file, tuple(map(Path, spec.submodule_search_locations or ())))


@functools.cache
def _entries(folder: Path) -> frozenset[str]:
    return frozenset(path.name for path in folder.iterdir()) if folder.is_dir() else frozenset()


def _flat(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        yield statement
        if not isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for block in ("body", "handlers", "orelse", "finalbody"):
                yield from _flat(getattr(statement, block, []))


def _member(owner: Found, names: list[str]) -> Found | None:
    if not names or not isinstance(owner.node, ast.ClassDef):
        return owner
    for statement in owner.node.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == names[0]:
            return Found(owner.module, statement)
    return None  # inherited, or made at run time


def _from_star(module: Module, names: list[str]) -> Found | None:
    for statement in module.statements:
        if isinstance(statement, ast.ImportFrom) and statement.names[0].name == "*":
            try:
                return locate(".".join([_origin(module, statement), *names]))
            except (LookupError, RecursionError):  # modules may star one another
                continue
    known = _public_names(module)
    is_text = module.file.suffix == ".py" if module.file else bool(module.folders)
    is_lazy = "__getattr__" in known and len(names) == 1
    if not is_text or is_lazy:
        return None
    raise LookupError(f"{module.name} has no {names[0]!r}{nearest(names[0], known)}")


def _public_names(module: Module) -> list[str]:
    known = [name for folder in module.folders for name in map(Path, _entries(folder))]
    words = [path.stem for path in known if path.suffix in {"", ".py"}]
    for statement in module.statements:
        match statement:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                words.append(name)
            case ast.Import() | ast.ImportFrom():
                words.extend(imports(module, statement))
    return words


def _is_overload(function: ast.FunctionDef) -> bool:
    return any("overload" in ast.unparse(decorator) for decorator in function.decorator_list)


def _bound(alias: ast.alias) -> str:
    return alias.name if alias.asname else alias.name.partition(".")[0]


def _origin(module: Module, statement: ast.ImportFrom) -> str:
    if not statement.level:
        return statement.module or ""
    levels = statement.level - bool(module.folders)  # a package is its own first level
    parts = module.name.split(".")
    return ".".join([*parts[: len(parts) - levels], *filter(None, [statement.module])])
