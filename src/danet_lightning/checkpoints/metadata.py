"""What a checkpoint and a number say of where they come from, in plain containers."""

import functools
import hashlib
import json
import os
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig

from danet_lightning.checkpoints.facts import PORTABLE
from danet_lightning.data.base import DataSet
from danet_lightning.errors import RequestError

PACKAGES = ("danet-lightning", "torch", "torchvision", "lightning", "albumentations", "numpy")


def dataset_facts(dataset: DataSet) -> dict[str, Any]:
    """Tell what a checkpoint has to know of its data set, as plain lists."""
    return {
        "classes": [str(name) for name in dataset.classes],
        "palette": [[int(value) for value in color] for color in dataset.palette],
    }


def facts_for_module(facts: dict[str, Any]) -> dict[str, Any]:
    """Return those facts of a data set that a module is built with: classes, mean and std."""
    return {key: facts[key] for key in ("classes", "mean", "std")}


def metadata(config: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """Collect what a checkpoint says of itself, in plain containers: it loads with weights_only.

    Args:
        config: Resolved; its `model` is completed by what data and checkpoint know.
        facts: Of the data set.

    Raises:
        RequestError: The model's configuration names no backbone.
    """
    if not isinstance(config["model"].get("backbone"), Mapping):
        raise RequestError(
            "model.backbone: is missing, so the chosen backbone would reach no network; write "
            "`backbone: ${backbone}` in the YAML of the model."
        )
    backbone = dict(config["model"]["backbone"])
    if "pretrained" in backbone:  # its weights are in the checkpoint
        backbone["pretrained"] = False
    model = {**config["model"], "num_classes": len(facts["classes"]), "backbone": backbone}
    completed = {**config, "model": model}
    seed = {"value": config.get("seed"), "source": seed_source()}
    return {
        **{"config": completed, "config_hash": config_hash(config), "seed": seed, **facts},
        **{"git_commit": git_commit(), "versions": versions()},
    }


def portable(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of a checkpoint that travel with a network which is given away.

    Of the configuration these are the network, the protocol and the data set, without the places
    on this machine that they name.
    """
    parts = {key: _placeless(facts["config"][key]) for key in ("model", "protocol", "dataset")}
    return {"config": parts, **{key: facts[key] for key in PORTABLE if key in facts}}


def _placeless(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _placeless(value) for key, value in node.items() if not _is_place(value)}
    return node


def _is_place(value: Any) -> bool:
    return isinstance(value, str) and (value.startswith("~") or Path(value).is_absolute())


def config_hash(plain: Mapping[str, Any]) -> str:
    """Hash a resolved configuration, so that two runs of the same one are known by it."""
    text = json.dumps(plain, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def seed_source() -> str:
    """Find where the seed comes from: the command line, or the configuration files."""
    overrides = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    is_typed = any(override.lstrip("+").startswith("seed=") for override in overrides)
    return "command line" if is_typed else "configuration"


def versions() -> dict[str, str]:
    """Return the installed versions of what decides a number."""
    installed = {}
    for package in PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            installed[package] = "not installed"
    return installed


@functools.cache  # what runs is what was there at the start, whatever is committed meanwhile
def git_commit() -> str | None:
    """Return the commit of the code that runs, with '+changes' if its tree differs.

    None where no repository tracks this file at its place in ours: in a wheel, or in an export
    within a repository of somebody else.
    """
    described = _git("rev-parse", "--show-prefix", "HEAD", f"HEAD:./{Path(__file__).name}")
    if described is None:
        return None
    prefix, commit, _ = described.split("\n", 2)
    if prefix != "src/danet_lightning/checkpoints/":
        return None
    changes = _git("status", "--porcelain", "--untracked-files=no", ":/")
    added = _git("status", "--porcelain", ":/src", ":/conf")
    return commit if changes == added == "" else f"{commit}+changes"


def _git(*arguments: str) -> str | None:
    """Run git in the folder of this file, and return its output; None if it fails, or is not there.

    It looks for the repository around the file, not for the one that a hook's variables name, and
    reads one that belongs to another user, as in a container: its code is running anyway.
    """
    folder = Path(__file__).resolve().parent
    command = ["git", "-C", str(folder), "-c", f"safe.directory={folder.parents[2]}"]
    command += ["--no-optional-locks", *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        answer = subprocess.run(
            command, env=environment, capture_output=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.decode(errors="replace")
