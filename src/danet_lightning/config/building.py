"""Build what a configuration or a checkpoint describes, and say what was wrong."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from danet_lightning.checkpoints.kinds import Kind
from danet_lightning.data.base import DataSet
from danet_lightning.errors import RequestError, RunError
from danet_lightning.processes.internals import is_of_compiler, is_restoring

DATASET = Kind("dataset", (DataSet,), "danet_lightning.data")


def build(config: DictConfig, key: str, kind: type, **arguments: Any) -> Any:
    """Build a node of a configuration.

    Args:
        config: The whole of it.
        key: Of the node, dotted.
        kind: What is needed there, a class or a protocol.
        arguments: Arguments beside the node's own.

    Raises:
        RequestError: Its `_target_` makes something else.
    """
    return _of_kind(
        instantiate(OmegaConf.select(config, key), **arguments, _convert_="all"), kind, key
    )


def build_with(config: DictConfig, key: str, kind: type, **parts: Any) -> Any:
    """Build a node with parts that are there already, which Hydra must not look into.

    Raises:
        RequestError: It cannot be built of these, or makes something else.
    """
    make = instantiate(OmegaConf.select(config, key), _partial_=True, _convert_="all")
    try:
        return _of_kind(make(**parts), kind, key)
    except (TypeError, ValueError) as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(f"{error} (while building {key})") from error


def _of_kind(built: Any, kind: type, key: str) -> Any:
    if not isinstance(built, kind):
        raise RequestError(
            f"{key}._target_: it makes a {type(built).__name__}, where a "
            f"{kind.__module__}.{kind.__name__} is needed."
        )
    return built


def build_over(
    stored: Mapping[str, Any], changes: DictConfig, kind: Kind, trusted: Sequence[str]
) -> Any:
    """Build a part of a checkpoint's run, with the command line's values in place of its own.

    Args:
        stored: The checkpoint's node.
        changes: The command line's node. With a `_target_` it counts alone; without, its values
            replace the checkpoint's. Interpolations in it are resolved, in `stored` they are not.
        kind: What is wanted.
        trusted: Packages whose classes the checkpoint may name, beside ours.

    Raises:
        RequestError: The checkpoint wants to call something else, or the command line does.
    """
    from danet_lightning.checkpoints import rebuilding  # it needs torch, and `check` does not

    if "_target_" in changes:
        built = instantiate(changes, _convert_="all")
        for base in kind.bases:
            _of_kind(built, base, kind.name)
        return built
    values: Any = OmegaConf.to_container(changes, resolve=True)
    return rebuilding.build(_merged(stored, values), kind, trusted, typed=values)


def _merged(stored: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Replace values at any depth; unlike OmegaConf, resolve no interpolation of the checkpoint."""
    merged = dict(stored)
    for key, value in changes.items():
        is_deeper = isinstance(value, dict) and isinstance(stored.get(key), dict)
        merged[key] = _merged(stored[key], value) if is_deeper else value
    return merged


@contextmanager
def request_errors() -> Iterator[None]:
    """Raise what goes wrong while parts are built as a RequestError, which names the part."""
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
    """Turn errors of torch and Lightning during a training into ours, which name the option at
    fault.

    Raises:
        RequestError: Lightning finds an argument wrong where it is used first, or cannot restore
            the state in a checkpoint.
        RunError: An operation has no deterministic implementation, or a network no compiled one.
    """
    # not above: `prepare` and `check` can do without Lightning
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    try:
        yield
    except (RequestError, RunError):
        raise
    except MisconfigurationException as error:
        raise RequestError(f"{error} (while training)") from error
    except Exception as error:
        if is_restoring(error):
            raise RequestError(
                "ckpt_path: the state of the training in the checkpoint is damaged or of another "
                f"training ({type(error).__name__}: {str(error)[:200]}). Take only its weights "
                "with init_from=..., or start anew."
            ) from error
        if isinstance(error, ValueError) and "val_check_interval" in str(error):
            reason = str(error).strip().partition(". ")[0]  # compared with the batches of an epoch
            raise RequestError(
                f"trainer.val_check_interval: {reason}. trainer.check_val_every_n_epoch=null "
                "counts the interval over all epochs."
            ) from error
        if "Expected more than 1 value per channel" in str(error):
            raise RequestError(
                "batch_size: with one image for a process at a time, batch norm cannot learn from "
                "an average over the whole image, as in PSPNet and DeepLabV3. Give two or more "
                "for each process and part of an accumulated step."
            ) from error
        if is_of_compiler(error):
            raise RunError(
                f"compile: {type(error).__name__}: {str(error).strip().splitlines()[0][:300]} "
                "Use compile=false, or a network and a machine that torch.compile can do with."
            ) from error
        if "does not have a deterministic implementation" not in str(error):
            raise
        operation = str(error).partition(", but")[0]
        raise RunError(
            f"trainer.deterministic: {operation}. Use another accelerator, or "
            "trainer.deterministic=warn to be told of such operations and go on."
        ) from error


def full_key(error: InstantiationException) -> str:
    """Return the config node that could not be built, out of Hydra's message."""
    return str(error).rpartition("full_key:")[2].strip() or "the configuration"
