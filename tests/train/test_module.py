import csv
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer
from torch import nn
from torch.utils.data import DataLoader

from danet_lightning.errors import RequestError
from danet_lightning.evaluate.metrics import ConfusionMatrix
from danet_lightning.evaluate.protocols import MultiView
from danet_lightning.models.segmenter import normalize
from danet_lightning.train.losses import SummedCrossEntropy
from danet_lightning.train.metrics_file import MetricsFile
from danet_lightning.train.module import SegmentationModule

# the loaders here have no workers on purpose
pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")


class Branch(nn.Module):
    def __init__(self):
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))


class TinyNet(nn.Module):
    """The smallest thing with DANet's surface: a backbone, a head, a gamma, a dict of logits."""

    align_corners = True

    def __init__(self):
        super().__init__()
        self.backbone = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Conv2d(4, 3, 1)
        self.position_attention = Branch()

    def forward(self, images):
        logits = self.predict_logits(images)
        return {"fused": logits, "position": logits * self.position_attention.gamma}

    def predict_logits(self, images):
        return self.head(self.backbone(images)) * (1 + self.position_attention.gamma)


class Recorder(Callback):
    def __init__(self):
        self.rates = []

    def on_train_batch_start(self, trainer, *_):
        self.rates.append([group["lr"] for group in trainer.optimizers[0].param_groups])


def samples(count: int = 12):
    generator = torch.Generator().manual_seed(3)
    for number in range(count):
        mask = torch.randint(0, 3, (8, 10), generator=generator).to(torch.uint8)
        mask[0, 0] = 255
        image = torch.randint(0, 256, (3, 8, 10), generator=generator).to(torch.uint8)
        yield {"image": image, "mask": mask, "id": str(number)}


def segmentation_module(**options) -> SegmentationModule:
    torch.manual_seed(0)
    sgd = partial(torch.optim.SGD, lr=0.01, momentum=0.9, weight_decay=1e-4)
    facts = {"classes": ("road", "sky", "car"), "mean": (120.0,) * 3, "std": (60.0,) * 3}
    return SegmentationModule(
        TinyNet(),
        protocol=MultiView(),
        loss=SummedCrossEntropy(),
        optimizer=sgd,
        **facts,
        **options,
    )


def fit(module: SegmentationModule, epochs: int = 3, **options) -> tuple[Trainer, Recorder]:
    recorder = Recorder()
    trainer = Trainer(
        accelerator="cpu", max_epochs=epochs, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[recorder],
        num_sanity_val_steps=0, **{"logger": False, **options},
    )  # fmt: skip
    loader = DataLoader(list(samples()), batch_size=3)
    trainer.fit(module, loader, DataLoader(list(samples(5)), batch_size=1))
    return trainer, recorder


def test_learning_rates_follow_the_authors_closed_form():
    """lr * (1 - i/N)^0.9 at iteration i of N, the head ten times that (authors' LR_Scheduler)."""
    _, recorder = fit(segmentation_module(), epochs=3)
    total = 3 * 12 // 3
    assert len(recorder.rates) == total
    for iteration, (backbone, head, gamma) in enumerate(recorder.rates):
        expected = 0.01 * pow(1 - 1.0 * iteration / total, 0.9)
        assert backbone == pytest.approx(expected, abs=1e-12)
        assert head == pytest.approx(10 * expected, abs=1e-12)
        assert gamma == head


def test_schedule_counts_optimizer_steps_when_accumulating():
    trainer, _ = fit(segmentation_module(), epochs=2, accumulate_grad_batches=2)
    assert trainer.global_step == 4
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0


@pytest.mark.parametrize(("steps", "recorded"), [(2, [1]), (6, [3])], ids=["2 of 4", "6 of 8"])
def test_a_run_shorter_than_the_interval_has_a_curve(monkeypatch, steps, recorded):
    module, rows = segmentation_module(), []
    monkeypatch.setattr(module, "record", lambda values, step: rows.append((step, values)))
    fit(module, epochs=-1, max_steps=steps, log_every_n_steps=10)
    assert [step for step, values in rows if "train/loss" in values] == recorded


@pytest.mark.parametrize(("decay_gamma", "expected"), [(True, 1e-4), (False, 0.0)])
def test_gamma_weight_decay(decay_gamma, expected):
    module = segmentation_module(decay_gamma=decay_gamma)
    module.net.backbone.gamma = nn.Parameter(torch.zeros(1))  # as ConvNeXt has: of the backbone
    trainer, _ = fit(module, epochs=1)
    groups = trainer.optimizers[0].param_groups
    assert [len(group["params"]) for group in groups] == [3, 2, 1]
    assert [group["weight_decay"] for group in groups] == [1e-4, 1e-4, expected]


def test_validation_counts_every_pixel_once_per_epoch():
    module = segmentation_module()
    trainer, _ = fit(module, epochs=2)
    expected = ConfusionMatrix(3)
    for sample in samples(5):
        images = normalize(sample["image"][None], module.mean, module.std)
        expected.update(module.net.predict_logits(images).argmax(1), sample["mask"][None])
    trainer.validate(module, DataLoader(list(samples(5)), batch_size=1), verbose=False)
    assert torch.equal(module.confusion.compute(), expected.compute())
    assert module.confusion.compute().sum() == 5 * (8 * 10 - 1)


