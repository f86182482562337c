"""averaging=ema: whatever is shown and kept is the average, and a kill changes nothing."""

import csv
import json

import pytest
import torch
from commands import danet
from trainings import EVERY_STEP, TINY, TRUSTED, killed_at, same_runs, until_done

EMA = ["averaging=ema", "callbacks.ema.decay=0.9"]


@pytest.fixture(scope="module")
def averaged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("averaged")
    until_done(folder, *TINY, *EMA, starts=1)
    return folder / "run"


def test_curve_best_checkpoint_results_and_evaluate_mean_the_average(averaged):
    best = torch.load(averaged / "best.ckpt", weights_only=True)
    (current, average) = (best[key] for key in ("current_model_state", "state_dict"))
    name = "net.classifiers.fused.1.weight"
    assert not torch.equal(current[name], average[name])
    results = json.loads((averaged / "results.json").read_text())
    rows = csv.DictReader((averaged / "metrics.csv").read_text().splitlines())
    curve = [float(row["val/miou"]) for row in rows if row["val/miou"]]
    assert results["miou"] == pytest.approx(max(curve), abs=1e-12)
    again = danet("evaluate", "ckpt_path=run/best.ckpt", "trainer=cpu", TRUSTED, "run_dir=again",
                  cwd=averaged.parent)  # fmt: skip
    assert again.returncode == 0, again.stderr
    evaluated = json.loads((averaged.parent / "again" / "results.json").read_text())
    assert evaluated["confusion_matrix"] == results["confusion_matrix"]


def test_a_killed_run_ends_as_an_undisturbed_one(averaged, tmp_path):
    until_done(tmp_path, *TINY, *EMA, EVERY_STEP, *killed_at("step2", "validation4"), starts=3)
    same_runs(averaged, tmp_path / "run")
