"""Weights & Biases, online where it can be, offline where it cannot, never in the way."""

import glob
import http.client
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
from typing import Any, Literal, get_args
from urllib.parse import urlparse

import wandb
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import WandbLogger
from pydantic import TypeAdapter, ValidationError

from danet_lightning.errors import RequestError
from danet_lightning.processes.internals import WANDB_FLUSH_SETTING

log = logging.getLogger(__name__)

Mode = Literal["online", "offline", "disabled", "shared"]

MODES: dict[str, Mode] = {mode: mode for mode in get_args(Mode)}
MODES |= {"run": "online", "dryrun": "offline"}
QUIET = {"console": "off", "silent": True}
PROJECT = "danet_lightning"
CONNECT_SECONDS = 5  # wandb itself waits 90 s for an unreachable server, then raises
FLUSH_SECONDS = 0.1  # wandb's own 15 s is what a kill takes from an offline run


class ContinuedWandbLogger(WandbLogger):
    """A W&B run whose own step is the number of the row, so that no row is written twice.

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
        self._is_continued = False
        self._logged_at = 0.0

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Add a row, unless it is there already.

        Raises:
            RequestError: what is there is of another training.
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
        """Give W&B time to write the rows, before a checkpoint counts them.

        It does so in a process of its own, which cannot be asked: five of its intervals are no
        guarantee, and a row that a kill takes is missing from the run.
        """
        time.sleep(max(0, self._logged_at + 5 * FLUSH_SECONDS - time.monotonic()))

    def continue_from(self, rows: int) -> None:
        """Count on from a checkpoint."""
        self.rows = rows
        self._is_continued = True


def wandb_logger(
    run_dir: str,
    project: str | None = None,
    entity: str | None = None,
    name: str | None = None,
    group: str | None = None,
    tags: Sequence[str] = (),
    save_dir: str | None = None,
) -> WandbLogger:
    """Start a W&B run, or go on with that of a run folder; on the first process.

    WANDB_MODE wins. Without it the run is online if there is a key and the server answers within
    5 s, else offline, and the log says how to upload it later. What is not given here is taken
    from W&B's own variables.

    Args:
        run_dir: the run folder.
        project: WANDB_PROJECT, or danet_lightning.
        entity: WANDB_ENTITY, or the account's own.
        name: WANDB_NAME, or one that W&B makes up.
        group: WANDB_RUN_GROUP, or none.
        tags: WANDB_TAGS, or none.
        save_dir: the folder in which wandb/ is made: WANDB_DIR, or the run folder.

    Raises:
        RequestError: W&B refuses a value, or WANDB_RUN_ID is one run for all points of a sweep.
    """
    project = project or os.environ.get("WANDB_PROJECT") or PROJECT
    if getattr(rank_zero_only, "rank", 0) != 0:
        return WandbLogger(project=project)  # never starts a run
    mode, reason = choose_mode()
    save_dir = save_dir or os.environ.get("WANDB_DIR") or run_dir
    run_id, earlier = earlier_starts(Path(run_dir), Path(save_dir))
    own: dict[str, Any] = {WANDB_FLUSH_SETTING: FLUSH_SECONDS}
    own |= {key: v for key, v in QUIET.items() if f"WANDB_{key.upper()}" not in os.environ}
    how: Any = "allow" if run_id else os.environ.get("WANDB_RESUME", "allow")
    try:
        run = wandb.init(
            dir=save_dir,
            id=run_id,
            resume=how,
            project=project,
            entity=entity,
            name=name,
            group=group,
            tags=list(tags) or None,  # none leaves it to the variable
            mode=mode,
            settings=wandb.Settings(**own),
        )
    except (wandb.Error, ValueError) as error:
        raise RequestError(
            f"W&B: {_reason(error)}. WANDB_MODE=offline needs no server, logger=csv no W&B at all."
        ) from error
    if mode != "disabled":
        _id_file(Path(run_dir)).parent.mkdir(parents=True, exist_ok=True)
        _id_file(Path(run_dir)).write_text(run.id, encoding="utf-8")
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    run.define_metric("val/miou", step_metric="trainer/global_step", summary="max,last")
    if mode == "offline":
        shown = " ".join(f"'{folder}'" for folder in [*earlier, Path(run.dir).parent])
        log.info(f"W&B: offline ({reason}). Upload the run later with: wandb sync {shown}")
    return ContinuedWandbLogger(run, max([run.step, *map(recorded_rows, earlier)]))


def earlier_starts(run_dir: Path, save_dir: Path) -> tuple[str | None, list[Path]]:
    """The W&B run that a training goes on with: its id, and its folders, oldest first.

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
    found = (save_dir / "wandb").glob(f"*run-*-{glob.escape(run_id)}") if run_id else ()
    return run_id, sorted(found, key=lambda path: path.stat().st_mtime)


def _id_file(run_dir: Path) -> Path:
    """Where a run folder keeps the id of its W&B run: WANDB_DIR has the folders of many runs."""
    return run_dir / "wandb" / "run_id.txt"


def _reason(error: Exception) -> str:
    """W&B's reason, or pydantic's for the first of W&B's settings, in one line."""
    if isinstance(error, ValidationError):
        detail = error.errors(include_url=False)[0]
        name = str(detail["loc"][0]).removeprefix("run_")
        text = str(detail["msg"]).removeprefix("Value error, ")
        return f"WANDB_{name.upper()}={detail['input']}: {text}"
    return str(error).strip().splitlines()[0].rstrip(".")


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
    """Return (online | offline | what WANDB_MODE says, the reason).

    Raises:
        RequestError: WANDB_MODE is none of W&B's modes, WANDB_DISABLED neither yes nor no, or
            WANDB_BASE_URL no address.
    """
    disabled = os.environ.get("WANDB_DISABLED") or "false"
    try:
        is_disabled = TypeAdapter(bool).validate_python(disabled)
    except ValidationError as error:
        raise RequestError(f"WANDB_DISABLED={disabled}: give true or false.") from error
    if is_disabled:
        return "disabled", f"WANDB_DISABLED={disabled}"
    if mode := os.environ.get("WANDB_MODE"):
        if mode not in MODES:
            raise RequestError(f"WANDB_MODE={mode}: W&B's modes are {', '.join(MODES)}.")
        return MODES[mode], f"WANDB_MODE={mode}"
    url = os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai"
    if not has_key(_host(url)):
        return "offline", "no API key; `wandb login` stores one"
    if not answers(url, CONNECT_SECONDS):
        return "offline", f"{url} did not answer within {CONNECT_SECONDS} s"
    return "online", ""


def _host(url: str) -> str:
    try:
        parts = urlparse(url)
        _ = parts.port  # fails where it is no number
        if parts.scheme in ("http", "https") and parts.hostname and not set(url) & set(" \t\n"):
            return parts.hostname
    except ValueError:
        pass
    text = f"WANDB_BASE_URL={url}: give an address such as https://api.wandb.ai, or unset it."
    raise RequestError(text)


def has_key(host: str) -> bool:
    """Whether WANDB_API_KEY or the netrc file holds a key for this server."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, ValueError, netrc.NetrcParseError):  # bytes that are no text, too
        return False


def answers(url: str, seconds: float) -> bool:
    """Whether the server says anything at all; a name look-up that hangs counts as silence."""
    answered = threading.Event()

    def ask() -> None:
        try:
            urllib.request.urlopen(url, timeout=seconds).close()
        except urllib.error.HTTPError:
            pass  # an error page is an answer too
        except (OSError, ValueError, http.client.HTTPException):  # no name, or no web server
            return
        answered.set()

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(seconds)
    return answered.is_set()
