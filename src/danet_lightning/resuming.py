"""Where a run goes on from, and whether it may."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from danet_lightning import checkpoint
from danet_lightning.errors import RequestError

log = logging.getLogger(__name__)

# What makes the numbers of a training; the rest, like devices, loggers and epochs, may change.
DECISIVE = (
    *("seed", "batch_size", "dataset", "backbone", "model", "loss", "optimizer", "head_lr_factor"),
    *("protocol", "module", "trainer.accumulate_grad_batches", "trainer.limit_train_batches"),
)
# Of these, what belongs to the machine, and what stands elsewhere as well.
FREE = (
    *(f"dataset.{key}" for key in ("root", "images", "masks", "list_file", "workers", "cache")),
    *("dataset.cache_dir", "dataset.seed", "dataset.batch_size", "backbone.pretrained"),
    *("model.backbone", "model.num_classes", "protocol.window_batch"),
    *(f"module.{key}" for key in ("loss", "optimizer", "head_lr_factor", "protocol", "seed")),
)
ANEW = "start anew with another run_dir, or take only its weights with init_from=..."


def find(ckpt_path: str | None, run_dir: Path) -> tuple[Path, dict[str, Any]] | None:
    """The checkpoint to go on from and its content; None for a new training.

    Args:
        ckpt_path: "auto" goes on with what the run folder holds, if anything; None starts anew.
        run_dir: of the run.

    Raises:
        RequestError: the checkpoint cannot be resumed, or a new run would overwrite an old one.
    """
    found = sorted(run_dir.glob("*.ckpt"), key=lambda path: -path.stat().st_mtime)
    if ckpt_path is None:
        if found:
            raise RequestError(
                f"run_dir: {run_dir} holds a training already. Go on with it by ckpt_path=auto, "
                "or choose another run_dir."
            )
        return None
    if ckpt_path != "auto":
        return Path(ckpt_path), _resumable(Path(ckpt_path))
    reasons = []
    for path in sorted(found, key=lambda path: path.name != "last.ckpt"):  # then the newest
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
            f"ckpt_path: {path} holds weights without the state of a training, as convert writes "
            "them, so there is nothing to resume. Start from its weights with init_from=..., "
            "evaluate it, or predict."
        )
    return content


def refuse_differences(then: Mapping[str, Any], now: Mapping[str, Any], path: Path) -> None:
    """Compare what a checkpoint says of its training with the one that is asked for.

    Args:
        then: the facts in the checkpoint, see `provenance.metadata`.
        now: those of this run.
        path: of the checkpoint.

    Raises:
        RequestError: they differ in something that makes the numbers; with each key and value.
    """
    before, after = (
        {"classes": facts["classes"]} | _flat(facts["config"]) for facts in (then, now)
    )
    told = [
        f"  {key}: {before.get(key, 'not set')} in the checkpoint, {after.get(key, 'not set')} now"
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
        and (key == "classes" or _is_below(key, DECISIVE))
        and not _is_below(key, FREE)
    ]
    if told:
        raise RequestError(
            f"ckpt_path: the training of {path} cannot go on, because it was another one:\n"
            + "\n".join(told)
            + f"\nTake these back, {ANEW}"
        )


def refuse_shorter(content: Mapping[str, Any], trainer: Mapping[str, Any], path: Path) -> None:
    """Lightning would fail where fewer epochs or steps are asked for than were done.

    Raises:
        RequestError: with both numbers.
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
    """Whether the run folder holds the result of as long a training as is asked for."""
    try:
        results = json.loads((run_dir / "results.json").read_text())
    except (OSError, ValueError):
        return False
    return bool(results.get("trained") == duration(trainer))


def duration(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """What limits a training."""
    return {key: trainer.get(key) for key in ("max_epochs", "max_steps", "max_time")}


def _is_below(key: str, nodes: Sequence[str]) -> bool:
    return any(f"{key}.".startswith(f"{node}.") for node in nodes)


def _flat(node: Any, key: str = "") -> dict[str, Any]:
    if not isinstance(node, dict):
        return {key: node}
    parts = [_flat(value, f"{key}.{name}" if key else name) for name, value in node.items()]
    return {name: value for part in parts for name, value in part.items()}
