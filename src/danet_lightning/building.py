"""Build what a configuration or a checkpoint describes, and say what was wrong."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from danet_lightning import checkpoint
from danet_lightning.errors import RequestError, RunError


def build(config: DictConfig, key: str, kind: type, **given: Any) -> Any:
    """Build a node of a configuration.

    Args:
        config: the whole of it.
        key: of the node, dotted.
        kind: what is needed there, a class or a protocol.
        given: arguments beside the node's own.

    Raises:
        RequestError: its `_target_` makes something else.
    """
    node = OmegaConf.select(config, key)
    built = instantiate(node, **given, _convert_="all")
    if not isinstance(built, kind):
        raise RequestError(
            f"{key}._target_: {node._target_} makes a {type(built).__name__}, where a "
            f"{kind.__module__}.{kind.__name__} is needed."
        )
    return built


def build_over(own: Mapping[str, Any], given: DictConfig, trusted: Sequence[str]) -> Any:
    """Build a part of a checkpoint's run, with the command line's values in place of its own.

    Args:
        own: the checkpoint's node.
        given: the command line's node. With a `_target_` it counts alone; without, its values
            replace the checkpoint's.
        trusted: packages whose classes the checkpoint may name, beside ours.

    Raises:
        RequestError: the checkpoint wants to call something else.
    """
    if "_target_" in given:
        return instantiate(given, _convert_="all")
    # not by Hydra: a file must not name what is called
    merged = OmegaConf.to_container(OmegaConf.merge(own, given), resolve=True)
    return checkpoint.build(merged, ("danet_lightning", *trusted))


@contextmanager
def request_errors() -> Iterator[None]:
    """What goes wrong while the parts are built is the request's fault, not the run's."""
    try:
        yield
    except InstantiationException as error:
        cause = error.__cause__ or error
        if isinstance(cause, RequestError):
            raise cause from None
        raise RequestError(f"{cause} (while building {full_key(error)})") from error
    except (ValueError, FileNotFoundError, TypeError) as error:
        raise RequestError(str(error)) from error


@contextmanager
def run_errors() -> Iterator[None]:
    """What torch and Lightning find wrong with an option while a network is trained.

    Raises:
        RequestError: Lightning finds an argument wrong where it is used first.
        RunError: an operation has no deterministic implementation.
    """
    # not above: `prepare` and `check` can do without Lightning
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    try:
        yield
    except MisconfigurationException as error:
        raise RequestError(f"{error} (while training)") from error
    except ValueError as error:
        if "val_check_interval" not in str(error):  # which Lightning compares with the batches
            raise
        reason = str(error).strip().partition(". ")[0]
        raise RequestError(
            f"trainer.val_check_interval: {reason}. trainer.check_val_every_n_epoch=null counts "
            "the interval over all epochs."
        ) from error
    except RuntimeError as error:
        if "does not have a deterministic implementation" not in str(error):
            raise
        operation = str(error).partition(", but")[0]
        raise RunError(
            f"trainer.deterministic: {operation}. Use another accelerator, or "
            "trainer.deterministic=warn to be told of such operations and go on."
        ) from error


def full_key(error: InstantiationException) -> str:
    """The config node that could not be built, out of Hydra's message."""
    return str(error).rpartition("full_key:")[2].strip() or "the configuration"
