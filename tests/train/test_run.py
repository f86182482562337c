"""The commands as a user types them, on scenes of 32 x 64 pixels."""

import csv
import json
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import danet, start, start_module
from PIL import Image
from processes import devices, succeed
from trainings import TINY, TRUSTED, matrix_of

from danet_lightning.report import workspace

SMALL = [
    "trainer=cpu", "trainer.precision=32-true", "trainer.max_epochs=2", "batch_size=2",
    "dataset.train_images=6", "dataset.val_images=5", "dataset.test_images=3",
    "dataset.size=[32,64]", "augmentation.crop_size=[32,64]", "trainer.log_every_n_steps=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the commands are typed: a path with a space and an umlaut."""
    return tmp_path_factory.mktemp("mein Übungsordner")


@pytest.fixture(scope="module")
def trained(folder):
    """One training run: its output and its run folder."""
    result = danet("train", *SMALL, "run_dir=runs/first run", cwd=folder)
    assert result.returncode == 0, result.stderr
    return result, folder / "runs" / "first run"


def rows_of(run_dir: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv."""
    with (run_dir / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_run_folder_holds_what_the_readme_promises(trained):
    _, run_dir = trained
    for name in ("config.yaml", "best.ckpt", "last.ckpt", "metrics.csv", "results.json"):
        assert (run_dir / name).is_file(), name
    for name in ("predictions.png", "curves.png", "confusion.png", "classes.png"):
        with Image.open(run_dir / name) as picture:
            assert min(picture.size) > 100, name
    rows = rows_of(run_dir)
    assert len([row for row in rows if row["val/miou"]]) == 2  # one for each epoch
    assert {"lr/backbone", "lr/head", "lr/gamma", "gamma/pam", "gamma/cam"} <= set(rows[0])


def test_results_hold_what_a_report_compares(trained):
    _, run_dir = trained
    results = json.loads((run_dir / "results.json").read_text())
    last = torch.load(run_dir / "best.ckpt", weights_only=True)["state_dict"]
    gammas = [value.item() for name, value in last.items() if name.endswith("gamma")]
    assert sorted(results["gammas"].values()) == sorted(gammas)
    weights = [value for value in last.values() if value.is_floating_point()]
    assert 0 < results["parameters"] <= sum(map(torch.numel, weights))
    assert results["cost"]["peak_memory_gib"] > 0.1
    assert set(results["data"]) == {"train", "val"}


def test_table_shows_every_class_and_the_protocol(trained):
    result, run_dir = trained
    results = json.loads((run_dir / "results.json").read_text())
    for name, iou in results["class_iou"].items():
        assert f"{name} " in result.stdout
        assert f"{iou:.4f}" in result.stdout
    assert f"mIoU {results['miou']:.4f}" in result.stdout
    assert results["protocol"] == {
        "name": "whole", "crop": None, "stride": None, "scales": [1.0], "flip": False,
        "antialias": True, "dataset": "Scenes", "label_source": "drawn with the image",
        "split": "val", "images": 5,
    }  # fmt: skip
    assert "whole, scales [1.0], flip False" in result.stdout
    assert sum(map(sum, results["confusion_matrix"])) <= 5 * 32 * 64


def test_output_is_quiet(trained):
    result, _ = trained
    assert "Warning" not in result.stderr
    assert "Tip" not in result.stderr
    assert "wandb sync" in result.stderr + result.stdout
    assert "step/s" in result.stderr


def test_best_checkpoint_is_the_best_epoch(trained):
    _, run_dir = trained
    rows = [r for r in rows_of(run_dir) if r["val/miou"]]
    best = max(float(row["val/miou"]) for row in rows)
    assert json.loads((run_dir / "results.json").read_text())["miou"] == pytest.approx(best)


def test_evaluate_gives_the_confusion_matrix_of_training(trained, folder):
    _, run_dir = trained
    result = danet("evaluate", f"ckpt_path='{run_dir}/best.ckpt'", "run_dir=again", cwd=folder)
    assert result.returncode == 0, result.stderr
    assert matrix_of(folder / "again") == matrix_of(run_dir)


def test_evaluate_takes_another_protocol_and_records_it(trained, folder):
    _, run_dir = trained
    result = danet(
        "evaluate", f"ckpt_path='{run_dir}/best.ckpt'", "run_dir=windows", "protocol=official_ss",
        "protocol.base_size=64", "protocol.crop_size=24", cwd=folder,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    protocol = json.loads((folder / "windows" / "results.json").read_text())["protocol"]
    assert (protocol["name"], protocol["crop"], protocol["stride"]) == (
        "official_ss", [24, 24], [16, 16],
    )  # fmt: skip
    assert (protocol["flip"], protocol["images"]) == (True, 5)
    assert matrix_of(folder / "windows") != matrix_of(run_dir)


def test_evaluate_changes_one_value_of_the_checkpoints_protocol(trained, folder):
    _, run_dir = trained
    result = danet(
        "evaluate", f"ckpt_path='{run_dir}/best.ckpt'", "run_dir=mirrored", "+protocol.flip=true",
        cwd=folder,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    protocol = json.loads((folder / "mirrored" / "results.json").read_text())["protocol"]
    assert (protocol["name"], protocol["scales"], protocol["flip"]) == ("ms_flip", [1.0], True)
    wrong = danet(
        "evaluate", f"ckpt_path='{run_dir}/best.ckpt'", "run_dir=wrong", "protocol=slide",
        "protocol.stride=[900,900]", cwd=folder,
    )  # fmt: skip
    assert wrong.returncode == 2, wrong.stderr
    assert "stride (900, 900) is larger than crop (769, 769)" in wrong.stderr
    assert "Traceback" not in wrong.stderr


@pytest.mark.ddp
@pytest.mark.slow
def test_two_processes_count_what_one_counts(trained, folder):
    """5 images on 2 processes: a padding sampler would count 6."""
    _, run_dir = trained
    result = danet(
        "evaluate", f"ckpt_path='{run_dir}/best.ckpt'", "run_dir=both", "trainer=ddp",
        "trainer.accelerator=cpu", "trainer.devices=2", cwd=folder,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert matrix_of(folder / "both") == matrix_of(run_dir)
    results = json.loads((folder / "both" / "results.json").read_text())
    assert (results["partial"], results["protocol"]["images"]) == (False, 5)


@pytest.mark.ddp
@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "images", "of"),
    [(["+trainer.limit_val_batches=1"], 2, 5), (["+dataset.val_images=1"], 1, 1)],
    ids=["one each", "one for both"],
)
def test_two_processes_tell_how_many_images_they_had(trained, folder, arguments, images, of):
    """A limit counts for each process; a process without images has a stand-in."""
    _, run_dir = trained
    checkpoint = f"ckpt_path='{run_dir}/best.ckpt'"
    given = [checkpoint, f"run_dir=of_{images}", *devices(2), *arguments]
    succeed(2, "evaluate", *given, cwd=folder)
    results = json.loads((folder / f"of_{images}" / "results.json").read_text())
    assert (results["protocol"]["images"], results["images_of_split"]) == (images, of)
    assert results["partial"] == (images < of)
    assert sum(map(sum, results["confusion_matrix"])) <= images * 32 * 64


def test_a_limited_evaluation_says_what_it_is(trained, folder):
    _, run_dir = trained
    result = danet(
        "evaluate", f"ckpt_path='{run_dir}/best.ckpt'", "run_dir=limited",
        "+trainer.limit_val_batches=2", "trainer=cpu", cwd=folder,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    results = json.loads((folder / "limited" / "results.json").read_text())
    assert (results["partial"], results["protocol"]["images"]) == (True, 2)
    assert result.stdout.strip().startswith("PARTIAL: 2 of the 5 images")


@pytest.mark.slow
@pytest.mark.ddp
def test_two_processes_train(folder):
    results = succeed(
        2, "train", *TINY, *devices(2), "run_dir=pair", "trainer.max_epochs=1", cwd=folder
    )
    told = [result.stdout.count("mIoU") for result in results]
    assert told == [2, 0]  # the table and the constant predictor, once
    again = danet("evaluate", "ckpt_path=pair/best.ckpt", "run_dir=single", TRUSTED, cwd=folder)
    assert again.returncode == 0, again.stderr
    assert matrix_of(folder / "single") == matrix_of(folder / "pair")


def test_checkpoint_is_plain(trained):
    _, run_dir = trained
    checkpoint = torch.load(run_dir / "last.ckpt", weights_only=True)
    assert checkpoint["danet_lightning"]["classes"][0]


def test_predict_with_a_trained_checkpoint(trained, folder):
    _, run_dir = trained
    pixels = np.random.default_rng(0).integers(0, 256, (37, 51, 3), dtype=np.uint8)
    (folder / "photos").mkdir()
    Image.fromarray(pixels).save(folder / "photos" / "Straße 1.png")
    result = danet(
        "predict", f"ckpt_path={run_dir}/best.ckpt", "input=photos", "output=out", cwd=folder
    )
    assert result.returncode == 0, result.stderr
    with Image.open(folder / "out" / "Straße 1.png") as prediction:
        assert prediction.mode == "P"
        assert prediction.size == (51, 37)
        assert np.asarray(prediction).max() < 11


def test_resume_continues_where_it_stopped(undisturbed, folder):
    result = danet(
        "train", *TINY, "run_dir=longer", "trainer.max_epochs=3",
        f"ckpt_path='{undisturbed}/last.ckpt'", cwd=folder,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert {row["epoch"] for row in rows_of(folder / "longer") if row["val/miou"]} == {
        "0",
        "1",
        "2",
    }


def test_wandb_run_can_be_read_back(trained):
    """Configuration, protocol, best mIoU, per-class IoU and pictures, from the offline files."""
    _, run_dir = trained
    (offline,) = (run_dir / "wandb").glob("offline-run-*")
    records = inspect(offline)
    assert "resnet18" in records
    for key in (
        "git_commit", "protocol", "val/miou", "val/iou/road", "val/predictions", "label_source",
        "val/confusion", "val/classes",
    ):  # fmt: skip
        assert key in records, key
    for name in ("confusion", "classes"):
        assert list(offline.glob(f"files/media/images/val/{name}*.png"))
    assert list(offline.glob("files/media/images/val/predictions*.png"))


def test_what_the_workspace_shows_is_logged(trained):
    """To W&B itself: each metric of a panel, and the summary by which runs are ordered."""
    _, run_dir = trained
    (offline,) = (run_dir / "wandb").glob("offline-run-*")
    records = [json.loads(line) for line in inspect(offline).splitlines()]
    rows = [each["history"]["item"] for each in records if each["type"] == "history"]
    logged = {key for row in rows for key in row}
    panels = {metric for section in workspace.CURVES.values() for metric in section}
    assert {workspace.STEP, *panels} <= logged
    assert [name for name in logged if re.fullmatch(workspace.CLASSES, name)]
    metric, _, which = workspace.BEST.rpartition(".")
    updates = [each["summary"]["update"] for each in records if each["type"] == "summary"]
    assert any(which in update.get(metric, {}) for update in updates)
    for key in workspace.PICTURES:
        assert list(offline.glob(f"files/media/images/{key}*.png"))


def inspect(offline: Path) -> str:
    arguments = ["leet", "inspect", "--json", str(offline)]
    with start_module("wandb", *arguments, cwd=offline) as tool:
        result = tool.wait()
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_untrained_network_is_reported_with_zero_epochs(folder):
    result = danet(
        "train", *TINY, "run_dir=untrained", "trainer.max_epochs=0", "logger=none", cwd=folder
    )
    assert result.returncode == 0, result.stderr
    assert "mIoU" in result.stdout
    assert not (folder / "untrained" / "metrics.csv").exists()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.unlink(), "no file"),
        (lambda path: path.write_bytes(path.read_bytes()[:2000]), "truncated"),
        (lambda path: path.write_text("hello"), "not written by torch.save"),
        (lambda path: torch.save({"conv.weight": torch.zeros(1)}, path), "not written by danet"),
    ],
    ids=["missing", "truncated", "text", "foreign"],
)
def test_wrong_checkpoints_are_refused(trained, tmp_path, damage, said):
    from danet_lightning.checkpoints.loading import load
    from danet_lightning.errors import RequestError

    broken = tmp_path / "broken.ckpt"
    broken.write_bytes((trained[1] / "best.ckpt").read_bytes())
    damage(broken)
    with pytest.raises(RequestError, match=said):
        load(broken)


@pytest.mark.parametrize("target", ["os.system", "danet_lightning.train.run.instantiate"])
def test_checkpoint_cannot_call_what_it_likes(trained, tmp_path, target):
    """Neither a foreign function nor one that a module of ours has imported."""
    from danet_lightning.checkpoints.loading import load
    from danet_lightning.errors import RequestError

    checkpoint = torch.load(trained[1] / "best.ckpt", weights_only=True)
    checkpoint["danet_lightning"]["config"]["model"]["_target_"] = target
    torch.save(checkpoint, tmp_path / "evil.ckpt")
    with pytest.raises(RequestError, match=f"wants to call {target}"):
        load(tmp_path / "evil.ckpt")


def test_evaluate_refuses_a_call_hidden_in_the_data_set(trained, folder):
    checkpoint = torch.load(trained[1] / "best.ckpt", weights_only=True)
    call = {"_target_": "os.mkdir", "path": str(folder / "made by the checkpoint")}
    checkpoint["danet_lightning"]["config"]["dataset"]["flip"] = call
    torch.save(checkpoint, folder / "evil.ckpt")
    result = danet("evaluate", "ckpt_path=evil.ckpt", "run_dir=refused", cwd=folder)
    assert result.returncode == 2, result.stderr
    assert "wants to call os.mkdir" in result.stderr
    assert not (folder / "made by the checkpoint").exists()


def test_ctrl_c_leaves_a_usable_run_folder(folder):
    run_dir = folder / "interrupted"
    arguments = [*TINY, "run_dir=interrupted", "trainer.max_epochs=500"]
    with start("train", *arguments, cwd=folder) as process:
        deadline = time.monotonic() + 120
        while not (run_dir / "best.ckpt").exists() and process.poll() is None:  # one epoch
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        ended = process.wait(timeout=120)
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
    checkpoint = torch.load(run_dir / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] >= 3
    assert rows_of(run_dir)
    checkpoint_of_it = "ckpt_path=interrupted/last.ckpt"
    result = danet("evaluate", checkpoint_of_it, "run_dir=kept", TRUSTED, cwd=folder)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_tensorboard(folder):
    given = [each for each in TINY if each != "~callbacks.pictures"]
    result = danet(
        "train", *given, "trainer.max_epochs=1", "logger=tensorboard", "run_dir=board", cwd=folder
    )
    assert result.returncode == 0, result.stderr
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "board" / "tensorboard"))
    tags = events.Reload().Tags()
    assert set(tags["images"]) == {"val/predictions", "val/confusion", "val/classes"}
    (columns, *_) = rows_of(folder / "board")
    assert set(columns) - {"step"} <= set(tags["scalars"])
    assert {"time/images_per_second", "time/data_share", "memory/peak_gib"} <= set(columns)
    assert not (folder / "board" / "wandb").exists()
