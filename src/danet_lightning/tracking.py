"""Weights & Biases, online where it can be, offline where it cannot, never in the way."""

import json
import logging
import netrc
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlparse

import wandb
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import WandbLogger

log = logging.getLogger(__name__)

Mode = Literal["online", "offline", "disabled", "shared"]

CONNECT_SECONDS = 5  # wandb itself waits 90 s for an unreachable server, then raises
FLUSH_SECONDS = 0.1  # wandb's own 15 s is what a kill takes from an offline run


class ContinuedWandbLogger(WandbLogger):
    """A W&B run whose own step is the number of the row, so that no row is written twice.

    The charts are drawn over `trainer/global_step`, as always.

    Args:
        run: the run.
        recorded: how many rows it holds from an earlier start.

    Attributes:
        rows: number of rows so far.
    """

    def __init__(self, run: Any, recorded: int) -> None:
        super().__init__(experiment=run)
        self.rows = 0
        self._recorded = recorded
        self._logged_at = 0.0

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Add a row, unless it is there already."""
        if self.rows >= self._recorded:
            row = {**metrics, "trainer/global_step": step}
            self.experiment.log(row, step=self.rows, commit=True)  # a kill may come before the next
            self._logged_at = time.monotonic()
        self.rows += 1

    def save(self) -> None:
        """Give W&B time to write the rows, before a checkpoint counts them.

        It does so in a process of its own, which cannot be asked: five of its intervals are no
        guarantee, and a row that a kill takes is missing from the run.
        """
        time.sleep(max(0, self._logged_at + 5 * FLUSH_SECONDS - time.monotonic()))

    def continue_from(self, rows: int) -> None:
        """Count on from a checkpoint."""
        self.rows = rows


def wandb_logger(
    save_dir: str,
    project: str = "danet_lightning",
    entity: str | None = None,
    name: str | None = None,
    group: str | None = None,
    tags: Sequence[str] = (),
) -> WandbLogger:
    """Start a W&B run below `save_dir`/wandb, or go on with the one there; on the first process.

    WANDB_MODE wins. Without it the run is online if there is a key and the server answers within
    5 s, else offline, and the log says how to upload it later.
    """
    if getattr(rank_zero_only, "rank", 0) != 0:
        return WandbLogger(project=project)  # never starts a run
    mode, reason = choose_mode()
    earlier = earlier_starts(Path(save_dir))
    run = wandb.init(
        dir=save_dir,
        id=earlier[-1].name.rpartition("-")[2] if earlier else None,
        resume="allow",
        project=project,
        entity=entity,
        name=name,
        group=group,
        tags=list(tags),
        mode=mode,
        settings=wandb.Settings(
            console="off",
            silent=True,
            x_transaction_log_flush_interval=FLUSH_SECONDS,
        ),
    )
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    run.define_metric("val/miou", step_metric="trainer/global_step", summary="max,last")
    if mode == "offline":
        shown = " ".join(f"'{folder}'" for folder in [*earlier, Path(run.dir).parent])
        log.info(f"W&B: offline ({reason}). Upload the run later with: wandb sync {shown}")
    return ContinuedWandbLogger(run, max([run.step, *map(recorded_rows, earlier)]))


def earlier_starts(save_dir: Path) -> list[Path]:
    """The W&B folders of the run that a training in this folder goes on with, oldest first."""
    if not any(save_dir.glob("*.ckpt")):
        return []  # nothing to go on with
    found = sorted((save_dir / "wandb").glob("*run-*-*"), key=lambda path: path.stat().st_mtime)
    ids = {path.name.rpartition("-")[2] for path in found[-1:]}
    return [path for path in found if path.name.rpartition("-")[2] in ids]


def recorded_rows(folder: Path) -> int:
    """How many rows of the run the transaction log in a W&B folder reaches to."""
    tool = [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", "--json", str(folder)]
    result = subprocess.run(tool, capture_output=True, text=True, timeout=120)
    try:
        summary = json.loads(result.stdout)["summary"]
    except (ValueError, KeyError):  # killed before anything was logged
        return 0
    return int(summary.get("_step", -1)) + 1


def choose_mode() -> tuple[Mode, str]:
    """Return (online | offline | what WANDB_MODE says, the reason)."""
    if mode := os.environ.get("WANDB_MODE"):
        return cast(Mode, {"dryrun": "offline"}.get(mode, mode)), f"WANDB_MODE={mode}"
    url = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
    if not has_key(urlparse(url).hostname or ""):
        return "offline", "no API key; `wandb login` stores one"
    if not answers(url, CONNECT_SECONDS):
        return "offline", f"{url} did not answer within {CONNECT_SECONDS} s"
    return "online", ""


def has_key(host: str) -> bool:
    """Whether WANDB_API_KEY or the netrc file holds a key for this server."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def answers(url: str, seconds: float) -> bool:
    """Whether the server says anything at all; a name look-up that hangs counts as silence."""
    answered = threading.Event()

    def ask() -> None:
        try:
            urllib.request.urlopen(url, timeout=seconds).close()
        except urllib.error.HTTPError:
            pass  # an error page is an answer too
        except OSError:
            return
        answered.set()

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(seconds)
    return answered.is_set()
