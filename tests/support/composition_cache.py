"""Compose what was composed before once in a process: two thirds of what a request costs.

Only the values of the command line are new each time. What comes before them, the defaults list and
the merged files, is a function of the files and of the choices of groups.
"""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra._internal import config_loader_impl
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.defaults_list import DefaultsList
from omegaconf import OmegaConf

State = tuple[str, int, int]  # of a file: its name, when it was changed, its size

_load = OmegaConf.load
_list = config_loader_impl.create_defaults_list
_merge = ConfigLoaderImpl._compose_config_from_defaults_list
_kept: dict[Any, bytes] = {}
_files: dict[Any, tuple[State, ...]] = {}  # of which a defaults list was made
_opened: list[State] = []


def kept(key: Any, compute: Callable[[], Any]) -> Any:
    """A copy of what is computed once for a key."""
    if key not in _kept:
        _kept[key] = pickle.dumps(compute())
    return pickle.loads(_kept[key])


def state(name: str) -> State:
    """As it is now; with zeros when it is gone."""
    try:
        facts = Path(name).stat()
    except FileNotFoundError:
        return name, 0, 0
    return name, facts.st_mtime_ns, facts.st_size


def load(file: Any) -> Any:
    """Do what OmegaConf.load does; the content of an open file is parsed anew when it changes."""
    if not hasattr(file, "fileno"):
        return _load(file)
    _opened.append(state(file.name))
    return kept(_opened[-1], lambda: _load(file))


def create_defaults_list(
    repo: Any, config_name: str | None, overrides_list: list[Any], **options: bool
) -> DefaultsList:
    """Do what Hydra's function does; values have no part in it, and are handed on."""
    fixed = [each for each in overrides_list if not each.is_sweep_override()]
    groups = [each for each in fixed if repo.group_exists(each.key_or_group)]
    places = tuple((source.scheme(), source.path) for source in repo.get_sources())
    lines = tuple(each.input_line for each in groups)
    key = (places, config_name, lines, *options.values())
    if any(state(file[0]) != file for file in _files.get(key, ())):
        del _kept[key], _files[key]
    result = kept(key, lambda: _list(repo, config_name, groups, **options))
    repo.files = _files.setdefault(key, tuple(_opened))
    result.config_overrides = [
        each for each in fixed if each not in groups or isinstance(each.value(), dict)
    ]
    return result


def merge(loader: ConfigLoaderImpl, defaults: list[Any], repo: Any) -> Any:
    """Do what Hydra's method does with the files of a defaults list, which have been opened."""
    _opened.clear()
    return kept((repo.files, *map(repr, defaults)), lambda: _merge(loader, defaults, repo))


OmegaConf.load = load
config_loader_impl.create_defaults_list = create_defaults_list
ConfigLoaderImpl._compose_config_from_defaults_list = merge