def validated(*changed: dict) -> SegmentationModule:
    """A module after its evaluation of samples with these changes."""
    module = segmentation_module()
    loaded = [{**sample, **change} for sample, change in zip(samples(9), changed, strict=False)]
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )  # fmt: skip
    trainer.validate(module, DataLoader(loaded, batch_size=1), verbose=False)
    return module


def test_images_are_counted_that_were_evaluated():
    """Neither the stand-in of a process without images, nor what was not reached."""
    ignored = torch.full((8, 10), 255, dtype=torch.uint8)
    module = validated({}, {"mask": ignored, "id": ""}, {"mask": ignored}, {})
    assert module.images.tolist() == [3, 1]


def test_images_without_any_label_are_a_sentence():
    ignored = torch.full((8, 10), 255, dtype=torch.uint8)
    with pytest.raises(RequestError, match="No pixel of the 2 evaluated images is labelled"):
        validated({"mask": ignored}, {"mask": ignored})


def test_loss_is_logged_per_output_and_gamma_by_branch(tmp_path):
    file = MetricsFile(str(tmp_path))
    fit(segmentation_module(), epochs=1, logger=file, log_every_n_steps=1)
    rows = list(csv.DictReader(file.path.read_text().splitlines()))
    training = [row for row in rows if row["train/loss"]]
    assert [int(row["step"]) for row in training] == list(range(len(training)))
    for row in training:
        parts = float(row["train/loss/fused"]) + float(row["train/loss/position"])
        assert float(row["train/loss"]) == pytest.approx(parts)
        assert row["gamma/pam"]
        assert row["lr/backbone"]
    assert "gamma/cam" not in rows[0]
    (validation,) = [row for row in rows if row["val/miou"]]
    assert validation["val/iou/sky"]
    assert int(validation["step"]) == len(training) - 1


FLOAT32 = [
    *(torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn),
    *(torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv),
]


def settings() -> tuple[str | bool, ...]:
    return (*(part.fp32_precision for part in FLOAT32), torch.backends.cudnn.benchmark)


@pytest.fixture(params=["medium", "tf32", "ieee"])
def chosen(request: pytest.FixtureRequest) -> Iterator[tuple[str | bool, ...]]:
    """The settings of a training, by the older names and by the newer ones."""
    before, torch.backends.cudnn.benchmark = settings(), True
    if request.param == "medium":
        torch.set_float32_matmul_precision("medium")
    else:
        torch.backends.cudnn.conv.fp32_precision = request.param
    yield settings()
    if request.param == "medium":
        assert torch.get_float32_matmul_precision() == "medium"
        torch.set_float32_matmul_precision("highest")
    for part, precision in zip(FLOAT32, before, strict=False):
        part.fp32_precision = precision
    torch.backends.cudnn.benchmark = bool(before[-1])


class Looking(TinyNet):
    """Notes the settings at each pass, and fails in a validation when it is told to."""

    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.fails = fails
        self.seen: dict[bool, set[tuple[str | bool, ...]]] = {True: set(), False: set()}

    def predict_logits(self, images: Any) -> Any:
        self.seen[self.training].add((*settings(), torch.is_autocast_enabled("cpu")))
        if self.fails and not self.training:
            raise RuntimeError("a bug")
        return super().predict_logits(images)


def test_validation_is_in_true_float32_and_training_is_not(chosen: tuple[str | bool, ...]) -> None:
    module = segmentation_module()
    module.net = Looking()
    trainer, _ = fit(module, epochs=2, precision="bf16-mixed", benchmark=True)
    assert module.net.seen == {True: {(*chosen, True)}, False: {(*["ieee"] * 5, False, False)}}
    assert settings() == chosen
    trainer.validate(module, DataLoader(list(samples(2)), batch_size=1), verbose=False)
    assert settings() == chosen


def test_what_was_set_is_set_again_after_a_validation_that_fails(
    chosen: tuple[str | bool, ...],
) -> None:
    module = segmentation_module()
    module.net = Looking(fails=True)
    with pytest.raises(RuntimeError, match="a bug"):
        fit(module, epochs=1, benchmark=True)
    assert settings() == chosen


def optimizer_on(device: str, optimizer: Any, precision: str = "bf16-mixed") -> Any:
    module = segmentation_module()
    module.optimizer = optimizer
    strategy = SimpleNamespace(root_device=torch.device(device))
    trainer = SimpleNamespace(strategy=strategy, precision=precision, estimated_stepping_batches=9)
    module.trainer = trainer
    return module.configure_optimizers()["optimizer"]


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_optimizers_are_fused_on_cuda(kind: Any) -> None:
    made = partial(kind, lr=0.1)
    assert optimizer_on("cuda", made).defaults["fused"] is True
    assert not optimizer_on("cpu", made).defaults["fused"]
    assert not optimizer_on("cuda", made, precision="16-mixed").defaults["fused"]
    assert not optimizer_on("cuda", partial(made, fused=False)).defaults["fused"]
    assert not optimizer_on("cuda", partial(made, foreach=True)).defaults["fused"]
    assert "fused" not in optimizer_on("cuda", partial(torch.optim.Adadelta, lr=0.1)).defaults


def test_several_processes_do_not_compile() -> None:
    module = segmentation_module(compile=True)
    module.trainer = SimpleNamespace(world_size=2)
    with pytest.raises(RequestError, match="compile: 2 processes share batch statistics"):
        module.setup("fit")
