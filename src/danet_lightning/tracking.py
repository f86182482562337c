"""Weights & Biases, online where it can be, offline where it cannot, never in the way."""

import logging
import netrc
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast
from urllib.parse import urlparse

import wandb
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import WandbLogger

log = logging.getLogger(__name__)

Mode = Literal["online", "offline", "disabled", "shared"]

CONNECT_SECONDS = 5  # wandb itself waits 90 s for an unreachable server, then raises


def wandb_logger(
    save_dir: str,
    project: str = "danet_lightning",
    entity: str | None = None,
    name: str | None = None,
    group: str | None = None,
    tags: Sequence[str] = (),
) -> WandbLogger:
    """Start a W&B run below `save_dir`/wandb; decided once, on the first process.

    WANDB_MODE wins. Without it the run is online if there is a key and the server answers within
    5 s, else offline, and the log says how to upload it later.
    """
    if getattr(rank_zero_only, "rank", 0) != 0:
        return WandbLogger(project=project)  # never starts a run
    mode, reason = choose_mode()
    run = wandb.init(
        dir=save_dir,
        project=project,
        entity=entity,
        name=name,
        group=group,
        tags=list(tags),
        mode=mode,
        settings=wandb.Settings(
            console="off",
            silent=True,
            # the default loses the last 15 s of an offline run when the process is killed
            x_transaction_log_flush_interval=0.5,
        ),
    )
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    run.define_metric("val/miou", step_metric="trainer/global_step", summary="max,last")
    if mode == "offline":
        folder = Path(run.dir).parent
        log.info(f"W&B: offline ({reason}). Upload the run later with: wandb sync '{folder}'")
    return WandbLogger(experiment=run)


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

    threading.Thread(target=ask, daemon=True).start()
    return answered.wait(seconds)
