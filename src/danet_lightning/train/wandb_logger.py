"""Record a run in Weights & Biases: online where it can be, offline where it cannot."""

import glob
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import WandbLogger
from pydantic import ValidationError

from danet_lightning.errors import RequestError, checked, first_line
from danet_lightning.processes.internals import WANDB_FLUSH_SETTING, summary_of_wandb
from danet_lightning.train.wandb_mode import choose_mode

log = logging.getLogger(__name__)

QUIET_SETTINGS = {"console": "off", "silent": True}
PROJECT = "danet_lightning"
FLUSH_SECONDS = 0.1  # wandb's own 15 s is what a kill takes from an offline run


class ContinuedWandbLogger(WandbLogger):
    """Write a W&B run whose own step is the number of the row, so that no row is written twice.

    Args:
        run: The run.
        recorded: Number of rows that it holds from an earlier start.

    Attributes:
        rows: Number of rows so far.
    """

    def __init__(self, run: Any, recorded: int) -> None:
        super().__init__(experiment=run)
        self.rows = 0
        self._recorded = recorded
        self._is_continued = False
        self._logged_at = 0.0

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Add a row, unless it is there already.

        Raises:
            RequestError: The rows that are there belong to another training.
        """
        if self._recorded and not self._is_continued:
            raise RequestError(
                f"WANDB_RUN_ID={self.experiment.id}: this run has {self._recorded} rows already, "
                "and this training does not go on from it. Unset the variable, or choose another."
            )
        if self.rows >= self._recorded:
            row = {**metrics, "trainer/global_step": step}
            self.experiment.log(row, step=self.rows, commit=True)  # a kill may come before the next
            self._logged_at = time.monotonic()
        self.rows += 1

    def save(self) -> None:
        """Sleep until W&B has most likely written the rows, before a checkpoint counts them.

        W&B has no call that waits for its writer, so this is five of its intervals and no
        guarantee: a row that a kill takes all the same is missing from the run.
        """
        time.sleep(max(0, self._logged_at + 5 * FLUSH_SECONDS - time.monotonic()))

    def continue_from(self, rows: int) -> None:
        """Count on from the number of rows in a checkpoint."""
        self.rows = rows
        self._is_continued = True


@checked
def wandb_logger(
    run_dir: Path,
    project: str | None = None,
    entity: str | None = None,
    name: str | None = None,
    group: str | None = None,
    tags: Sequence[str] = (),
    save_dir: Path | None = None,
) -> WandbLogger:
    """Start a W&B run, or go on with that of a run folder; on the first process.

    WANDB_MODE wins. Without it the run is online if there is a key and the server answers within
    5 s, else offline, and the log says how to upload it later. An argument that is left out is
    taken from W&B's own variable.

    Args:
        run_dir: Folder of the training.
        project: WANDB_PROJECT, or danet_lightning.
        entity: WANDB_ENTITY, or the account's own.
        name: WANDB_NAME, or one that W&B makes up.
        group: WANDB_RUN_GROUP, or none.
        tags: WANDB_TAGS, or none.
        save_dir: Folder in which wandb/ is made: WANDB_DIR, or the run folder.

    Raises:
        RequestError: W&B refuses a value, or WANDB_RUN_ID is one run for all points of a sweep.
    """
    project = project or os.environ.get("WANDB_PROJECT") or PROJECT
    if getattr(rank_zero_only, "rank", 0) != 0:
        return WandbLogger(project=project)  # never starts a run
    mode, reason = choose_mode()
    save_dir = save_dir or Path(os.environ.get("WANDB_DIR") or run_dir)
    run_id, earlier = earlier_starts(run_dir, save_dir)
    settings: dict[str, Any] = {WANDB_FLUSH_SETTING: FLUSH_SECONDS}
    settings |= {k: v for k, v in QUIET_SETTINGS.items() if f"WANDB_{k.upper()}" not in os.environ}
    modes: Any = {
        "mode": mode,
        "resume": "allow" if run_id else os.environ.get("WANDB_RESUME", "allow"),
    }
    try:
        if HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN:
            name = name or os.environ.get("WANDB_NAME") or run_dir.name
            group = group or os.environ.get("WANDB_RUN_GROUP") or run_dir.parent.name
        run = wandb.init(
            dir=str(save_dir),
            id=run_id,
            project=project,
            entity=entity,
            name=name,
            group=group,
            tags=list(tags) or None,  # none leaves it to the variable
            settings=wandb.Settings(**settings),
            **modes,
        )
    except (wandb.Error, ValueError) as error:
        cause = first_line(error).rstrip(".")
        if isinstance(error, ValidationError):  # of one of W&B's settings
            detail = error.errors(include_url=False)[0]
            variable = f"WANDB_{str(detail['loc'][0]).removeprefix('run_').upper()}"
            rule = str(detail["msg"]).removeprefix("Value error, ")
            cause = f"{variable}={detail['input']}: {rule}"
        raise RequestError(
            f"W&B: {cause}. WANDB_MODE=offline needs no server, logger=csv no W&B at all."
        ) from error
    if mode != "disabled":
        _id_file(run_dir).parent.mkdir(parents=True, exist_ok=True)
        _id_file(run_dir).write_text(run.id, encoding="utf-8")
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    run.define_metric("val/miou", step_metric="trainer/global_step", summary="max,last")
    if mode == "offline":
        folders = " ".join(f"'{folder}'" for folder in [*earlier, Path(run.dir).parent])
        log.info(f"W&B: offline ({reason}). Upload the run later with: wandb sync {folders}")
    rows = [int(summary_of_wandb(folder).get("_step", -1)) + 1 for folder in earlier]
    return ContinuedWandbLogger(run, max([run.step, *rows]))


def earlier_starts(run_dir: Path, save_dir: Path) -> tuple[str | None, list[Path]]:
    """Return the id of the W&B run that a training goes on with, and its folders, oldest first.

    Raises:
        RequestError: WANDB_RUN_ID would be one run for all points of a sweep.
    """
    run_id = os.environ.get("WANDB_RUN_ID")
    if run_id and HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN:
        raise RequestError(f"WANDB_RUN_ID={run_id} names one run, and a sweep has many. Unset it.")
    if not any(run_dir.glob("*.ckpt")):
        return None, []  # nothing to go on with
    if not run_id and _id_file(run_dir).is_file():
        run_id = _id_file(run_dir).read_text(encoding="utf-8")
    folders = (save_dir / "wandb").glob(f"*run-*-{glob.escape(run_id)}") if run_id else ()
    return run_id, sorted(folders, key=lambda path: path.stat().st_mtime)


def _id_file(run_dir: Path) -> Path:
    """Return where a run folder keeps the id of its W&B run: WANDB_DIR has those of many runs."""
    return run_dir / "wandb" / "run_id.txt"
