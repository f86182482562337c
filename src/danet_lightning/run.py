"""Build what a configuration describes, and run it."""

import logging
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
import wandb
from hydra.utils import instantiate
from lightning import Callback, Trainer, seed_everything
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf
from torch import distributed
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from danet_lightning import checkpoint, resuming
from danet_lightning.agreement import Agreement
from danet_lightning.building import DATASET, build, build_over, request_errors, run_errors
from danet_lightning.data.datamodule import SegmentationDataModule
from danet_lightning.errors import RequestError
from danet_lightning.inference import Network
from danet_lightning.initialization import initialize
from danet_lightning.last_checkpoint import LastCheckpoint
from danet_lightning.lightning_state import use_exact_loops
from danet_lightning.module import EvaluationModule
from danet_lightning.provenance import dataset_facts, facts_for_module, metadata
from danet_lightning.rebuilding import PROTOCOL
from danet_lightning.results import report, track
from danet_lightning.unsupported import refuse_unsupported
from danet_lightning.writing import write_atomically

log = logging.getLogger(__name__)

PRECISIONS = {"16": "16-mixed", "32": "32-true", "64": "64-true", "bf16": "bf16-mixed"}


def fit(config: DictConfig, run_dir: Path) -> None:
    """Train, or go on with a training, then evaluate the best checkpoint and report it."""
    quiet()
    leave_on_sigterm()
    seed_everything(config.seed, workers=True, verbose=False)
    with request_errors():
        found = resuming.find(config.ckpt_path, run_dir)
        config.trainer.precision = precision(config.trainer, found and found[1])
        plain: Any = OmegaConf.to_container(config, resolve=True)
        datamodule: SegmentationDataModule = build(config, "dataset", SegmentationDataModule)
        facts = metadata(plain, dataset_facts(datamodule))
        resumed, step = None, 0
        if found:
            resumed, content = found
            step = content["global_step"]
            resuming.refuse_differences(content["danet_lightning"], facts, resumed)
            resuming.refuse_shorter(content, plain["trainer"], resumed)
            resuming.refuse_other_data(content["data"], datamodule, resumed)
            resuming.refuse_without_best(content, resumed, run_dir)
        if resumed and resuming.is_finished(run_dir, plain["trainer"]):
            print(f"{run_dir} is finished; its numbers are in results.json. To train longer, raise "
                  "trainer.max_epochs; to train anew, choose another run_dir.")  # fmt: skip
            return
        module = build_module(config, facts, is_resumed=resumed is not None)
        if resumed and "tensorboard" in config.logger:
            config.logger.tensorboard.purge_step = step
        trainer = build_trainer(config, logger=config.logger)
    if trainer.is_global_zero:
        text = OmegaConf.to_yaml(config, resolve=True).encode()
        write_atomically(run_dir / "config.yaml", lambda file: file.write(text))
        (run_dir / "results.json").unlink(missing_ok=True)  # of a shorter training
    track(trainer, module)
    join_group(trainer)
    try:
        with run_errors():
            trainer.fit(module, datamodule, ckpt_path=resumed, weights_only=True)
            best = best_checkpoint(trainer)
            if best:
                checkpoint.read(best)  # says what is wrong with it
            trainer.validate(module, datamodule, ckpt_path=best, verbose=False, weights_only=True)
        trained = resuming.duration(plain["trainer"])
        report(trainer, module, run_dir, best or "the weights as they are", trained=trained)
    finally:
        wandb.finish()  # or the next job of a sweep would write into this run
        leave_group()


def build_module(config: DictConfig, facts: dict[str, Any], is_resumed: bool) -> EvaluationModule:
    """The network, its loss and its optimizer, with the weights that the request asks for."""
    options: dict[str, Any] = {"num_classes": len(facts["classes"])}
    if (is_resumed or config.init_from) and "pretrained" in config.backbone:
        options["backbone"] = {"pretrained": False}  # a file has better ones
    net = build(config, "model", Network, **options)
    if config.init_from and not is_resumed:
        log.info(initialize(net, config.init_from))
    module: EvaluationModule = build(
        config, "module", EvaluationModule, net=net, **facts_for_module(facts)
    )
    module.metadata = facts
    return module


