"""The Trainer of a command, as its configuration and this machine have it."""

import logging
import signal
import sys
import warnings
from typing import Any

import torch
from lightning import Callback, Trainer
from lightning.pytorch import callbacks
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import FSDPStrategy
from omegaconf import DictConfig, OmegaConf

from danet_lightning.config.building import build
from danet_lightning.config.commands import CommandConfig
from danet_lightning.config.rules import marked
from danet_lightning.errors import PLACED, RequestError
from danet_lightning.processes.agreement import Agreement
from danet_lightning.processes.internals import copies_this_process

# Weights in 16 bits lose small steps and batch statistics; in 64, evaluate would count otherwise.
SUPPORTED_PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")
ALTERING = (
    callbacks.BackboneFinetuning,
    callbacks.BatchSizeFinder,
    callbacks.GradientAccumulationScheduler,
    callbacks.LearningRateFinder,
    callbacks.ModelPruning,
    callbacks.StochasticWeightAveraging,
)
PRECISIONS = {"16": "16-mixed", "32": "32-true", "64": "64-true", "bf16": "bf16-mixed"}


def build_trainer(config: DictConfig) -> Trainer:
    """Build the Trainer with its callbacks and the precision of this machine.

    It has no loggers yet: they start processes, and much may be refused before.
    """
    _require_gpu(str(config.trainer.accelerator))
    options: dict[str, Any] = {}
    if config.trainer.precision == "auto":
        options["precision"] = best_precision(config.trainer.accelerator)
    if config.trainer.get("benchmark") == "auto":  # searched anew, an algorithm may be another one
        options["benchmark"] = not config.trainer.deterministic
    names = map(str, config.callbacks)
    built = [build(config, f"callbacks.{name}", Callback) for name in names]
    plain: Any = OmegaConf.to_container(config, resolve=True)
    built.append(Agreement(config, marked(plain, CommandConfig, PLACED)))
    options |= {"logger": False, "callbacks": built}
    epochs, every = config.trainer.max_epochs, config.trainer.get("check_val_every_n_epoch")
    if epochs and every and 0 < epochs < every:  # or the training would have no result
        options["check_val_every_n_epoch"] = epochs
    trainer: Trainer = build(config, "trainer", Trainer, **options)
    refuse_unsupported(trainer, config.trainer.precision)
    return trainer


def build_loggers(config: DictConfig, resumed_step: int | None) -> list[Logger]:
    """Build the loggers of a training.

    Args:
        config: Of the command.
        resumed_step: The step that it goes on from; what TensorBoard has of later ones is dropped.
    """
    purged = {"tensorboard": {"purge_step": resumed_step}} if resumed_step is not None else {}
    names = map(str, config.logger)
    return [build(config, f"logger.{name}", Logger, **purged.get(name, {})) for name in names]


def _require_gpu(accelerator: str) -> None:
    """Refuse an accelerator that this machine does not have.

    Raises:
        RequestError: With what to use instead.
    """
    backends = {
        "gpu": (torch.cuda, torch.backends.mps),
        "cuda": (torch.cuda,),
        "mps": (torch.backends.mps,),
    }
    if accelerator in backends and not any(it.is_available() for it in backends[accelerator]):
        raise RequestError(
            f"trainer.accelerator={accelerator}: PyTorch {torch.__version__} finds none on this "
            "machine. Use trainer=cpu, or look why nvidia-smi or this build of PyTorch shows none."
        )


def refuse_unsupported(trainer: Trainer, precision: Any) -> None:
    """Refuse a strategy, a precision or a callback with which a training would not be as it says.

    Args:
        trainer: As it was built.
        precision: The one that was asked for.

    Raises:
        RequestError: With what to use instead.
    """
    if copies_this_process(trainer.strategy.launcher):
        raise RequestError(
            "trainer.strategy: it copies this process, whose copies would keep the numbers to "
            "themselves. Use trainer.strategy=ddp."
        )
    is_float16 = str(precision).removesuffix("-mixed") == "16"
    if trainer.precision not in SUPPORTED_PRECISIONS or (
        is_float16 and trainer.precision != "16-mixed"
    ):
        raise RequestError(
            f"trainer.precision={precision}: here this is {trainer.precision}. Use 32-true, or "
            "bf16-mixed where the hardware computes in bfloat16."
        )
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, callbacks.WeightAveraging) and isinstance(
            trainer.strategy, FSDPStrategy
        ):
            raise RequestError(
                "averaging: trainer.strategy=fsdp divides the weights among the processes, and no "
                "average can be taken of parts. Use trainer.strategy=ddp, or averaging=null."
            )
        if isinstance(callback, ALTERING):
            raise RequestError(
                f"callbacks: {type(callback).__name__} changes weights, batches or learning rates "
                "behind the back of the schedule and of resuming. Leave it out."
            )


def precision(trainer: DictConfig, content: dict[str, Any] | None) -> Any:
    """Return the precision that a training has: `auto` is chosen once, and recorded.

    Args:
        trainer: The node of the configuration.
        content: Of the checkpoint that the training goes on from.
    """
    if trainer["precision"] != "auto":
        return PRECISIONS.get(str(trainer["precision"]), trainer["precision"])
    if content is not None:
        return content["danet_lightning"]["config"]["trainer"]["precision"]
    return best_precision(trainer["accelerator"])


def best_precision(accelerator: str) -> str:
    """Choose bf16-mixed where training is faster by it, else 32-true.

    On a CPU that is with AMX, its matrix tiles; with the instructions of AVX512 alone, bf16
    measured 1.3 to 1.8 times slower than float32.
    """
    if accelerator != "cpu" and torch.cuda.is_available():
        is_faster = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        is_faster = capabilities.get("amx_bf16", False)
    return "bf16-mixed" if is_faster else "32-true"


def leave_on_sigterm() -> None:
    """End where Lightning would take note of the signal and go on; training has its own way."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


def quiet() -> None:
    """Silence what Lightning says of choices that are made on purpose here."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
        logging.getLogger(name).handlers.clear()  # Hydra's are there already
        logging.getLogger(name).propagate = True
    for asked_for in ("profilers", "callbacks.model_summary"):  # they speak only where they are
        logging.getLogger(f"lightning.pytorch.{asked_for}").setLevel(logging.INFO)
    for chosen in (
        ".*AMP with fp16 is not supported on CPU.*",  # refused in our own words
        ".*does not have many workers.*",  # data.workers is the user's
        ".*exists and is not empty.*",  # the run folder holds the log and the config already
        ".*smaller than the logging interval.*",  # a small data set has short epochs
        ".*dirpath has changed.*",  # resumed into a new run folder: its best starts afresh
        ".*Please add the following callbacks.*",  # what averages weights is done when they are
        ".*sync_dist=True.*",  # the counts are summed over processes before anything is logged
        ".*LeafSpec.*is deprecated.*",  # Lightning's own use of torch
    ):
        warnings.filterwarnings("ignore", chosen)
