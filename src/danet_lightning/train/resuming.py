"""Where a run goes on from, and whether it may."""

import inspect
import json
import logging
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from danet_lightning.checkpoints import loading as checkpoint
from danet_lightning.config.commands import TrainConfig
from danet_lightning.config.rules import marked
from danet_lightning.config.validation import find_target
from danet_lightning.errors import PASSING, PLACED, ROUNDING, RequestError
from danet_lightning.runs.reading import flat

log = logging.getLogger(__name__)

# Beside what is marked in annotations: what only tells or saves, and where Lightning's own saves.
ASIDE = (
    *(f"callbacks.{name}" for name in ("progress", "pictures", "last", "finite_loss")),
    "callbacks.*.dirpath",
)
ANEW = "start anew with another run_dir, or take only its weights with init_from=..."


def find(ckpt_path: str | None, run_dir: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the checkpoint to go on from and its content; None for a new training.

    Args:
        ckpt_path: "auto" goes on with what the run folder holds, if anything; None starts anew.
        run_dir: Of the run.

    Raises:
        RequestError: The checkpoint cannot be resumed, or a new run would overwrite an old one.
    """
    checkpoints = sorted(run_dir.glob("*.ckpt"), key=lambda path: -path.stat().st_mtime)
    if ckpt_path is None:
        if checkpoints:
            raise RequestError(
                f"run_dir: {run_dir} holds a training already. Go on with it by ckpt_path=auto, "
                "or choose another run_dir."
            )
        return None
    if ckpt_path != "auto":
        return Path(ckpt_path), _resumable(Path(ckpt_path))
    reasons = []
    for path in sorted(checkpoints, key=lambda path: path.name != "last.ckpt"):  # then the newest
        try:
            content = _resumable(path)
        except RequestError as error:
            log.warning(f"{error} Trying the next checkpoint of {run_dir}.")
            reasons.append(str(error))
            continue
        if reasons:
            log.warning(f"Going on from {path}, step {content['global_step']}.")
        return path, content
    if reasons:
        raise RequestError(
            f"run_dir: no checkpoint of {run_dir} can be read: {' '.join(reasons)} Choose another "
            "run_dir, or delete them to start anew."
        )
    return None


def _resumable(path: Path) -> dict[str, Any]:
    content = checkpoint.read(path)
    if not {"loops", "rows"} <= set(content):
        raise RequestError(
            f"ckpt_path: {path} holds weights without the state of a training, like every "
            "best.ckpt and what convert writes, so there is nothing to resume. Go on from a "
            "last.ckpt, or start from its weights with init_from=..., evaluate it, or predict."
        )
    if "train" not in content.get("data", ()):
        raise RequestError(
            f"ckpt_path: {path} was written by an earlier version, and does not say on which "
            "images. Start from its weights with init_from=..., or go on with that version."
        )
    return content


def refuse_differences(then: Mapping[str, Any], now: Mapping[str, Any], path: Path) -> None:
    """Compare what a checkpoint says of its training with the one that is asked for.

    Args:
        then: The facts in the checkpoint, see `checkpoints.metadata`.
        now: Those of this run.
        path: Of the checkpoint.

    Raises:
        RequestError: They differ in something that makes the numbers; with each key and value.
    """
    before, after = ({"classes": facts["classes"]} | flat(facts["config"]) for facts in (then, now))
    unset = {key: _default(key, now["config"]) for key in after if key not in before}
    before |= {
        key: default for key, default in unset.items() if default is not inspect.Parameter.empty
    }
    if after.get("init_from") is None:  # the weights are in the checkpoint
        after["init_from"] = before.get("init_from")
    passing = (*ASIDE, *marked(now["config"], TrainConfig, PASSING, PLACED))
    changed = {
        key: (before.get(key, "not set"), after.get(key, "not set"))
        for key in sorted({*before, *after}, key=lambda key: (key.count("."), key))
        if before.get(key) != after.get(key) and not _is_below(key, passing)
    }
    lines = {
        key: f"  {key}: {values[0]} in the checkpoint, {values[1]} now"
        for key, values in changed.items()
        if not _is_copy(key, changed)
    }
    rounding = tuple(marked(now["config"], TrainConfig, ROUNDING))
    refused = [text for key, text in lines.items() if not _is_below(key, rounding)]
    if refused:
        raise RequestError(
            f"ckpt_path: the training of {path} cannot go on, because it was another one:\n"
            + "\n".join(refused)
            + f"\nTake these back, {ANEW}"
        )
    lines |= {
        name: f"  {name} {version} in the checkpoint, {now['versions'].get(name)} now"
        for name, version in then["versions"].items()
        if version != now["versions"].get(name)
    }
    if lines:
        log.warning(
            "The training goes on elsewhere, so its numbers agree to rounding with those of a run "
            "that stayed, and not to the last bit:\n" + "\n".join(lines.values())
        )


def _default(key: str, config: Mapping[str, Any]) -> Any:
    """Return what an argument is where no file sets it; `Parameter.empty` if it has no default."""
    *nodes, name = key.split(".")
    node: Any = config
    for part in nodes:
        node = node.get(part) if isinstance(node, Mapping) else None
    if not isinstance(node, Mapping) or "_target_" not in node:
        return inspect.Parameter.empty
    parameters = inspect.signature(find_target(node["_target_"])).parameters
    return parameters[name].default if name in parameters else inspect.Parameter.empty


def refuse_other_data(then: Mapping[str, Tensor], datamodule: Any, path: Path) -> None:
    """Compare the images and labels of a checkpoint's training with those there are.

    Args:
        then: The digests of each split, see `data.digest`.
        datamodule: Of this run.
        path: Of the checkpoint.

    Raises:
        RequestError: They are others; with their number and the first of them.
    """
    for split, old in then.items():
        new = datamodule.digests(split)
        if torch.equal(old, new):
            continue
        sentence = f"had {len(old)} images in '{split}', and there are {len(new)}"
        if len(old) == len(new):
            others = (old != new).any(1).nonzero().flatten().tolist()
            sentence = (
                f"had other images or labels in '{split}': {len(others)} of {len(new)} are not the "
                f"same in name and content, the first is {datamodule.source(split).name(others[0])}"
            )
        raise RequestError(
            f"dataset: the training of {path} {sentence}. Give it the files it began with, {ANEW}"
        )


def refuse_without_best(content: Mapping[str, Any], path: Path, run_dir: Path) -> None:
    """Refuse to train to an end whose result is lost already.

    Raises:
        RequestError: The best checkpoint so far, in the same folder, cannot be read.
    """
    if path.resolve().parent != run_dir.resolve():
        return  # its best starts afresh
    for state in content["callbacks"].values():
        if not state.get("best_model_path"):
            continue
        best = run_dir / Path(state["best_model_path"]).relative_to(state["dirpath"])
        try:
            checkpoint.read(best)
        except RequestError as error:
            raise RequestError(
                f"run_dir: {path} goes on from step {content['global_step']}, but the best "
                f"checkpoint until then, by which the training ends, cannot be read. {error} Put "
                f"it back from a copy, or look for a new best in another folder: ckpt_path={path} "
                "run_dir=..."
            ) from error


def refuse_shorter(content: Mapping[str, Any], trainer: Mapping[str, Any], path: Path) -> None:
    """Refuse fewer epochs or steps than were done: Lightning would fail.

    Raises:
        RequestError: With both numbers.
    """
    progress = content["loops"]["fit_loop"]["epoch_progress"]["current"]
    done = {"max_epochs": progress["completed"], "max_steps": content["global_step"]}
    for key, count in done.items():
        limit = trainer.get(key)
        if isinstance(limit, int) and 0 <= limit < count:
            raise RequestError(
                f"trainer.{key}={limit}: the training of {path} has done {count} already. Give "
                f"at least that, or {ANEW}"
            )


def is_finished(run_dir: Path, trainer: Mapping[str, Any]) -> bool:
    """Tell whether the run folder holds the result of as long a training as is asked for."""
    try:
        results = json.loads((run_dir / "results.json").read_text())
    except (OSError, ValueError):
        return False
    return bool(results.get("trained") == duration(trainer))


def duration(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """Tell what limits a training."""
    return {key: trainer.get(key) for key in ("max_epochs", "max_steps", "max_time")}


def _is_copy(key: str, changed: Mapping[str, Any]) -> bool:
    """Tell whether a key only repeats the changed value of the same key at the top level, which it
    refers to.
    """
    outer = key.partition(".")[2]
    return bool(changed.get(outer) == changed[key])


def _is_below(key: str, nodes: Sequence[str]) -> bool:
    return any(fnmatch(key, node) or fnmatch(key, f"{node}.*") for node in nodes)
