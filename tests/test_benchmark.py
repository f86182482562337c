"""The benchmark of the data path, and what it compares."""

import json
import random
import re
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import benchmark_attention
import benchmark_data
import benchmark_model
import benchmark_step
import pytest
import torch
from benchmark_data import textbook_sample, write_photos
from hydra.errors import InstantiationException

from danet_lightning.data.files.source import FileSource

SMALL = [
    *("--repeats", "2", "--size", "64", "128", "--crop-size", "48", "48"),
    *("--images", "2", "--samples", "8"),
]


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table, the figures in results.json, and no photo that stays."""
    temporary = tmp_path / "for a while"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)
    output = tmp_path / "my figures" / "data.json"
    monkeypatch.setattr(sys, "argv", ["", *SMALL, "--workers", "0", "1", "--output", str(output)])
    benchmark_data.main()
    assert "textbook pipeline" in capsys.readouterr().out
    results = json.loads(output.read_text())
    assert results["machine"]["cores"] >= 1
    samples = results["samples"]
    assert set(samples) == {
        "decoding alone", "our sample", "our sample, cached", "textbook pipeline",
    }  # fmt: skip
    for sample in samples.values():
        assert sample["ms"] > 0
        floor = samples["decoding alone"]["ms"]
        assert sample["of_floor"] == pytest.approx(sample["ms"] / floor)
    found = [(loader["cache"], loader["workers"]) for loader in results["loaders"]]
    assert found == [("none", 0), ("none", 1), ("memmap", 0), ("memmap", 1)]
    assert all(loader["samples_per_second"] > 0 for loader in results["loaders"])
    if Path("/proc/self/status").exists():
        assert all(loader["megabytes_after"] > 10 for loader in results["loaders"])
    assert list(temporary.glob("danet*")) == []


@pytest.mark.parametrize(
    "words", [["--repeats", "0"], ["--size", "3"], ["--workers"], ["--repeat-s", "2"], ["data"]]
)
def test_a_wrong_request(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        benchmark_data.arguments().parse_args(words)
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "benchmark", [benchmark_attention, benchmark_data, benchmark_model, benchmark_step]
)
def test_help_says_the_default_of_every_option(benchmark: ModuleType) -> None:
    _, *options = re.split(r"\n  (?=--)", benchmark.arguments().format_help())
    assert len(options) >= 7
    assert [option for option in options if "default:" not in " ".join(option.split())] == []


def test_the_photos_are_a_function_of_the_seed_and_hold_several_classes(
    tmp_path: Path, seed: int
) -> None:
    folders = [tmp_path / name for name in ("a", "b", "c")]
    for folder in folders:
        folder.mkdir()
    sets = [
        write_photos(folder, 2, (96, 160), each)
        for folder, each in zip(folders, (seed, seed, seed + 1), strict=True)
    ]
    contents = [[path.read_bytes() for _, *pair in files for path in pair] for files in sets]
    assert contents[0] == contents[1] != contents[2]
    image, mask = FileSource(sets[0], {label: label for label in range(34)}).read(0)
    assert image.shape == (96, 160, 3)
    assert len(set(mask.flat)) > 5


@pytest.mark.parametrize("size", [(40, 60), (300, 400)])
def test_the_textbook_sample_is_a_sample(size: tuple[int, int], tmp_path: Path, seed: int) -> None:
    """Padded or cut, the size is the crop's, and the image is normalized."""
    ((_, photo, labels),) = write_photos(tmp_path, 1, size, seed)
    image, mask = textbook_sample(photo, labels, (100, 120), random.Random(seed))
    assert (image.shape, image.dtype) == ((3, 100, 120), torch.float32)
    assert (mask.shape, mask.dtype) == ((100, 120), torch.int64)
    assert image.min() >= -2.2
    assert image.max() <= 2.7


def test_the_costs_of_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Attention's work grows with the square of the positions N: 2 N^2 (D + C).

    The figures of the networks before one that fails are there.
    """
    output = tmp_path / "model.json"
    ours = "backbone._target_=small_net.SmallNet"
    arguments = ["--config", ours, f"{ours} model.pam=false", "backbone._target_=no_such.Net"]
    arguments += ["--size", "64x64", "128x128", "--repeats", "2", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["", *arguments])
    with pytest.raises(InstantiationException, match="no_such"):
        benchmark_model.main()
    rows = json.loads(output.read_text())["rows"]
    assert len(rows) == len(capsys.readouterr().out.splitlines()) - 1 == 4
    for row in rows:
        assert row["images_a_second"] == pytest.approx(1000 / row["milliseconds"])
    with_pam, without = rows[:2], rows[2:]
    flops, less = ([row["flops_of_an_image"] for row in part] for part in (with_pam, without))
    width, positions = 16, (64, 256)
    convolutions = 2 * (64 * width * 9 + width * (2 + 2 + width) + width * width * 9)
    for one, other, n in zip(flops, less, positions, strict=True):
        assert one - other == n * convolutions + 2 * n * n * (2 + width)
    parameters = with_pam[0]["parameters"] - without[0]["parameters"]
    # the branch: two 3x3 with norms, queries, keys and values with biases, gamma, two classifiers
    branch = 64 * 16 * 9 + 16 * 16 * 9 + 4 * 16 + 2 * (16 * 2 + 2) + 16 * 16 + 16 + 1
    assert parameters == branch + 16 * 19 + 19


def test_a_step_is_the_textbooks_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "step.json"
    arguments = ["--size", "40x48", "--batch", "2", "--repeats", "1", "--device", "cpu"]
    arguments += ["--kind", "textbook", "float32", "bf16", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["", *arguments])
    benchmark_step.main()
    textbook, ours, low = json.loads(output.read_text())["rows"]
    for row in (textbook, ours, low):
        assert row["images"] == [2, 40, 48]
        assert row["step_images_a_second"] == pytest.approx(2000 / row["step_ms"])
        assert row["inference_ms"] > 0
    assert textbook["loss_error"] == 0
    assert ours["loss_error"] < 1e-4
    assert ours["gradient_error"] < 0.1  # 1e-12 in float64: 50 layers make much of rounding
    assert 1e-6 < low["loss_error"] < 0.1


def test_attention_beside_the_whole_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Less memory than the whole map's; a block that was tried is gone again."""
    output = tmp_path / "attention.json"
    arguments = ["--positions", "4096", "--rows", "256", "--repeats", "1", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["", *arguments, "--output", str(output)])
    benchmark_attention.main()
    whole, ours, blocks = json.loads(output.read_text())["rows"]
    assert (whole["ms of whole"], whole["gib of whole"]) == (1, 1)
    assert ours["N"] == blocks["N"] == 4096
    if (
        whole["gib"] is not None
    ):  # how much less is tested where tensors are counted, not the process
        assert ours["gib"] < whole["gib"]
    assert benchmark_attention.attention.LEAST_ROWS == 256


def test_the_bytes_of_a_step_are_counted_without_computing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "memory.json"
    arguments = ["memory", "--backbone", "resnet50", "--size", "64x64", "--batch", "1", "3"]
    arguments += ["--kind", "float32", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["", *arguments])
    benchmark_step.main()
    one, three = (row["step_gib"] for row in json.loads(output.read_text())["rows"])
    weights = 3 * 4 * 47.5e6 / 2**30  # with gradients and momentum
    assert weights < one < three < weights + 0.2
