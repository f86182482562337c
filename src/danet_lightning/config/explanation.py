"""What a user is told of a request that cannot be met."""

import re
import shlex
import sys
from typing import NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote
from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from danet_lightning.config.spelling import literal
from danet_lightning.errors import RequestError, first_line, nearest
from danet_lightning.processes.launching import rank, started_outside


def explain(error: BaseException) -> str:
    """Say in words what was wrong with a request."""
    text = str(error)
    match error:
        case RequestError():  # from a DataLoader worker it comes with the worker's traceback
            kind = type(error)
            text = text.rpartition(f"{kind.__module__}.{kind.__name__}: ")[2].rstrip()
            return text + (_check_of_all() if error.is_listed_by_check else "")
        case OverrideParseException():
            return _unreadable(error.override, error.message)
        case MissingConfigException():
            group, _, option = (error.missing_cfg_file or "").rpartition("/")
            options = list(error.options or [])
            listed = ", ".join(options) or "none"
            return f"{group}={option}: no such option{nearest(option, options)} Options: {listed}"
        case OSError():
            name = error.filename or "into it"
            return f"run_dir: cannot write {name} ({error.strerror}); set run_dir=..."
        case ValueError() if isinstance(error.__cause__, OSError):  # the log file
            return explain(error.__cause__)
    cause = error.__cause__
    if not isinstance(cause, OmegaConfBaseException):
        return text
    added = re.search(r"use (\+(?!hydra).*)", text)  # a key that the schema knows, or Hydra's own
    reason = f"no file sets it; write {added[1]}" if added else first_line(cause)
    return f"{cause.full_key}: {reason}"


def _check_of_all() -> str:
    """Offer the command that lists all that is wrong with the data of a training."""
    if not HydraConfig.initialized() or HydraConfig.get().job.name != "train":
        return ""
    overrides = HydraConfig.get().overrides.task
    words = [shlex.quote(each) for each in overrides if each.lstrip("+").startswith("dataset")]
    return f"\nAll that is wrong with the data is listed by: danet check {' '.join(words)}".rstrip()


def refuse(error: BaseException) -> NoReturn:
    """Say what was wrong with the request, and end."""
    if rank() == 0 or not started_outside():  # torchrun's processes all read the same request
        print(explain(error), file=sys.stderr)
    sys.exit(2)


def _unreadable(override: str, reason: str) -> str:
    _, _, value = override.partition("=")
    sentence = f"{override!r} cannot be read ({reason.splitlines()[0]})"
    remedy = literal(override, quote=Quote.double)
    if remedy != override:
        return f"{sentence}; quote: {shlex.quote(remedy)}"
    if value[:1] in ("[", "{"):
        return (
            f'{sentence}; a list is [a,b], with quotation marks around what is unusual: [a,"b, c"]'
        )
    return f"{sentence}; a key is made of ASCII letters, digits and dots"
