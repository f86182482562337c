"""What the loss can do about classes of few pixels: weights, hard pixels, Dice."""

import itertools
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning import Trainer
from loaded import loaded
from torch import Tensor
from torch.utils.data import DataLoader
from torchmetrics.functional.segmentation import dice_score

from danet_lightning.check.run import walk
from danet_lightning.data.scenes import Scenes
from danet_lightning.errors import RequestError
from danet_lightning.evaluate.protocols import MultiView
from danet_lightning.train.class_weights import from_shares, resolved
from danet_lightning.train.losses import SummedCrossEntropy, dice_losses, hard_pixels, require_terms
from danet_lightning.train.module import SegmentationModule

WEIGHTS = [0.5, 3.0, 0.0, 1.0, 10.0]
EVERYTHING = {"class_weights": WEIGHTS, "ohem": {"threshold": 0.3, "min_kept": 7}, "dice": 0.7}


def batch(seed: int, images: int = 4, ignored: float = 0.3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(images, 5, 9, 11, generator=generator)
    mask = torch.randint(0, 5, (images, 9, 11), generator=generator)
    mask[torch.rand(mask.shape, generator=generator) < ignored] = 255
    return logits, mask


def test_class_weights_are_torchs(seed: int) -> None:
    logits, mask = batch(seed)
    term = SummedCrossEntropy(class_weights=WEIGHTS)({"fused": logits}, mask)["fused"]
    expected = F.cross_entropy(logits, mask, weight=torch.tensor(WEIGHTS), ignore_index=255)
    torch.testing.assert_close(term, expected)


def sampled(logits: Tensor, mask: Tensor, threshold: float, min_kept: int) -> Tensor:
    """MMSegmentation's OHEMPixelSampler.sample by its definition, for one image."""
    probabilities = {
        (y, x): logits.softmax(0)[mask[y, x], y, x].item()
        for y, x in itertools.product(*map(range, mask.shape))
        if mask[y, x] != 255
    }
    ascending = sorted(probabilities.values())
    limit = max(ascending[min(min_kept, len(ascending) - 1)] if ascending else 0.0, threshold)
    chosen = torch.zeros(mask.shape, dtype=torch.bool)
    for place, probability in probabilities.items():
        chosen[place] = probability < limit
    return chosen


@pytest.mark.parametrize(("threshold", "min_kept"), [(0.7, 1), (0.01, 20), (0.3, 10**6), (1.0, 5)])
def test_hard_pixels_are_mmsegmentations(threshold: float, min_kept: int, seed: int) -> None:
    logits, mask = (t.double() if t.is_floating_point() else t for t in batch(seed, images=3))
    mask[1] = 255
    found = hard_pixels(logits, mask, threshold, min_kept)
    for image in range(3):
        expected = sampled(logits[image], mask[image], threshold, min_kept)
        assert torch.equal(found[image], expected)
    term = SummedCrossEntropy(ohem={"threshold": threshold, "min_kept": min_kept})(
        {"fused": logits}, mask
    )["fused"]
    losses = F.cross_entropy(logits.float(), mask, ignore_index=255, reduction="none")
    torch.testing.assert_close(term, losses[found].sum() / (mask != 255).sum())


def test_dice_of_certain_predictions_is_the_metric(seed: int) -> None:
    """Where every probability is 0 or 1, V-Net's coefficient is the plain one."""
    logits, mask = batch(seed, ignored=0.0)
    certain = F.one_hot(logits.argmax(1), 5).permute(0, 3, 1, 2)
    scores = dice_score(certain, mask, num_classes=5, average="none", input_format="mixed")
    torch.testing.assert_close(dice_losses(1000.0 * certain, mask), 1 - scores.mean(1))


def test_dice_follows_its_definition(seed: int) -> None:
    logits, mask = batch(seed, images=3)
    mask[1] = 255
    mask[2][mask[2] == 4] = 3  # a class that is not there counts in no mean
    expected = []
    for image in range(3):
        coefficients = []
        known = mask[image] != 255
        for k in mask[image][known].unique():
            p, g = logits[image].softmax(0)[k][known], (mask[image][known] == k).float()
            coefficients.append((2 * (p * g).sum() / (p.square().sum() + g.square().sum())).item())
        expected.append(1 - np.mean(coefficients) if coefficients else 0.0)
    torch.testing.assert_close(dice_losses(logits, mask), torch.tensor(expected).float())
    with_dice, without = (
        SummedCrossEntropy(dice=dice)({"fused": logits}, mask)["fused"] for dice in (0.5, 0.0)
    )
    labelled = (mask != 255).sum((1, 2))
    mean = (torch.tensor(expected) * labelled).sum() / labelled.sum()
    torch.testing.assert_close(with_dice - without, 0.5 * mean.float(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("options", [{}, *({k: v} for k, v in EVERYTHING.items()), EVERYTHING])
def test_a_batch_without_labels_is_no_nan(options: dict[str, Any], seed: int) -> None:
    logits, mask = batch(seed, ignored=2.0)
    logits.requires_grad_()
    term = SummedCrossEntropy(**options)({"fused": logits}, mask)["fused"]
    term.backward()
    assert term.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


class Pixelwise(torch.nn.Module):
    """The smallest network: a classifier of pixels."""

    align_corners = True

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = torch.nn.Conv2d(3, 4, 1)
        self.head = torch.nn.Conv2d(4, 5, 1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"fused": self.predict_logits(images)}

    def predict_logits(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images).relu())


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*no `val_dataloader`")
@pytest.mark.parametrize(
    "options",
    [
        *({k: v} for k, v in EVERYTHING.items()),
        EVERYTHING,
        {"class_weights": [1e-9, 2e-9] * 2 + [0]},
    ],
    ids=str,
)
def test_accumulated_parts_make_the_step_of_the_whole(options: dict[str, Any], seed: int) -> None:
    _, masks = batch(seed, images=4)
    masks[0, :8] = 255  # the parts have labels of other numbers and weights
    images = torch.randint(0, 256, (4, 3, 9, 11), generator=torch.Generator().manual_seed(seed))
    samples = [
        {"image": image.to(torch.uint8), "mask": mask.to(torch.uint8), "id": "x"}
        for image, mask in zip(images, masks, strict=True)
    ]
    found = []
    for parts in (1, 2, 4):
        module = SegmentationModule(
            Pixelwise(), classes=list("abcde"), mean=[120.0] * 3, std=[60.0] * 3,
            protocol=MultiView(), loss=SummedCrossEntropy(**options),
            optimizer=partial(torch.optim.SGD, lr=0.5),
        )  # fmt: skip
        trainer = Trainer(
            accelerator="cpu", max_steps=1, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
            accumulate_grad_batches=parts,
        )  # fmt: skip
        trainer.fit(module, DataLoader(samples, batch_size=4 // parts))
        found.append([p.detach() for p in module.net.parameters()])
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (torch.ones(()), "Tensor;"),
        ({}, "dict;"),
        ({"fused": torch.ones(2)}, r"\(2,\)"),
    ],
    ids=["a tensor", "nothing", "a map"],
)
def test_a_loss_returns_scalars_by_name(returned: Any, said: str) -> None:
    with pytest.raises(RequestError, match=f"loss: returns .*{said}"):
        require_terms(returned)


def test_auto_weighs_by_what_check_counts() -> None:
    data = loaded(Scenes, train_images=5, val_images=1, test_images=1, size=[32, 64])
    counts = walk(data.dataset, ["train"]).splits["train"].counts[: len(data.dataset.classes)]
    shares = counts / counts.sum()
    weights = resolved("auto", data)
    np.testing.assert_allclose(weights, 1 / np.log(1.02 + shares), rtol=1e-4)
    assert from_shares(np.array([3, 0])) == [1.4223, 50.498]
    with pytest.raises(RequestError, match=r"class_weights: 2 numbers for 11 classes; .*road"):
        resolved([1.0, 2.0], data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_weights": "auto"}, "class_weights=auto is for danet train"),
        ({"class_weights": [0, 0.0]}, "all are 0"),
        ({"class_weights": [1, -1]}, "entry 1 must be greater than or equal to 0"),
        ({"ohem": {"threshold": 0.7}}, "is missing"),
        ({"ohem": {"threshold": 7, "min_kept": 1}}, "less than or equal to 1"),
        ({"ohem": {"threshold": 0.7, "min_kept": 1, "keep": 1}}, "keep is no key"),
        ({"dice": -1}, "greater than or equal to 0"),
    ],
)
def test_impossible_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        SummedCrossEntropy(**options)
