"""What a run tells of itself: to the tracker before it starts, and its numbers at the end."""

import json
import math
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning import Trainer
from lightning.pytorch.loggers import WandbLogger
from torch import Tensor, cuda

from danet_lightning.checkpoints.metadata import git_commit, versions
from danet_lightning.data.samples.cores import cores
from danet_lightning.disk.writing import write_content
from danet_lightning.evaluate import metrics

if TYPE_CHECKING:
    from danet_lightning.evaluate.module import EvaluationModule


def track(trainer: Trainer, module: "EvaluationModule") -> None:
    """Send what is run to the loggers, such as W&B; the run folder has it in config.yaml."""
    facts = module.metadata
    facts_of_run = {**facts["config"], "protocol": module.protocol.describe()}
    facts_of_run |= {key: facts[key] for key in ("git_commit", "versions", "classes")}
    for logger in trainer.loggers:
        logger.log_hyperparams(facts_of_run)


def report(
    trainer: Trainer,
    module: "EvaluationModule",
    run_dir: Path,
    source: str,
    trained: Mapping[str, Any] | None = None,
) -> None:
    """Print the table, leave results.json and the tracker's summary: numbers with their protocol.

    Args:
        trainer: Has just validated.
        module: Has counted.
        run_dir: Where results.json goes.
        source: The checkpoint, in words.
        trained: What limited the training that this ends, by which it is known to be finished.
    """
    matrix = module.confusion.compute().cpu()
    if not trainer.is_global_zero:
        return
    protocol = protocol_facts(trainer, module)
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    of = len(trainer.val_dataloaders.dataset)  # type: ignore[union-attr]
    class_iou = zip(module.classes, metrics.class_iou(matrix).tolist(), strict=True)
    results: dict[str, Any] = {
        **{name: _or_none(score) for name, score in metrics.scores(matrix).items()},
        "class_iou": {name: _or_none(iou) for name, iou in class_iou},
        "absent_classes": metrics.absent(matrix, module.classes),
        "partial": protocol["images"] < of,
        "images_of_split": of,
        "images_without_labels": int(module.images[1]),
        "protocol": protocol,
        "data": data.fingerprints(),
        "checkpoint": source,
        "git_commit": git_commit(),
        "versions": versions(),
        "machine": machine(trainer),
        "parameters": sum(parameter.numel() for parameter in module.net.parameters()),
        "gammas": module.gammas(),
        "cost": module.cost(),
    }
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.summary.update({"results": results})
    results |= {"trained": trained, "confusion_matrix": matrix.tolist()}
    text = json.dumps(results, indent=1, allow_nan=False) + "\n"
    write_content(run_dir / "results.json", text.encode())
    if results["partial"]:
        print(f"\nPARTIAL: {protocol['images']} of the {of} images of the split were evaluated.")
    if results["images_without_labels"]:
        print(f"\n{results['images_without_labels']} of the images have no labelled pixel.")
    _print(matrix, module.classes, protocol)
    print(f"checkpoint  {source}\nrun folder  {run_dir}")


def machine(trainer: Trainer) -> dict[str, Any]:
    """Tell what the time of a run depends on: the device, and how many processes have one each."""
    device = trainer.strategy.root_device
    name = f"{platform.machine()}, {cores()} cores"
    if device.type == "cuda":
        name = cuda.get_device_name(device)
    return {"host": platform.node(), "device": name, "processes": trainer.world_size}


def protocol_facts(trainer: Trainer, module: "EvaluationModule") -> dict[str, Any]:
    """Return everything that two numbers must have in common before they are compared."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    return {
        **module.protocol.describe(),
        "dataset": type(data.dataset).__name__,
        "label_source": data.dataset.label_source,
        "split": data.validation_split,
        "images": int(module.images[0]),
    }


def _or_none(value: float) -> float | None:
    """Return None for NaN, which is no JSON."""
    return None if math.isnan(value) else value


def _print(matrix: Tensor, classes: tuple[str, ...], protocol: dict[str, Any]) -> None:
    largest, constant = metrics.constant_predictor(matrix)
    print(f"\n{metrics.table(matrix, classes)}")
    print(f"a constant predictor, '{classes[largest]}' everywhere: mIoU {constant:.4f}\n")
    shown = [f"{key} {value}" for key, value in protocol.items() if value is not None]
    print(f"protocol    {', '.join(shown).removeprefix('name ')}")
