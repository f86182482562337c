"""One, two and three processes: the same counts, the same files, the same step."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import danet
from PIL import Image
from processes import devices, succeed
from trainings import TINY, TRUSTED, matrix_of

pytestmark = pytest.mark.ddp


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    result = danet("train", *TINY, "trainer.max_epochs=1", "run_dir=run", cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder / "run"


COUNTS = pytest.mark.parametrize(
    ("count", "worlds"),
    [
        pytest.param(5, (1, 2, 3), id="odd count", marks=pytest.mark.slow),
        pytest.param(2, (1, 3), id="fewer images"),
    ],
)


@COUNTS
def test_evaluate_counts_each_image_once(trained, tmp_path, count, worlds):
    found = []
    for world in worlds:
        run = tmp_path / str(world)
        succeed(
            world, "evaluate", f"ckpt_path={trained}/best.ckpt", f"run_dir={run}",
            f"+dataset.val_images={count}", *devices(world), TRUSTED, cwd=tmp_path,
        )  # fmt: skip
        found.append(matrix_of(run))
    assert all(matrix == found[0] for matrix in found)
    assert sum(map(sum, found[0])) > 0


@pytest.mark.parametrize("world", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_fit_counts_each_image_once(tmp_path, world):
    """The counts of the last validation are those of a single process on the same weights."""
    succeed(
        world, "train", *TINY, *devices(world), "trainer.max_epochs=1", "batch_size=6",
        "dataset.val_images=2", "run_dir=run", cwd=tmp_path,
    )  # fmt: skip
    succeed(
        1, "evaluate", "ckpt_path=run/best.ckpt", "run_dir=alone", "trainer=cpu", TRUSTED,
        cwd=tmp_path,
    )  # fmt: skip
    assert matrix_of(tmp_path / "run") == matrix_of(tmp_path / "alone")


@COUNTS
def test_predict_writes_each_image_once(trained, tmp_path, count, worlds):
    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(count):
        pixels = np.random.default_rng(index).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / f"{index}.png")
    written = []
    for world in worlds:
        results = succeed(
            world, "predict", f"ckpt_path={trained}/best.ckpt", "input=photos",
            f"output=out{world}", "device=cpu", TRUSTED, cwd=tmp_path,
        )  # fmt: skip
        said = [result.stdout for result in results if "segmented" in result.stdout]
        assert said == [f"{count} of {count} images segmented into out{world}\n"]
        written.append({p.name: p.read_bytes() for p in (tmp_path / f"out{world}").iterdir()})
    assert len(written[0]) == 2 * count + 1  # classes.json
    assert all(files == written[0] for files in written)


# ---- the same optimizer step

STEP = [
    *TINY, "batch_size=4", "model.dropout=0", "optimizer=sgd", "optimizer.lr=0.01",
    "+trainer.max_steps=2", "+callbacks.frozen._target_=frozen.Frozen",
]  # fmt: skip


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> tuple[dict[str, torch.Tensor], Path]:
    """The weights after two steps of one process."""
    folder = tmp_path_factory.mktemp("alone")
    succeed(1, "train", *STEP, "run_dir=run", cwd=folder)
    return torch.load(folder / "run" / "last.ckpt", weights_only=True), folder


def losses(folder: Path) -> list[float]:
    """The recorded losses of the steps, of all outputs and of each."""
    with (folder / "run" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["train/loss"]]
    return [float(row[name]) for row in rows for name in row if name.startswith("train/loss")]


@pytest.mark.parametrize(
    ("world", "parts"),
    [pytest.param(2, 1, marks=pytest.mark.slow), (1, 4), (2, 2)],
)
def test_step_of_one_global_batch(alone, tmp_path, world, parts):
    """Processes and accumulated parts: the mean over the labelled pixels of the global batch."""
    reference, folder = alone
    succeed(
        world, "train", *STEP, *devices(world), f"trainer.accumulate_grad_batches={parts}",
        "run_dir=run", cwd=tmp_path,
    )  # fmt: skip
    found = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    assert found["global_step"] == reference["global_step"] == 2
    for name, tensor in reference["state_dict"].items():
        if tensor.is_floating_point():
            torch.testing.assert_close(found["state_dict"][name], tensor, rtol=0, atol=1e-6)
    assert losses(tmp_path) == pytest.approx(losses(folder), abs=1e-5)