def evaluate(config: DictConfig, run_dir: Path) -> None:
    """Evaluate a checkpoint on a split; the same path as validation during training."""
    quiet()
    leave_on_sigterm()
    with request_errors():
        content = checkpoint.read(config.ckpt_path)
        net = checkpoint.restore(content, config.trusted)
        facts = content["danet_lightning"]
        own = facts["config"]
        datamodule = build_over(own["dataset"], config.dataset, DATASET, config.trusted)
        if list(datamodule.classes) != facts["classes"]:
            raise RequestError(
                f"dataset: its classes {list(datamodule.classes)} are not the checkpoint's "
                f"{facts['classes']}; evaluate it on the data set it was trained on."
            )
        protocol = build_over(own["protocol"], config.protocol, PROTOCOL, config.trusted)
        # what comes out of the checkpoint does not go through Hydra, which would resolve it
        make = instantiate(config.module, _partial_=True)
        module = make(net=net, protocol=protocol, **facts_for_module(facts))
        trainer = build_trainer(config, logger=None)
    module.metadata = facts
    datamodule.validation_split = config.split
    join_group(trainer)
    try:
        trainer.validate(module, datamodule, verbose=False)
        report(trainer, module, run_dir, source=str(config.ckpt_path))
    finally:
        leave_group()


def build_trainer(config: DictConfig, logger: DictConfig | None) -> Trainer:
    """The Trainer with its loggers and callbacks, and the precision that this machine has."""
    options: dict[str, Any] = {}
    if config.trainer.precision == "auto":
        options["precision"] = best_precision(config.trainer.accelerator)
    loggers = [build(config, f"logger.{name}", Logger) for name in map(str, logger or ())]
    names = map(str, config.callbacks)
    callbacks = [build(config, f"callbacks.{name}", Callback) for name in names]
    plain: Any = OmegaConf.to_container(config, resolve=True)
    callbacks.append(Agreement(plain))
    options |= {"logger": loggers or False, "callbacks": callbacks}
    trainer: Trainer = build(config, "trainer", Trainer, **options)
    refuse_unsupported(trainer, config.trainer.precision)
    use_exact_loops(trainer)
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    callbacks.sort(key=lambda callback: not isinstance(callback, LastCheckpoint))
    return trainer


def precision(trainer: DictConfig, content: dict[str, Any] | None) -> Any:
    """The precision that a training has: `auto` is chosen once, and recorded.

    Args:
        trainer: the node of the configuration.
        content: of the checkpoint that the training goes on from.
    """
    if trainer["precision"] != "auto":
        return PRECISIONS.get(str(trainer["precision"]), trainer["precision"])
    if content is not None:
        return content["danet_lightning"]["config"]["trainer"]["precision"]
    return best_precision(trainer["accelerator"])


def best_precision(accelerator: str) -> str:
    """bf16-mixed where training is faster by it, else 32-true.

    On a CPU that is with AMX, its matrix tiles; with the instructions of AVX512 alone, bf16
    measured 1.3 to 1.8 times slower than float32.
    """
    if accelerator != "cpu" and torch.cuda.is_available():
        is_faster = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        is_faster = capabilities.get("amx_bf16", False)
    return "bf16-mixed" if is_faster else "32-true"


def join_group(trainer: Trainer) -> None:
    """Meet the processes of this start: after a restart, torchrun still knows the dead ones.

    Lightning takes a group that is there. Only on one machine: torchrun's count is each machine's.
    """
    torchrun = os.environ
    has_store = torchrun.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if trainer.world_size == 1 or not has_store or torchrun.get("GROUP_WORLD_SIZE") != "1":
        return
    address = torchrun["MASTER_ADDR"], int(torchrun["MASTER_PORT"])
    store = TCPStore(*address, is_master=False)
    distributed.init_process_group(
        "nccl" if trainer.strategy.root_device.type == "cuda" else "gloo",
        store=PrefixStore(f"start_{torchrun['TORCHELASTIC_RESTART_COUNT']}", store),
        rank=int(torchrun["RANK"]),
        world_size=int(torchrun["WORLD_SIZE"]),
    )


def leave_group() -> None:
    """Take leave of the other processes: without it, gloo sometimes aborts at the very end."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def best_checkpoint(trainer: Trainer) -> str | None:
    """Path of the best checkpoint; None when nothing was trained (trainer.max_epochs=0)."""
    paths = [getattr(callback, "best_model_path", "") for callback in trainer.checkpoint_callbacks]
    return next(filter(None, paths), None)


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
        ".*does not have many workers.*",  # dataset.workers is the user's
        ".*exists and is not empty.*",  # the run folder holds the log and the config already
        ".*smaller than the logging interval.*",  # a small data set has short epochs
        ".*dirpath has changed.*",  # resumed into a new run folder: its best starts afresh
        ".*sync_dist=True.*",  # the counts are summed over processes before anything is logged
        ".*LeafSpec.*is deprecated.*",  # Lightning's own use of torch
    ):
        warnings.filterwarnings("ignore", chosen)
