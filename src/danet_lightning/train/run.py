"""Train a network: build what the configuration describes, fit, evaluate the best checkpoint."""

import logging
from pathlib import Path
from typing import Any

import wandb
from lightning import seed_everything
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from danet_lightning.checkpoints import loading
from danet_lightning.checkpoints.metadata import dataset_facts, facts_for_module, metadata
from danet_lightning.config.building import build, build_with, request_errors, run_errors
from danet_lightning.config.trainer import build_trainer, leave_on_sigterm, precision, quiet
from danet_lightning.data.datamodule import SegmentationDataModule
from danet_lightning.disk.writing import write_atomically
from danet_lightning.errors import RequestError
from danet_lightning.evaluate.module import EvaluationModule
from danet_lightning.evaluate.results import report, track
from danet_lightning.models.segmenter import Network, normalization
from danet_lightning.processes.group import join_group, leave_group
from danet_lightning.train import resuming
from danet_lightning.train.last_checkpoint import LastCheckpoint
from danet_lightning.train.lightning_state import use_exact_loops

log = logging.getLogger(__name__)


def train(config: DictConfig, run_dir: Path) -> None:
    """Train, or go on with a training, then evaluate the best checkpoint and report it."""
    quiet()
    leave_on_sigterm()
    seed_everything(config.seed, workers=True, verbose=False)
    with request_errors():
        checkpoint, content = resuming.find(config.ckpt_path, run_dir) or (None, None)
        config.trainer.precision = precision(config.trainer, content)
        plain: Any = OmegaConf.to_container(config, resolve=True)
        datamodule: SegmentationDataModule = build(config, "data", SegmentationDataModule)
        facts = metadata(plain, dataset_facts(datamodule.dataset))
        if checkpoint and content:
            resuming.refuse_differences(content["danet_lightning"], facts, checkpoint)
            resuming.refuse_shorter(content, plain["trainer"], checkpoint)
            resuming.refuse_other_data(content["data"], datamodule, checkpoint)
            resuming.refuse_without_best(content, checkpoint, run_dir)
            if resuming.is_finished(run_dir, plain["trainer"]):
                print(
                    f"{run_dir} is finished; its numbers are in results.json. To train longer, "
                    "raise trainer.max_epochs; to train anew, choose another run_dir."
                )
                return
        module = build_module(config, facts, is_resumed=checkpoint is not None)
        step = content["global_step"] if content else None
        trainer = build_trainer(config, logger=config.logger, resumed_step=step)
    use_exact_loops(trainer)
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    callbacks.sort(key=lambda callback: not isinstance(callback, LastCheckpoint))
    if trainer.is_global_zero:
        text = OmegaConf.to_yaml(config, resolve=True).encode()
        write_atomically(run_dir / "config.yaml", lambda file: file.write(text))
        (run_dir / "results.json").unlink(missing_ok=True)  # of a shorter training
    track(trainer, module)
    join_group(trainer)
    try:
        with run_errors():
            trainer.fit(module, datamodule, ckpt_path=checkpoint, weights_only=True)
            paths = [getattr(it, "best_model_path", "") for it in trainer.checkpoint_callbacks]
            best = next(filter(None, paths), None)  # none when no step was done
            if best:
                loading.read(best)  # says what is wrong with it
            trainer.validate(module, datamodule, ckpt_path=best, verbose=False, weights_only=True)
        trained = resuming.duration(plain["trainer"])
        report(trainer, module, run_dir, best or "the weights as they are", trained=trained)
    finally:
        wandb.finish()  # or the next job of a sweep would write into this run
        leave_group()


def build_module(config: DictConfig, facts: dict[str, Any], is_resumed: bool) -> EvaluationModule:
    """Build network, loss and optimizer, with the weights that a new training starts from.

    Args:
        config: Of the command.
        facts: What a checkpoint says of itself; completed by the network's mean and std.
        is_resumed: Whether a checkpoint will fill the network, as soon as the training begins.
    """
    options: dict[str, Any] = {"num_classes": len(facts["classes"])}
    if (is_resumed or config.init_from) and "pretrained" in config.backbone:
        options["backbone"] = {"pretrained": False}  # a file has better ones
    net = build(config, "model", Network, **options)
    if config.init_from and not is_resumed:
        log.info(initialize(net, config.init_from))
    facts |= normalization(net)
    module: EvaluationModule = build_with(
        config, "module", EvaluationModule, net=net, metadata=facts, **facts_for_module(facts)
    )
    return module


def initialize(net: nn.Module, path: str | Path) -> str:
    """Fill a network with every tensor of a checkpoint that it has too, in the same shape.

    Args:
        net: What finds no counterpart in the file keeps its random values.
        path: Written by a training, or by `convert`.

    Returns:
        Sentences on which tensors were taken, and which were not and why.

    Raises:
        RequestError: The file cannot be read, or no tensor fits.
    """
    content = loading.read(path)["state_dict"].items()
    stored = {name.removeprefix("net."): t for name, t in content if isinstance(t, Tensor)}
    wanted = net.state_dict()
    fits = {
        name: t for name, t in stored.items() if name in wanted and t.shape == wanted[name].shape
    }
    if not any(tensor.is_floating_point() for tensor in fits.values()):
        raise RequestError(
            f"init_from: none of the {len(stored)} tensors of {path} fits the model. Choose the "
            "same backbone as there."
        )
    net.load_state_dict(fits, strict=False)
    lists = {
        "of another shape, left random": [n for n in wanted if n in stored and n not in fits],
        "not in the file, left random": [n for n in wanted if n not in stored],
        "in the file, not used": [
            n for n in stored if n not in wanted and not n.startswith("confusion")
        ],
    }
    lines = [f"init_from: {len(fits)} of {len(wanted)} tensors taken from {path}"]
    return "\n  ".join([*lines, *(f"{k}: {', '.join(v)}" for k, v in lists.items() if v)])
