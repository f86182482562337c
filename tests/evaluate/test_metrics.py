import math

import numpy as np
import pytest
import torch
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as cityscapes  # noqa: N813
from cityscapesscripts.helpers.labels import id2label, trainId2label
from PIL import Image
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from danet_lightning.errors import RequestError
from danet_lightning.evaluate.metrics import (
    ConfusionMatrix,
    absent,
    class_accuracy,
    class_iou,
    constant_predictor,
    scores,
    table,
)


def noisy_prediction(label: torch.Tensor, classes: int, generator: torch.Generator) -> torch.Tensor:
    """The label, wrong in a third of the pixels; a class everywhere where it is ignored."""
    noise = torch.randint(0, classes, label.shape, generator=generator)
    wrong = torch.rand(label.shape, generator=generator) < 0.33
    return torch.where(wrong | (label == 255), noise, label)


def samples(seed: int, classes: int, present: int, images: int = 5):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(images):
        label = torch.randint(0, present, (1, 37, 53), generator=generator)
        label[torch.rand(label.shape, generator=generator) < 0.2] = 255
        yield noisy_prediction(label, present, generator).clamp(max=classes - 1), label


def count(seed: int, classes: int, present: int) -> torch.Tensor:
    metric = ConfusionMatrix(classes)
    for prediction, label in samples(seed, classes, present):
        metric.update(prediction, label.to(torch.uint8))
    return metric.compute()


def test_matches_torchmetrics(seed):
    jaccard = MulticlassJaccardIndex(7, ignore_index=255, average=None)
    overall = MulticlassAccuracy(7, ignore_index=255, average="micro")
    balanced = MulticlassAccuracy(7, ignore_index=255, average="macro")
    for prediction, label in samples(seed, 7, 7):
        for metric in (jaccard, overall, balanced):
            metric.update(prediction, label)
    matrix = count(seed, 7, 7)
    torch.testing.assert_close(class_iou(matrix).float(), jaccard.compute())
    ours = scores(matrix)
    assert ours["pixel_accuracy"] == pytest.approx(overall.compute().item(), abs=1e-6)
    assert ours["mean_accuracy"] == pytest.approx(balanced.compute().item(), abs=1e-6)


def test_matches_the_cityscapes_evaluator(seed, tmp_path):
    """The benchmark's own evaluator, on files, with classes that never occur."""
    args = cityscapes.args
    args.evalInstLevelScore = False
    args.evalPixelAccuracy = False
    theirs = cityscapes.generateMatrix(args)
    to_id = np.zeros(256, np.uint8)
    for train_id in range(19):
        to_id[train_id] = trainId2label[train_id].id
    for number, (prediction, label) in enumerate(samples(seed, 19, 12)):
        files = [str(tmp_path / f"{number}_{kind}_labelIds.png") for kind in ("pred", "gt")]
        for file, mask in zip(files, (prediction, label), strict=True):
            Image.fromarray(to_id[mask[0].numpy()]).save(file)
        cityscapes.evaluatePair(*files, theirs, {}, {}, args)
    scored = [label for label in args.evalLabels if not id2label[label].ignoreInEval]
    expected = [cityscapes.getIouScoreForLabel(label, theirs, args) for label in scored]
    ours = class_iou(count(seed, 19, 12)).tolist()
    by_id = {trainId2label[train_id].id: iou for train_id, iou in enumerate(ours)}
    assert sum(map(math.isnan, ours)) == 7  # 12 of 19 classes occur
    for label, value in zip(scored, expected, strict=True):
        assert by_id[label] == pytest.approx(value, abs=1e-12, nan_ok=True)
    average = cityscapes.getScoreAverage(dict(zip(scored, expected, strict=True)), args)
    assert scores(count(seed, 19, 12))["miou"] == pytest.approx(average, abs=1e-12)


def test_by_hand():
    """Labels 0 0 1 1 255, predictions 0 1 1 1 2; class 2 is never labelled, 3 absent."""
    metric = ConfusionMatrix(4)
    metric.update(torch.tensor([0, 1, 1, 1, 2]), torch.tensor([0, 0, 1, 1, 255]))
    matrix = metric.compute()
    assert matrix.dtype == torch.int64
    assert matrix.tolist() == [[1, 1, 0, 0], [0, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    summary = scores(matrix)
    assert summary["miou"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert summary["pixel_accuracy"] == pytest.approx(3 / 4)
    assert summary["mean_accuracy"] == pytest.approx(3 / 4)
    assert summary["frequency_weighted_iou"] == pytest.approx(0.5 * 1 / 2 + 0.5 * 2 / 3)
    assert class_iou(matrix)[2:].isnan().all()
    assert class_accuracy(matrix)[2:].isnan().all()
    shown = table(matrix, ["a", "b", "c", "d"])
    assert "nan" in shown
    assert "no labelled pixel: c, d" in shown
    assert absent(matrix, ["a", "b", "c", "d"]) == ["c", "d"]


def test_nothing_counted_is_no_number():
    """0 would be one; and the division by no pixel must not be an error."""
    nothing = torch.zeros(3, 3, dtype=torch.int64)
    assert all(map(math.isnan, scores(nothing).values()))
    assert math.isnan(constant_predictor(nothing)[1])
    assert absent(nothing, "abc") == ["a", "b", "c"]


def test_counts_beyond_float32():
    """16777217 pixels: the first integer that float32 cannot hold."""
    metric = ConfusionMatrix(2)
    metric.update(torch.zeros(2**24, dtype=torch.int64), torch.zeros(2**24, dtype=torch.uint8))
    metric.update(torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.uint8))
    assert metric.compute()[0, 0].item() == 2**24 + 1


def test_constant_predictor_is_what_a_constant_predictor_reaches(seed):
    metric = ConfusionMatrix(5)
    labels = torch.cat([label for _, label in samples(seed, 5, 4)])
    labels[:, :20] = 2
    metric.update(torch.full_like(labels, 2), labels)
    assert constant_predictor(metric.compute()) == (
        2,
        pytest.approx(scores(metric.compute())["miou"]),
    )


def test_a_label_of_no_class_is_an_error() -> None:
    metric = ConfusionMatrix(3)
    metric.update(torch.tensor([0, 1, 2]), torch.tensor([0, 1, 255]))
    assert metric.compute().sum() == 2
    metric.update(torch.tensor([0, 1, 2]), torch.tensor([3, 254, 2]))
    with pytest.raises(RequestError, match=r"2 pixels have labels that are neither .* 0 to 2, nor"):
        metric.compute()
