"""Build what a configuration describes, and run it."""

import json
import logging
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import wandb
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning import Trainer, seed_everything
from lightning.pytorch.loggers import CSVLogger
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from danet_lightning import checkpoint, metrics
from danet_lightning.errors import RequestError

if TYPE_CHECKING:
    from danet_lightning.data.datamodule import SegmentationDataModule
    from danet_lightning.module import EvaluationModule

log = logging.getLogger(__name__)

PACKAGES = ("danet-lightning", "torch", "torchvision", "lightning", "albumentations", "numpy")


def fit(config: DictConfig, run_dir: Path) -> None:
    """Train, then evaluate the best checkpoint and report it."""
    quiet()
    seed_everything(config.seed, workers=True, verbose=False)
    with request_errors():
        if config.ckpt_path is not None:
            checkpoint.read(config.ckpt_path)
        datamodule: SegmentationDataModule = instantiate(config.dataset, _convert_="all")
        net = instantiate(config.model, num_classes=len(datamodule.classes), _convert_="all")
        facts = dataset_facts(datamodule)
        module: EvaluationModule = instantiate(
            config.module, net=net, **facts_for_module(facts), _convert_="all"
        )
        trainer = build_trainer(config, logger=config.logger)
    module.metadata = metadata(config, len(facts["classes"]), facts)
    if trainer.is_global_zero:
        OmegaConf.save(config, run_dir / "config.yaml", resolve=True)
    track(trainer, module.metadata, module.protocol.describe())
    try:
        trainer.fit(module, datamodule, ckpt_path=config.ckpt_path, weights_only=True)
        best = best_checkpoint(trainer)
        trainer.validate(module, datamodule, ckpt_path=best, verbose=False, weights_only=True)
        report(trainer, module, run_dir, split="val", source=best or "the weights as they are")
    finally:
        wandb.finish()  # or the next job of a sweep would write into this run


def evaluate(config: DictConfig, run_dir: Path) -> None:
    """Evaluate a checkpoint on a split; the same path as validation during training."""
    quiet()
    with request_errors():
        facts = checkpoint.read(config.ckpt_path)["danet_lightning"]
        net = checkpoint.load(config.ckpt_path, trusted=config.trusted)
        datamodule = build_dataset(config, facts)
        if list(datamodule.classes) != facts["classes"]:
            raise RequestError(
                f"dataset: its classes {list(datamodule.classes)} are not the checkpoint's "
                f"{facts['classes']}; evaluate it on the data set it was trained on."
            )
        module = instantiate(
            config.module, net=net, protocol=net.protocol, **facts_for_module(facts)
        )
        trainer = build_trainer(config, logger=None)
    module.metadata = facts
    datamodule.validation_split = config.split
    trainer.validate(module, datamodule, verbose=False)
    report(trainer, module, run_dir, split=config.split, source=str(config.ckpt_path))


def build_trainer(config: DictConfig, logger: DictConfig | None) -> Trainer:
    """The Trainer with its loggers and callbacks, and the precision that this machine has."""
    options: dict[str, Any] = {}
    if config.trainer.precision == "auto":
        options["precision"] = best_precision(config.trainer.accelerator)
    loggers = list(instantiate(logger, _convert_="all").values()) if logger else []
    callbacks = list(instantiate(config.callbacks, _convert_="all").values())
    trainer: Trainer = instantiate(
        config.trainer, logger=loggers or False, callbacks=callbacks, _convert_="all", **options
    )
    return trainer


def best_precision(accelerator: str) -> str:
    """bf16-mixed where the hardware computes in bfloat16, else 32-true."""
    if accelerator != "cpu" and torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        native = capabilities.get("avx512_bf16", False) or capabilities.get("amx_bf16", False)
    return "bf16-mixed" if native else "32-true"


def build_dataset(config: DictConfig, facts: dict[str, Any]) -> "SegmentationDataModule":
    """The data set of the command line, or the checkpoint's own with the values given there."""
    given = config.dataset or OmegaConf.create({})
    datamodule: SegmentationDataModule
    if "_target_" in given:
        datamodule = instantiate(given, _convert_="all")
    else:  # not by Hydra: a file must not name what is called
        merged = OmegaConf.merge(facts["config"]["dataset"], given)
        own = OmegaConf.to_container(merged, resolve=True)
        datamodule = checkpoint.build(own, ("danet_lightning", *config.trusted))
    return datamodule


