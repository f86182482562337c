"""What a number says of itself: how much it was counted on, in JSON that every reader takes."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from danet_lightning.evaluate.results import report

CLASSES = ("road", "sky", "rare")


def reported(folder: Path, matrix: list[list[int]], images: int, without: int = 0) -> Any:
    """results.json of an evaluation of a split of 4 images."""
    protocol = SimpleNamespace(describe=lambda: {"name": "whole"})
    confusion = SimpleNamespace(compute=lambda: torch.tensor(matrix))
    module: Any = SimpleNamespace(
        classes=CLASSES, protocol=protocol, confusion=confusion,
        images=torch.tensor([images, without]), net=torch.nn.Linear(2, 3), gammas=dict, cost=dict,
    )  # fmt: skip
    data = SimpleNamespace(
        validation_split="val", dataset=SimpleNamespace(label_source="drawn"), fingerprints=dict
    )
    trainer: Any = SimpleNamespace(
        is_global_zero=True, loggers=[], datamodule=data,
        val_dataloaders=SimpleNamespace(dataset=range(4)), world_size=1,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )  # fmt: skip
    report(trainer, module, folder, "best.ckpt")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads((folder / "results.json").read_text(), parse_constant=refuse)


def test_an_absent_class_is_null_and_named(tmp_path: Path, capsys: Any) -> None:
    results = reported(tmp_path, [[6, 2, 0], [0, 8, 0], [0, 0, 0]], images=4)
    assert results["class_iou"] == {"road": 0.75, "sky": 0.8, "rare": None}
    assert results["miou"] == pytest.approx((0.75 + 0.8) / 2)
    assert results["absent_classes"] == ["rare"]
    assert "no labelled pixel: rare" in capsys.readouterr().out


def test_a_class_that_is_only_predicted_is_absent_too(tmp_path: Path) -> None:
    results = reported(tmp_path, [[6, 0, 2], [0, 8, 0], [0, 0, 0]], images=4)
    assert results["class_iou"]["rare"] == 0
    assert results["absent_classes"] == ["rare"]


def test_a_part_of_the_split_is_marked(tmp_path: Path, capsys: Any) -> None:
    results = reported(tmp_path, [[6, 2, 0], [0, 8, 0], [0, 0, 1]], images=3, without=1)
    assert (results["partial"], results["protocol"]["images"]) == (True, 3)
    assert (results["images_of_split"], results["images_without_labels"]) == (4, 1)
    told = capsys.readouterr().out
    assert told.startswith("\nPARTIAL: 3 of the 4 images")
    assert "1 of the images have no labelled pixel" in told


def test_a_whole_split_is_not_marked(tmp_path: Path, capsys: Any) -> None:
    results = reported(tmp_path, [[6, 2, 0], [0, 8, 0], [0, 0, 1]], images=4)
    assert (results["partial"], results["protocol"]["images"]) == (False, 4)
    told = capsys.readouterr().out
    assert "PARTIAL" not in told
    assert "no labelled pixel" not in told
