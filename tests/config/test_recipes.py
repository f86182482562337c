"""The published recipes, checked and replayed against the closed forms of their sources."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hydra
import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import nn

from danet_lightning.config.commands import TrainConfig
from danet_lightning.config.overrides import compose, compose_common, points
from danet_lightning.config.request import conf_dir, validate
from danet_lightning.data.cityscapes import Cityscapes
from danet_lightning.data.cocostuff10k import CocoStuff10k
from danet_lightning.data.pascal_context import PascalContext
from danet_lightning.data.samples.sampler import EpochSampler
from danet_lightning.data.voc2012 import Voc2012
from danet_lightning.train.module import SegmentationModule

EXPERIMENTS = sorted(path.stem for path in (conf_dir() / "experiment").glob("*.yaml"))
PLACE = ["run_dir=here", "sweep_dir=there"]


@pytest.fixture(autouse=True)
def initialized() -> Iterator[None]:
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        yield


def swept(experiment: str) -> list[list[str]]:
    """The overrides of each point of an experiment that is a sweep."""
    words = [f"experiment={experiment}", *PLACE]
    return [row for row, _ in points(words, compose_common("train", words))]


def composed(experiment: str, *overrides: str) -> DictConfig:
    return compose("train", [f"experiment={experiment}", *PLACE, *overrides])


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_is_a_valid_request(experiment: str) -> None:
    validate(composed(experiment), TrainConfig)


@pytest.mark.parametrize("experiment", [e for e in EXPERIMENTS if not e.startswith("ablation")])
def test_every_experiment_takes_another_head(experiment: str) -> None:
    """The ablations are of DANet's branches; its CAM is the authors' by default."""
    validate(composed(experiment, "model=pspnet"), TrainConfig)
    assert composed(experiment).model.cam_variant == "official"


# images, iterations an epoch (the authors' loader drops what fills no batch), epochs, lr
AUTHORS = {
    "cityscapes_r101": (Cityscapes.images["train"], 371, 240, 0.01),
    "cityscapes_r101_authors": (Cityscapes.images["train"], 371, 240, 0.003),
    "voc2012_r101": (Voc2012.images["train_aug"], 661, 240, 0.01),
    "pascal_context_r101": (PascalContext.images["train"], 312, 240, 0.01),
    "cocostuff10k_r101": (CocoStuff10k.images["train"], 562, 180, 0.01),
}


@pytest.mark.parametrize(
    "experiment",
    [
        pytest.param(name, marks=[] if name == "cityscapes_r101" else [pytest.mark.slow])
        for name in AUTHORS
    ],
)
def test_learning_rates_are_the_authors(experiment: str) -> None:
    """Their LR_Scheduler: lr * (1 - T / N)^0.9 with T = epoch * iterations + i; the head x 10."""
    images, iterations, epochs, lr = AUTHORS[experiment]
    found = rates(composed(experiment), images)
    total = iterations * epochs
    assert len(found) == total
    for i in (0, 1, 1000, total - 1):
        expected = lr * pow(1 - 1.0 * i / total, 0.9)
        assert found[i] == pytest.approx([expected, 10 * expected], rel=0, abs=1e-12), i


def test_learning_rates_are_mmsegmentations() -> None:
    """Their PolyLR: (lr - eta_min) * (1 - i / N)^0.9 + eta_min, for all parameters alike."""
    found = rates(composed("cityscapes_r101_mmseg"), Cityscapes.images["train"])
    assert len(found) == 40000
    for i in (0, 1, 1000, 39999):
        expected = (0.01 - 1e-4) * pow(1 - i / 40000, 0.9) + 1e-4
        assert found[i] == pytest.approx([expected, expected], rel=0, abs=1e-12), i


class TinyNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = nn.Linear(1, 1), nn.Linear(1, 1)


def rates(config: DictConfig, images: int) -> list[list[float]]:
    """Learning rates of backbone and head at each iteration of the whole training."""
    iterations = len(EpochSampler(images, config.batch_size)) // config.batch_size
    steps = config.trainer.get("max_steps", -1)
    steps = steps if steps > 0 else config.trainer.max_epochs * iterations
    facts: dict[str, Any] = {"classes": ["a"], "mean": [0.0], "std": [1.0]}
    module = instantiate(config.module, net=TinyNet(), **facts, _convert_="all")
    assert isinstance(module, SegmentationModule)
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    trainer = SimpleNamespace(estimated_stepping_batches=steps, strategy=strategy, precision=32)
    module._trainer = trainer  # type: ignore[assignment]
    parts = module.configure_optimizers()
    optimizer, schedule = parts["optimizer"], parts["lr_scheduler"]["scheduler"]
    found = []
    optimizer.step()  # once: the schedule wants to come second
    for _ in range(steps):
        found.append([group["lr"] for group in optimizer.param_groups])
        schedule.step()
    return found


@pytest.mark.parametrize(
    ("source", "array", "experiment", "weights"),
    [
        ("official_danet_r50", "multi_grid", "cityscapes_r101_authors", (1, 1, 1)),
        ("mmseg_danet_r50", "heads", "cityscapes_r101_mmseg", (1, 1, 1, 0.4)),
    ],
)
def test_the_loss_on_golden_logits_is_the_sources_sum(
    source: str, array: str, experiment: str, weights: tuple[float, ...], seed: int
) -> None:
    """Means over labelled pixels, added up; computed in float64 from the definition."""
    with np.load(Path(__file__).parents[1] / "golden" / f"{source}.npz") as arrays:
        logits = arrays[array]  # (outputs, 19, h, w)
    mask = np.random.default_rng(seed).integers(0, 20, logits.shape[-2:])
    mask[mask == 19] = 255
    expected = 0.0
    rows, columns = np.nonzero(mask != 255)
    for output, weight in zip(logits.astype(np.float64), weights, strict=True):
        logs = output - np.log(np.exp(output).sum(0))
        expected -= weight * logs[mask[rows, columns], rows, columns].mean()
    loss = instantiate(composed(experiment).loss)
    names = ("fused", "position", "channel", "aux")
    outputs = {n: torch.from_numpy(one)[None] for n, one in zip(names, logits, strict=False)}
    terms = loss(outputs, torch.from_numpy(mask)[None])
    assert sum(terms.values()).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("pam", "cam", "lr", "losses"),
    [
        (True, True, 0.003, "all"),
        (True, False, 0.01, "fused"),
        (False, True, 0.01, "fused"),
        (False, False, 0.01, "fused"),
    ],
)
def test_the_ablations_pair_rates_and_losses_with_branches(
    pam: bool, cam: bool, lr: float, losses: str
) -> None:
    branches = [f"model.pam={pam}", f"model.cam={cam}"]
    paired = composed("ablation_paper", *branches)
    assert (paired.optimizer.lr, paired.model.losses) == (lr, losses)
    equal = composed("ablation_equal", *branches)
    assert (equal.optimizer.lr, equal.model.losses) == (0.01, "fused")
    assert equal.dataset == paired.dataset
    assert equal.backbone == paired.backbone


@pytest.mark.parametrize(
    ("experiment", "count"),
    [
        pytest.param("ablation_paper", 4, marks=pytest.mark.slow),
        ("ablation_equal", 4),
        pytest.param("strategies", 4, marks=pytest.mark.slow),
    ],
)
def test_a_sweep_over_an_experiment_runs_its_rows(experiment: str, count: int) -> None:
    rows = swept(experiment)
    assert len({json.dumps(sorted(row)) for row in rows}) == count
    for row in rows:
        validate(compose("train", row), TrainConfig)


def test_the_strategies_are_those_of_table_2() -> None:
    rows = swept("strategies")
    configs = [compose("train", row) for row in rows]
    found = {(tuple(c.augmentation.scale_range), bool(c.backbone.multi_grid)) for c in configs}
    assert {((1.0, 1.0), False), ((0.75, 2.0), False), ((0.75, 2.0), True)} <= found
