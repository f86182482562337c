"""Predictions for a benchmark's server, scored by the benchmark's own evaluator."""

import json
import tarfile
import zipfile
from pathlib import Path

import cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling as evaluator  # noqa: N813
import numpy as np
import pytest
import torch
from cityscapesscripts.helpers.labels import id2label
from commands import danet
from fake_trees import write_cityscapes, write_voc2012
from omegaconf import OmegaConf
from PIL import Image

from danet_lightning.convert import run as conversion
from danet_lightning.models import DANet, dilated_resnet, export_weights


@pytest.fixture(scope="module")
def of_cityscapes(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The argument that names a checkpoint of Cityscapes."""
    folder = tmp_path_factory.mktemp("nets")
    return f"ckpt_path={checkpoint(folder, 'danet_lightning.data.cityscapes.Cityscapes', 19)}"


def checkpoint(folder: Path, dataset: str, classes: int) -> Path:
    torch.manual_seed(1)
    net = DANet(dilated_resnet("resnet18"), classes)
    torch.save(export_weights(net), folder / "weights.pth")
    request = {
        "source": str(folder / "weights.pth"),
        "output": str(folder / "net.ckpt"),
        "dataset": {"_target_": dataset, "root": "data"},
        "protocol": {"_target_": "danet_lightning.evaluate.protocols.MultiView"},
        "multi_grid": None,
        "align_corners": None,
    }
    conversion.convert(OmegaConf.create(request), folder)
    return folder / "net.ckpt"


@pytest.mark.slow
def test_cityscapes_own_evaluator_gives_our_numbers(of_cityscapes: str, tmp_path: Path) -> None:
    write_cityscapes(tmp_path / "Cityscapes")
    shared = [of_cityscapes, "dataset=cityscapes", "dataset.root=Cityscapes"]
    done = danet("evaluate", *shared, "data.workers=0", "trainer=cpu", "run_dir=r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = danet(
        "predict", *shared, "split=val", "format=cityscapes", "output=my submission", "device=cpu",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    args = evaluator.args
    args.evalInstLevelScore = args.evalPixelAccuracy = False
    matrix = evaluator.generateMatrix(args)
    with zipfile.ZipFile(tmp_path / "my submission.zip") as packed:
        names = packed.namelist()
        packed.extractall(tmp_path / "unpacked")
    labels = sorted((tmp_path / "Cityscapes" / "gtFine" / "val").rglob("*_labelIds.png"))
    assert len(names) == len(labels) > 0
    for label in labels:
        name = label.name.replace("_gtFine_labelIds.png", "")
        args.predictionPath, args.predictionWalk = str(tmp_path / "unpacked"), None
        prediction = evaluator.getPrediction(args, str(label))  # found by the server's naming rule
        assert Path(prediction).name.startswith(name)
        with Image.open(prediction) as written, Image.open(label) as given:
            assert written.mode == "L"
            ids = np.asarray(given)
        # what the tree has beyond labels.py, the evaluator does not take
        Image.fromarray(np.where(ids == 255, 0, ids).astype(np.uint8)).save(label)
        evaluator.evaluatePair(prediction, str(label), matrix, {}, {}, args)
    scored = [label for label in args.evalLabels if not id2label[label].ignoreInEval]
    theirs = {label: evaluator.getIouScoreForLabel(label, matrix, args) for label in scored}
    results = json.loads((tmp_path / "r" / "results.json").read_text())
    assert results["miou"] == pytest.approx(evaluator.getScoreAverage(theirs, args), abs=1e-9)


def test_the_test_frames_need_no_labels(of_cityscapes: str, tmp_path: Path) -> None:
    root = write_cityscapes(tmp_path / "Cityscapes")
    for label in (root / "gtFine" / "test").rglob("*.png"):
        label.unlink()
    done = danet(
        "predict", of_cityscapes, "dataset=cityscapes", "dataset.root=Cityscapes",
        "split=test", "format=cityscapes", "output=out", "device=cpu", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    frames = list((root / "leftImg8bit" / "test").rglob("*.png"))
    assert len(list((tmp_path / "out").glob("*_labelIds.png"))) == len(frames) > 0


def test_voc_files_are_palette_pngs_in_the_devkits_folders(tmp_path: Path) -> None:
    checkpoint(tmp_path, "danet_lightning.data.voc2012.Voc2012", 21)
    root = write_voc2012(tmp_path / "VOC")
    voc = root / "VOCdevkit" / "VOC2012"
    names = (voc / "ImageSets" / "Segmentation" / "val.txt").read_text().split()
    (voc / "ImageSets" / "Segmentation" / "test.txt").write_text("\n".join(names))
    done = danet(
        "predict", "ckpt_path=net.ckpt", "dataset=voc2012", "dataset.root=VOC", "split=test",
        "format=voc", "output=out", "device=cpu", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with tarfile.open(tmp_path / "out.tar.gz") as packed:
        found = sorted(packed.getnames())
    folder = "results/VOC2012/Segmentation/comp6_test_cls"
    assert found == sorted(f"{folder}/{name}.png" for name in names)
    with Image.open(tmp_path / "out" / found[0]) as mask:
        assert mask.mode == "P"
        assert mask.getpalette()[3:6] == [128, 0, 0]  # aeroplane
        assert np.asarray(mask).max() < 21


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "input: give either your images or dataset=... split=..."),
        (["input=a.png", "dataset=camvid"], "input: give either your images or dataset=..."),
        (["input=a.png", "format=voc"], "a server's files are of a data set"),
        (["dataset=camvid"], "its classes"),
        (["dataset=cityscapes", "format=png"], "format=png: no such option"),
    ],
)
def test_wrong_requests(
    of_cityscapes: str, arguments: list[str], said: str, tmp_path: Path
) -> None:
    done = danet("predict", of_cityscapes, "output=out", *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
