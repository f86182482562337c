"""Whether Weights & Biases can be reached from here, and so how it records a run."""

import http.client
import netrc
import os
import threading
import urllib.error
import urllib.request

from pydantic import HttpUrl, TypeAdapter, ValidationError

from danet_lightning.errors import RequestError

MODES = {mode: mode for mode in ("online", "offline", "disabled", "shared")}
MODES |= {"run": "online", "dryrun": "offline"}
CONNECT_SECONDS = 5  # wandb itself waits 90 s for an unreachable server, then raises


def choose_mode() -> tuple[str, str]:
    """Return W&B's mode, `online`, `offline` or what WANDB_MODE says, and the reason.

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
    try:
        host = TypeAdapter(HttpUrl).validate_python(url).host or ""
    except ValidationError as error:
        raise RequestError(
            f"WANDB_BASE_URL={url}: give an address such as https://api.wandb.ai, or unset it."
        ) from error
    if not has_key(host):
        return "offline", "no API key; `wandb login` stores one"
    if not answers(url, CONNECT_SECONDS):
        return "offline", f"{url} did not answer within {CONNECT_SECONDS} s"
    return "online", ""


def has_key(host: str) -> bool:
    """Tell whether WANDB_API_KEY or the netrc file holds a key for a server."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, ValueError, netrc.NetrcParseError):  # bytes that are no text, too
        return False


def answers(url: str, seconds: float) -> bool:
    """Tell whether a server says anything within so many seconds, a name look-up included.

    `wandb.init` with a short `init_timeout` would tell as well, but prints a traceback for an
    unknown name, and leaves the folder of an online run that never began.
    """
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
