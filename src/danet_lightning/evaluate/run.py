"""Evaluate a checkpoint: build what it describes, count, report."""

from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from danet_lightning.checkpoints import loading
from danet_lightning.checkpoints.metadata import facts_for_module
from danet_lightning.checkpoints.rebuilding import PROTOCOL
from danet_lightning.config.building import DATASET, build_over, request_errors
from danet_lightning.config.trainer import build_trainer, leave_on_sigterm, quiet
from danet_lightning.data.datamodule import SegmentationDataModule
from danet_lightning.errors import RequestError
from danet_lightning.evaluate.results import report
from danet_lightning.processes.group import join_group, leave_group


def evaluate(config: DictConfig, run_dir: Path) -> None:
    """Evaluate a checkpoint on a split; the same path as validation during training."""
    quiet()
    leave_on_sigterm()
    with request_errors():
        content = loading.read(config.ckpt_path)
        net = loading.network(content, config.trusted)
        facts = content["danet_lightning"]
        stored = facts["config"]
        dataset = build_over(stored["dataset"], config.dataset, DATASET, config.trusted)
        if list(dataset.classes) != facts["classes"]:
            raise RequestError(
                f"dataset: its classes {list(dataset.classes)} are not the checkpoint's "
                f"{facts['classes']}; evaluate it on the data set it was trained on."
            )
        datamodule = SegmentationDataModule(dataset, validation_split=config.split, **config.data)
        protocol = build_over(stored["protocol"], config.protocol, PROTOCOL, config.trusted)
        # what comes out of the checkpoint does not go through Hydra, which would resolve it
        make = instantiate(config.module, _partial_=True)
        module = make(net=net, protocol=protocol, metadata=facts, **facts_for_module(facts))
        trainer = build_trainer(config)
    join_group(trainer)
    try:
        trainer.validate(module, datamodule, verbose=False)
        report(trainer, module, run_dir, source=str(config.ckpt_path))
    finally:
        leave_group()