def dataset_facts(datamodule: Any) -> dict[str, Any]:
    """What a checkpoint has to know of its data set, as plain lists."""
    return {
        "classes": [str(name) for name in datamodule.classes],
        "palette": [[int(value) for value in color] for color in datamodule.palette],
        "mean": [float(value) for value in datamodule.mean],
        "std": [float(value) for value in datamodule.std],
    }


def facts_for_module(facts: dict[str, Any]) -> dict[str, Any]:
    """The part of the facts that computing needs."""
    return {key: facts[key] for key in ("classes", "mean", "std")}


def metadata(config: DictConfig, num_classes: int, facts: dict[str, Any]) -> dict[str, Any]:
    """Everything a checkpoint says of itself, in plain containers: it loads with weights_only."""
    plain: Any = OmegaConf.to_container(config, resolve=True)
    plain["model"]["num_classes"] = num_classes
    if "pretrained" in plain["backbone"]:  # its weights are in the checkpoint
        plain["model"]["backbone"]["pretrained"] = False
    return {"config": plain, **facts, "git_commit": git_commit(), "versions": versions()}


def versions() -> dict[str, str]:
    """Installed versions of what decides a number."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def git_commit() -> str | None:
    """Commit of the code that runs, with '+changes' if the tree differs; None in a wheel."""
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--dirty=+changes"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def track(trainer: Trainer, facts: dict[str, Any], protocol: dict[str, Any]) -> None:
    """Tell the tracker what is run; the run folder's config.yaml says it already."""
    told = {**facts["config"], "protocol": protocol}
    told |= {key: facts[key] for key in ("git_commit", "versions", "classes")}
    for logger in trainer.loggers:
        if not isinstance(logger, CSVLogger):
            logger.log_hyperparams(told)


def best_checkpoint(trainer: Trainer) -> str | None:
    """Path of the best checkpoint; None when nothing was trained (trainer.max_epochs=0)."""
    return getattr(trainer.checkpoint_callback, "best_model_path", "") or None


def report(
    trainer: Trainer, module: "EvaluationModule", run_dir: Path, split: str, source: str
) -> None:
    """Print the table and leave results.json: every number with its protocol."""
    matrix: Tensor = module.confusion.compute().cpu()
    if not trainer.is_global_zero:
        return
    loader: Any = trainer.val_dataloaders
    largest, constant = metrics.constant_predictor(matrix)
    results: dict[str, Any] = {
        **metrics.scores(matrix),
        "class_iou": dict(zip(module.classes, metrics.class_iou(matrix).tolist(), strict=True)),
        "protocol": {
            **module.protocol.describe(),
            "split": split,
            "images": len(loader.dataset),
        },
        "checkpoint": source,
        "confusion_matrix": matrix.tolist(),
    }
    (run_dir / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    protocol = ", ".join(f"{key} {value}" for key, value in results["protocol"].items())
    protocol = protocol.removeprefix("name ")
    print(f"\n{metrics.table(matrix, module.classes)}")
    print(f"a constant predictor, '{module.classes[largest]}' everywhere: mIoU {constant:.4f}\n")
    print(f"checkpoint  {source}\nprotocol    {protocol}\nrun folder  {run_dir}")


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


def full_key(error: InstantiationException) -> str:
    """The config node that could not be built, out of Hydra's message."""
    return str(error).rpartition("full_key:")[2].strip() or "the configuration"


def quiet() -> None:
    """Silence what Lightning says of choices that are made on purpose here."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
        logging.getLogger(name).handlers.clear()  # Hydra's are there already
    for chosen in (
        ".*does not have many workers.*",  # dataset.workers is the user's
        ".*exists and is not empty.*",  # the run folder holds the log and the config already
        ".*smaller than the logging interval.*",  # a small data set has short epochs
        ".*dirpath has changed.*",  # resumed into a new run folder: its best starts afresh
        ".*sync_dist=True.*",  # the counts are summed over processes before anything is logged
        ".*LeafSpec.*is deprecated.*",  # Lightning's own use of torch
    ):
        warnings.filterwarnings("ignore", chosen)
