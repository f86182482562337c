"""Train a network: build what the configuration describes, fit, evaluate the best checkpoint."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import wandb
from lightning import seed_everything
from lightning.pytorch.callbacks import WeightAveraging
from omegaconf import DictConfig, OmegaConf

from danet_lightning.checkpoints import loading
from danet_lightning.checkpoints.metadata import dataset_facts, facts_for_module, metadata
from danet_lightning.config.building import build, build_with, request_errors, run_errors
from danet_lightning.config.trainer import (
    build_loggers,
    build_trainer,
    leave_on_sigterm,
    precision,
    quiet,
)
from danet_lightning.data.datamodule import SegmentationDataModule
from danet_lightning.disk.writing import write_atomically
from danet_lightning.errors import RequestError, nearest
from danet_lightning.evaluate.metrics import logged
from danet_lightning.evaluate.module import EvaluationModule
from danet_lightning.evaluate.results import report, track
from danet_lightning.models.segmenter import Network, normalization
from danet_lightning.processes.group import join_group, leave_group
from danet_lightning.train import resuming
from danet_lightning.train.class_weights import resolved
from danet_lightning.train.initialization import initialize
from danet_lightning.train.last_checkpoint import LastCheckpoint
from danet_lightning.train.lightning_state import use_exact_loops

log = logging.getLogger(__name__)

OURS = ("danet_lightning.", "lightning.")  # whose classes log nothing else


def train(config: DictConfig, run_dir: Path) -> None:
    """Train, or go on with a training, then evaluate the best checkpoint and report it."""
    quiet()
    leave_on_sigterm()
    seed_everything(config.seed, workers=True, verbose=False)
    with request_errors():
        checkpoint, content = resuming.find(config.ckpt_path, run_dir) or (None, None)
        config.trainer.precision = precision(config.trainer, content)
        trainer = build_trainer(config)
        if checkpoint is None and not config.init_from:
            require_weights(config.backbone.get("pretrained"))
        datamodule: SegmentationDataModule = build(config, "data", SegmentationDataModule)
        require_monitored(config, datamodule.dataset.classes)
        if "class_weights" in config.loss:
            weights = resolved(config.loss.class_weights, datamodule)
            config.loss.class_weights = config.module.loss.class_weights = weights
        plain: Any = OmegaConf.to_container(config, resolve=True)
        facts = metadata(plain, dataset_facts(datamodule.dataset))
        if checkpoint and content:
            try:
                resuming.refuse_differences(content["danet_lightning"], facts, checkpoint)
                resuming.refuse_other_data(content["data"], datamodule, checkpoint)
            except RequestError:
                if content["global_step"] or config.ckpt_path != "auto":
                    raise
                checkpoint.unlink()  # no step was done, as when the first batch failed
                checkpoint, content = None, None
        if checkpoint and content:
            resuming.refuse_shorter(content, plain["trainer"], checkpoint)
            resuming.refuse_without_best(content, checkpoint, run_dir)
            if resuming.is_finished(run_dir, plain["trainer"]):
                print(
                    f"{run_dir} is finished; its numbers are in results.json. To train longer, "
                    "raise trainer.max_epochs; to train anew, choose another run_dir."
                )
                return
        datamodule.require()
        module = build_module(config, facts, is_resumed=checkpoint is not None)
        trainer.loggers = build_loggers(config, content["global_step"] if content else None)
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
            # the weights that follow are a checkpoint's, and so the average already
            callbacks[:] = [it for it in callbacks if not isinstance(it, WeightAveraging)]
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


def require_weights(pretrained: Any) -> None:
    """Refuse a backbone's weights file that is not there; an identifier may name a package.

    Raises:
        RequestError: With the file.
    """
    is_path = isinstance(pretrained, str) and not pretrained.isidentifier()
    if is_path and not Path(pretrained).is_file():
        raise RequestError(
            f"backbone.pretrained: {pretrained}: no such file; give the path of one, true or false."
        )


def require_monitored(config: DictConfig, classes: Sequence[str]) -> None:
    """Refuse a callback that waits for a metric which no validation measures.

    Where a class of somebody else's takes part, it may log what we do not know.

    Raises:
        RequestError: With the nearest metric there is.
    """
    nodes = {f"callbacks.{name}": node for name, node in config.callbacks.items()}
    if not all(it._target_.startswith(OURS) for it in (config.module, *nodes.values())):
        return
    known = list(logged(torch.zeros(len(classes), len(classes), dtype=torch.int64), classes))
    for key, node in nodes.items():
        monitor = node.get("monitor")
        if monitor is not None and monitor not in (*known, "train/loss"):
            raise RequestError(
                f"{key}.monitor: {monitor}: a training does not measure it{nearest(monitor, known)}"
                f" Known: {', '.join(known)}, train/loss"
            )


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
        options["num_classes"] += 1
        with torch.device("meta"):
            wider = build(config, "model", Network, **options)
        log.info(initialize(net, wider, Path(config.init_from), facts))
    facts |= normalization(net)
    module: EvaluationModule = build_with(
        config, "module", EvaluationModule, net=net, metadata=facts, **facts_for_module(facts)
    )
    return module
