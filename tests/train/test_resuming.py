"""Runs that are killed and started again: the same to the last bit as one that was left alone."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import danet, start_module
from comparison import differences
from loaded import loaded
from PIL import Image
from processes import devices, succeed, together
from trainings import EVERY_STEP, TINY, killed_at, same_runs, until_done

from danet_lightning.data.folder import Folder
from danet_lightning.data.samples.loader import TrainingLoader
from danet_lightning.data.samples.sampler import EpochSampler
from danet_lightning.errors import RequestError
from danet_lightning.train.metrics_file import MetricsFile
from danet_lightning.train.resuming import find, refuse_differences, refuse_other_data
from danet_lightning.train.run import precision


@pytest.mark.parametrize(
    "moments",
    [
        ["step2", "validation4"],
        *(
            pytest.param(moments, marks=pytest.mark.slow)
            for moments in (["start0"], ["start1", "start3"], ["end4", "start4", "validation8"])
        ),
    ],
    ids=" ".join,
)
def test_killed_runs_end_as_undisturbed_ones(undisturbed, tmp_path, moments):
    results = until_done(tmp_path, *TINY, EVERY_STEP, *killed_at(*moments), starts=len(moments) + 1)
    assert [result.returncode for result in results] == [-9] * len(moments) + [0]
    same_runs(undisturbed, tmp_path / "run")


@pytest.mark.slow
def test_killed_with_workers(undisturbed, tmp_path):
    """Two workers have read ahead when the run is killed."""
    workers = "data.workers=2"
    results = until_done(
        tmp_path, *TINY, EVERY_STEP, workers, *killed_at("step1", "end6"), starts=3
    )
    assert [result.returncode for result in results] == [-9, -9, 0]
    same_runs(undisturbed, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.ddp
def test_two_killed_processes_end_as_undisturbed_ones(tmp_path):
    left_alone, killed = tmp_path / "left alone", tmp_path / "killed"
    for folder in (left_alone, killed):
        folder.mkdir()
    arguments = [*TINY, *devices(2), "run_dir=run"]
    succeed(2, "train", *arguments, cwd=left_alone)
    arguments += [EVERY_STEP, *killed_at("step2", "start5")]
    for _ in range(2):
        ended = together(2, "train", *arguments, cwd=killed)
        assert [result.returncode for result in ended] == [-9, -9], ended[0].stderr
    succeed(2, "train", *arguments, cwd=killed)
    same_runs(left_alone / "run", killed / "run")


@pytest.mark.slow
def test_accumulated_gradients_are_not_lost(tmp_path):
    halves = ["trainer.accumulate_grad_batches=2"]
    left_alone, killed = tmp_path / "left alone", tmp_path / "killed"
    for folder in (left_alone, killed):
        folder.mkdir()
    until_done(left_alone, *TINY, *halves, starts=1)
    until_done(killed, *TINY, EVERY_STEP, *halves, *killed_at("start2"), starts=2)
    same_runs(left_alone / "run", killed / "run")


def test_a_first_batch_that_failed_forbids_no_other_command(tmp_path):
    """The one that mends it begins anew, with a metrics file of its own."""
    failed = danet("train", *TINY, "loss._target_=probe.Loss", "+loss.fails=true", cwd=tmp_path)
    assert failed.returncode == 1, failed.stderr
    (run,) = tmp_path.glob("runs/train/*")
    assert (run / "last.ckpt").is_file()
    mended = danet("train", *TINY, f"run_dir={run}", cwd=tmp_path)
    assert mended.returncode == 0, mended.stderr


@pytest.mark.slow
def test_unreadable_last_checkpoint_falls_back(tmp_path):
    """To the best one, where it may be gone on from; the rows after it are written again."""
    whole = [*TINY, "callbacks.best.save_weights_only=false"]
    left_alone = danet("train", *whole, "run_dir=alone", cwd=tmp_path)
    assert left_alone.returncode == 0, left_alone.stderr
    arguments = [*whole, EVERY_STEP, *killed_at("end7")]
    killed = danet("train", *arguments, "run_dir=run", cwd=tmp_path)
    assert killed.returncode == -9, killed.stderr
    last = tmp_path / "run" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:5000])
    result = danet("train", *arguments, "run_dir=run", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "last.ckpt" in result.stderr + result.stdout
    assert "Going on from" in result.stderr + result.stdout
    same_runs(tmp_path / "alone", tmp_path / "run")


def test_finished_run_says_so(undisturbed):
    before = (undisturbed / "last.ckpt").stat().st_mtime
    result = danet("train", *TINY, "run_dir=run", cwd=undisturbed.parent)
    assert result.returncode == 0, result.stderr
    assert "run is finished" in result.stdout
    assert (undisturbed / "last.ckpt").stat().st_mtime == before


def test_killed_in_its_last_evaluation(undisturbed, tmp_path):
    """Nothing is left to train: only the numbers of the best checkpoint are missing."""
    shutil.copytree(undisturbed, tmp_path / "run")
    (tmp_path / "run" / "results.json").unlink()
    until_done(tmp_path, *TINY, starts=1)
    same_runs(undisturbed, tmp_path / "run")


@pytest.mark.slow
def test_moved_and_longer_run_keeps_its_best(undisturbed, tmp_path):
    """On another machine the folder has another name; the rows and the best epoch move with it."""
    shutil.copytree(undisturbed, tmp_path / "elsewhere")
    result = danet("train", *TINY, "run_dir=elsewhere", "trainer.max_epochs=3", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    rows = (tmp_path / "elsewhere" / "metrics.csv").read_text().splitlines()
    assert rows[:11] == (undisturbed / "metrics.csv").read_text().splitlines()
    assert len(rows) == 16  # 3 epochs of 4 steps and a validation
    column = rows[0].split(",").index("lr/backbone")
    rates = [float(value) for row in rows[11:] if (value := row.split(",")[column])]
    expected = [1.2e-3 * (1 - step / 12) ** 0.9 for step in (8, 9, 10, 11)]
    assert rates == pytest.approx(expected)  # as if it had been meant to be so long: none is 0
    column = rows[0].split(",").index("val/miou")
    best = max(float(value) for row in rows[1:] if (value := row.split(",")[column]))
    assert json.loads((tmp_path / "elsewhere" / "results.json").read_text())["miou"] == best


@pytest.mark.slow
def test_wandb_run_goes_on(tmp_path):
    """One run id, each row once, although a part of the run was computed twice."""
    rare = ["logger=wandb", "callbacks.last.every_minutes=10"]  # only the validations save
    pictured = [each for each in TINY if each != "~callbacks.pictures"]
    until_done(tmp_path, *pictured, *rare, *killed_at("start3", "start6"), starts=3)
    folders = sorted((tmp_path / "run" / "wandb").glob("offline-run-*"))
    assert len(folders) == 3
    assert len({folder.name.rpartition("-")[2] for folder in folders}) == 1
    steps = []
    for folder in folders:
        arguments = ["leet", "inspect", "--json", str(folder)]
        with start_module("wandb", *arguments, cwd=tmp_path) as tool:
            shown = tool.wait()
        records = map(json.loads, shown.stdout.splitlines())
        steps += [r["history"]["step"]["num"] for r in records if r["type"] == "history"]
    assert steps == list(range(12))  # 8 steps, 2 validations, 2 pictures


@pytest.mark.slow
def test_tensorboard_shows_each_row_once(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    rare = ["logger=tensorboard", "callbacks.last.every_minutes=10"]
    until_done(tmp_path, *TINY, *rare, *killed_at("start6"), starts=2)
    shown = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert [event.step for event in shown.Scalars("train/loss")] == list(range(8))
    assert [event.step for event in shown.Scalars("val/miou")] == [3, 7]


def test_rows_go_on_with_those_of_the_checkpoint(tmp_path):
    """Cut back, and without a column that only later rows had; text stays as it was written."""
    file = MetricsFile(str(tmp_path))
    for step in range(2):
        file.log_metrics({"loss": 0.1 + 0.2, "epoch": 0}, step)
    kept = file.rows
    file.log_metrics({"miou": 1 / 3, "epoch": 0}, 1)
    file.save()
    again = MetricsFile(str(tmp_path))
    again.continue_from(kept)
    again.log_metrics({"loss": 0.5, "epoch": 0}, 2)
    assert (
        again.rows
        == again.path.read_text()
        == ("epoch,loss,step\n0,0.30000000000000004,0\n0,0.30000000000000004,1\n0,0.5,2\n")
    )


@pytest.mark.parametrize(
    "content",
    [None, b"", b"\x00\xff\xfe garbage\n", b"epoch,loss,step\n0,0.25,0\n", b"a,b\n1,2,3,4\n5\n"],
)
def test_changed_rows_are_written_anew(tmp_path, content, caplog):
    file = MetricsFile(str(tmp_path))
    file.log_metrics({"loss": 0.5, "epoch": 0}, 0)
    kept = file.rows
    file.path.unlink() if content is None else file.path.write_bytes(content)
    MetricsFile(str(tmp_path)).continue_from(kept)
    assert file.path.read_text() == kept == "epoch,loss,step\n0,0.5,0\n"
    assert "written anew from the checkpoint" in caplog.text


# what Lightning's own counters did not come through
@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "moments"),
    [
        (["+trainer.limit_train_batches=3"], ["step3"]),
        (["+trainer.limit_train_batches=0.5"], ["end2"]),
        (["+trainer.val_check_interval=0.5"], ["validation2", "again2"]),
        (["+trainer.val_check_interval=2", "+trainer.max_steps=6"], ["validation6", "again6"]),
        (["trainer.accumulate_grad_batches=2"], ["step3", "validation4"]),
        (["trainer.max_epochs=-1", "+trainer.max_steps=6"], ["end5", "start5"]),
        (["trainer.check_val_every_n_epoch=null", "+trainer.val_check_interval=3"], ["end4"]),
        (["trainer.num_sanity_val_steps=2", "trainer.gradient_clip_val=0.1"], ["validation4"]),
        (
            [
                "+callbacks.stop._target_=lightning.pytorch.callbacks.EarlyStopping",
                "+callbacks.stop.monitor=val/miou", "+callbacks.stop.patience=1",
                "+callbacks.stop.mode=min", "trainer.max_epochs=5", "+trainer.min_epochs=3",
            ],
            ["validation8", "start9"],
        ),
    ],
    ids=lambda values: " ".join(values[:2]),
)  # fmt: skip
def test_every_setting_goes_on_exactly(tmp_path, setting, moments):
    left_alone, killed = tmp_path / "left alone", tmp_path / "killed"
    for folder in (left_alone, killed):
        folder.mkdir()
    until_done(left_alone, *TINY, *setting, starts=1)
    results = until_done(
        killed, *TINY, EVERY_STEP, *setting, *killed_at(*moments), starts=len(moments) + 1
    )
    assert [result.returncode for result in results] == [-9] * len(moments) + [0]
    same_runs(left_alone / "run", killed / "run")


def test_comparison_finds_a_single_bit(undisturbed, tmp_path):
    shutil.copytree(undisturbed, tmp_path / "run")
    results = tmp_path / "run" / "results.json"
    results.write_text(results.read_text().replace(str(undisturbed), str(results.parent)))
    assert differences(undisturbed, tmp_path / "run") == []
    content = torch.load(undisturbed / "last.ckpt", weights_only=True)
    content["loops"]["fit_loop"]["epoch_progress"]["total"]["ready"] += 1
    content["state_dict"]["net.backbone.fourth.weight"].view(torch.int32)[0] ^= 1
    content["more"] = 1
    torch.save(content, tmp_path / "run" / "last.ckpt")
    found = differences(undisturbed, tmp_path / "run")
    assert [line.split(": ")[:2] for line in found] == [
        ["last.ckpt", "loops/fit_loop/epoch_progress/total/ready"],
        ["last.ckpt", "more"],
        ["last.ckpt", "state_dict/net.backbone.fourth.weight"],
    ]


# ---- what is refused


def refused(*arguments: str, cwd: Path) -> str:
    result = danet("train", *TINY, *arguments, cwd=cwd)
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("backbone.name=resnet34", "backbone.name: resnet18 in the checkpoint, resnet34 now"),
        pytest.param(
            "model.pam=false",
            "model.pam: True in the checkpoint, False now",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "optimizer.lr=0.5",
            "optimizer.lr: 0.0012 in the checkpoint, 0.5 now",
            marks=pytest.mark.slow,
        ),
        ("augmentation.flip=0.25", "augmentation.flip: 0.5 in the checkpoint, 0.25 now"),
        ("seed=3", "seed: 0 in the checkpoint, 3 now"),
    ],
)
def test_another_training_is_refused(undisturbed, change, told):
    said = refused("run_dir=run", change, cwd=undisturbed.parent)
    assert told in said
    assert len([line for line in said.splitlines() if " in the checkpoint, " in line]) == 1
    assert "init_from" in said


def test_another_data_set_is_refused_with_its_classes(undisturbed, tmp_path):
    result = danet(
        "train", "dataset=folder", f"dataset.root={tmp_path}", "dataset.classes=[road,sky]",
        "trainer=cpu", "logger=csv", "run_dir=run", cwd=undisturbed.parent,
    )  # fmt: skip
    assert result.returncode == 2, result.stderr
    assert "classes: ['road', 'sidewalk'" in result.stderr
    assert "dataset._target_: danet_lightning.data.scenes.Scenes in the checkpoint" in result.stderr


def test_shorter_training_is_refused(undisturbed):
    said = refused("run_dir=run", "trainer.max_epochs=1", cwd=undisturbed.parent)
    assert "trainer.max_epochs=1" in said
    assert "has done 2" in said


def test_epoch_begins_behind_the_batches_of_the_checkpoint():
    loader = TrainingLoader({(0, i): i for i in range(8)}, 2, sampler=EpochSampler(8, 2))
    whole = [batch.tolist() for batch in loader]
    loader.start_at(3)
    assert [batch.tolist() for batch in loader] == whole[3:]
    assert [batch.tolist() for batch in loader] == whole


@pytest.mark.parametrize("how", ["deleted", "truncated"])
def test_lost_best_checkpoint_is_told_before_anything_is_trained(undisturbed, tmp_path, how):
    """And the remedy that it names works: another folder, whose best starts afresh."""
    shutil.copytree(undisturbed, tmp_path / "run")
    best, last = (tmp_path / "run" / name for name in ("best.ckpt", "last.ckpt"))
    best.unlink() if how == "deleted" else best.write_bytes(best.read_bytes()[:3000])
    said = refused("run_dir=run", "trainer.max_epochs=3", cwd=tmp_path)
    assert "the best checkpoint until then" in said
    assert str(best) in said
    result = danet("train", *TINY, f"ckpt_path={last}", "run_dir=new", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "new" / "metrics.csv").read_bytes() == (
        undisturbed / "metrics.csv"
    ).read_bytes()


@pytest.mark.parametrize(
    ("key", "value", "refuses"),
    [
        ("trainer.gradient_clip_val", 0.5, True),
        ("trainer.precision", "bf16-mixed", True),
        ("trainer.val_check_interval", 0.5, True),
        ("callbacks.best.monitor", "val/pixel_accuracy", True),
        ("callbacks.best.save_top_k", 3, True),
        ("callbacks.mine._target_", "lightning.Callback", True),
        ("dataset.ignore", 254, True),
        ("init_from", "other.ckpt", True),
        ("loss.dice", 1.0, True),
        ("loss.dice", 0.0, False),  # what an argument is where no file sets it
        ("trainer.devices", 2, False),
        ("trainer.max_epochs", 9, False),
        ("callbacks.best.dirpath", "/elsewhere", False),
        ("callbacks.last.every_minutes", 1.0, False),
        ("logger.wandb.project", "mine", False),
        ("dataset.root", "/elsewhere", False),
        ("dataset.list_file", "/elsewhere/{split}.txt", False),
        ("dataset.sbd_root", "/elsewhere", False),
        ("data.workers", 4, False),
        ("data.cache", "memmap", False),
        ("run_dir", "/elsewhere", False),
    ],
)
def test_everything_is_compared_but_what_decides_no_number(key, value, refuses):
    """The annotation of an argument says whether it decides one."""
    dataset = "voc2012.Voc2012" if key == "dataset.sbd_root" else "folder.Folder"
    then, now = (
        {
            "classes": ["a"],
            "versions": {"torch": "2"},
            "config": {
                "init_from": None,
                "seed": 0,
                "dataset": {"_target_": f"danet_lightning.data.{dataset}"},
                "data": {"_target_": "danet_lightning.data.datamodule.SegmentationDataModule"},
                "loss": {"_target_": "danet_lightning.train.losses.SummedCrossEntropy"},
            },
        }
        for _ in range(2)
    )
    node = now["config"]
    for name in key.split(".")[:-1]:
        node = node.setdefault(name, {})
    node[key.split(".")[-1]] = value
    if not refuses:
        refuse_differences(then, now, Path("last.ckpt"))
        return
    with pytest.raises(RequestError, match=re.escape(f"{key}: ")):
        refuse_differences(then, now, Path("last.ckpt"))


@pytest.mark.parametrize(
    ("capabilities", "chosen"),
    [
        ({}, "32-true"),
        ({"avx512_bf16": True}, "32-true"),  # slower than float32 there
        ({"avx512_bf16": True, "amx_bf16": True}, "bf16-mixed"),
    ],
)
def test_precision_is_chosen_once(monkeypatch, capabilities, chosen):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    auto = {"precision": "auto", "accelerator": "cpu"}
    assert precision(auto, None) == chosen
    for recorded in ("32-true", "bf16-mixed"):
        content = {"danet_lightning": {"config": {"trainer": {"precision": recorded}}}}
        assert precision(auto, content) == recorded
    assert precision({"precision": 32}, None) == "32-true"


# ---- the data


def tree(root: Path, size: tuple[int, int] = (8, 8)) -> Path:
    """Three images of noise to train on, and one to validate, with masks of two classes."""
    for number, split in enumerate(["train", "train", "train", "val"]):
        noise = np.random.default_rng(number)
        for kind, shape, values in (("images", (*size, 3), 256), ("masks", size, 2)):
            path = root / split / kind / f"{number}.bmp"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = noise.integers(0, values, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(path)
    return root


def data_of(root: Path, **options) -> Folder:
    return loaded(Folder, str(root), ["a", "b"], **options)


def recorded(root: Path) -> dict[str, torch.Tensor]:
    return {split: data_of(root).digests(split) for split in ("train", "val")}


def edit(path: Path) -> None:
    """Change the last byte and keep size and times."""
    times = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1]))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda root: edit(root / "train/masks/1.bmp"), r"in 'train': 1 of 3 .* first is 1\b"),
        (lambda root: edit(root / "train/images/2.bmp"), r"in 'train': 1 of 3 .* first is 2\b"),
        (lambda root: edit(root / "val/masks/3.bmp"), r"in 'val': 1 of 1 "),
        (
            lambda root: [
                (root / f"train/{kind}/0.bmp").rename(root / f"train/{kind}/9.bmp")
                for kind in ("images", "masks")
            ],
            r"in 'train': 3 of 3 .* first is 1\b",
        ),
        (
            lambda root: [(root / f"train/{kind}/0.bmp").unlink() for kind in ("images", "masks")],
            r"had 3 images in 'train', and there are 2",
        ),
    ],
)
def test_other_images_or_labels_are_refused(tmp_path, change, told):
    then = recorded(tree(tmp_path))
    change(tmp_path)
    with pytest.raises(RequestError, match=told):
        refuse_other_data(then, data_of(tmp_path), Path("last.ckpt"))


def test_moved_copied_and_cached_data_is_the_same(tmp_path):
    then = recorded(tree(tmp_path / "here"))
    shutil.copytree(tmp_path / "here", tmp_path / "there", copy_function=shutil.copyfile)
    for path in (tmp_path / "there").rglob("*.bmp"):
        os.utime(path, (0, 0))
    refuse_other_data(then, data_of(tmp_path / "there"), Path("last.ckpt"))
    cached = data_of(tmp_path / "here", cache="memmap")
    cached.setup("fit")
    refuse_other_data(then, cached, Path("last.ckpt"))


@pytest.mark.parametrize("at", [0, -1])
def test_large_file_is_read_in_pieces_with_its_ends(tmp_path, at):
    root = tree(tmp_path, (512, 512))  # 786 kB
    then = recorded(root)
    path = root / "train/images/0.bmp"
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    assert not torch.equal(then["train"], data_of(root).digests("train"))


def test_new_training_does_not_overwrite_an_old_one(undisturbed):
    said = refused("run_dir=run", "ckpt_path=null", cwd=undisturbed.parent)
    assert "holds a training already" in said


def test_folder_without_a_readable_checkpoint_is_refused(tmp_path):
    (tmp_path / "last.ckpt").write_bytes(b"half")
    with pytest.raises(RequestError, match=r"no checkpoint of .* can be read"):
        find("auto", tmp_path)
