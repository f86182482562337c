"""Run folders: what state they are in, which belong together, and how groups compare."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from written_runs import PROTOCOL, write_run

from danet_lightning.disk.claim import IN_USE, claimed
from danet_lightning.errors import RequestError
from danet_lightning.report.run import choose_baseline
from danet_lightning.runs import fairness, grouping, overview, reading


def groups_of(*places: Path) -> list[grouping.Group]:
    return grouping.grouped([reading.read(path) for path in reading.find(places)])


@pytest.fixture
def ablation(tmp_path: Path, seed: int) -> tuple[Path, dict[str, list[float]]]:
    """A sweep of two switches over three seeds; its folder, and the mIoUs of each group."""
    draws = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {}
    number = 0
    for pam in (True, False):
        for cam in (True, False):
            name = f"model.pam={str(pam).lower()} model.cam={str(cam).lower()}"
            drawn[name] = draws.uniform(0.2, 0.8, 3).tolist()
            for run_seed, miou in enumerate(drawn[name]):
                folder = tmp_path / "sweep" / str(number)
                write_run(folder, miou, model__pam=pam, model__cam=cam, seed=run_seed)
                number += 1
    return tmp_path / "sweep", drawn


@pytest.mark.parametrize(
    "values",
    [
        {"model___target_": ["danet_lightning.models.DANet", "mine.net.DANet"]},
        {"optimizer__lr": [None, "null"]},
        {"optimizer__lr": [1, "1"]},
        {"dataset__classes": [["a b"], ["ab"]]},
    ],
)
def test_values_that_differ_are_never_one_group(values: Any, tmp_path: Path) -> None:
    ((key, both),) = values.items()
    for number, value in enumerate(both):
        write_run(tmp_path / str(number), 0.5 + number / 10, seed=number, **{key: value})
    groups = groups_of(tmp_path)
    assert len({group.name for group in groups}) == len(groups) == 2


def test_a_name_is_no_longer_than_it_takes(tmp_path: Path) -> None:
    for number, (model, pam) in enumerate([("fcn", None), ("danet", True), ("danet", False)]):
        write_run(tmp_path / str(number), 0.5, model___target_=model, model__pam=pam)
    names = [group.name for group in groups_of(tmp_path)]
    assert names == ["model=fcn", "model=danet model.pam=true", "model=danet model.pam=false"]


def test_means_and_paired_differences_are_numpys(ablation: Any) -> None:
    folder, drawn = ablation
    groups = groups_of(folder)
    assert [group.name for group in groups] == list(drawn)
    first = np.array(drawn[groups[0].name])
    for group in groups:
        values = np.array(drawn[group.name])
        spread = group.spread()
        assert spread is not None
        assert spread.mean == pytest.approx(values.mean())
        assert spread.std == pytest.approx(values.std(ddof=1))
        assert (spread.size, group.best.miou) == (3, values.max())
        found = grouping.difference(group, groups[0])
        assert found is not None
        assert found.is_paired
        assert found.spread.mean == pytest.approx((values - first).mean())
        assert found.spread.std == pytest.approx((values - first).std(ddof=1))
        of_class = grouping.difference(group, groups[0], "road")  # whose IoU is the mIoU there
        assert of_class == found
    assert fairness.warnings(groups) == []


def test_the_points_of_a_sweep_come_in_its_order(tmp_path: Path) -> None:
    """Which is not that of their names, as the first one is what others are compared with."""
    for number, name in enumerate(["pam=true", "cam=true", "pam=false"]):
        write_run(tmp_path / name, 0.5, seed=number)
        record = tmp_path / name / ".hydra" / "overrides.yaml"
        os.utime(record, (1000 + number, 1000 + number))
    assert [path.name for path in reading.find([tmp_path])] == ["pam=true", "cam=true", "pam=false"]


def test_without_a_common_seed_the_difference_is_that_of_the_means(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 0.5, seed=0, model__pam=True)
    write_run(tmp_path / "b", 0.7, seed=1, model__pam=False)
    found = grouping.difference(*reversed(groups_of(tmp_path)))
    assert grouping.difference(*reversed(groups_of(tmp_path)), "sky") == found
    assert found is not None
    assert found.spread.mean == pytest.approx(0.2)
    assert not found.is_paired
    assert overview.signed(found) == "+0.2000 (not paired)"


def test_what_differs_is_named_once_and_by_what_was_typed(tmp_path: Path) -> None:
    """optimizer.lr stands in module.optimizer.lr too; trainer.x follows from it, and is deeper."""
    write_run(tmp_path / "a", 0.5, optimizer__lr=0.01, model___target_="a.b.DANet")
    write_run(tmp_path / "b", 0.5, optimizer__lr=0.02, model___target_="a.b.FCN")
    for name, width in (("a", 1), ("b", 2)):
        with (tmp_path / name / "config.yaml").open("a") as file:
            file.write(f"above: {width}\n")
    groups = groups_of(tmp_path)
    assert set(groups[0].values) == {"optimizer.lr", "model._target_", "above"}
    assert [group.name for group in groups] == ["optimizer.lr=0.01", "optimizer.lr=0.02"]
    only = groups_of(tmp_path / "a")
    assert [(group.name, group.values) for group in only] == [("all runs", {})]


def test_groups_are_named_by_the_choices_that_made_them_differ(tmp_path: Path) -> None:
    """Of a network without both attentions by `model=fcn`, not by the first key that it changes."""
    write_run(tmp_path / "a", 0.5, choices={"model": "danet"}, logger__x=1)
    write_run(tmp_path / "b", 0.5, choices={"model": "danet"}, seed=1)
    off = {"model__pam": False, "model__cam": False}
    write_run(tmp_path / "c", 0.5, choices={"model": "fcn"}, **off)
    assert [group.name for group in groups_of(tmp_path)] == ["model=danet", "model=fcn"]
    write_run(tmp_path / "d", 0.5, choices={"model": "danet"}, model__cam=False)
    names = [group.name for group in groups_of(tmp_path)]
    assert names == [f"model={each}" for each in (
        "danet model.cam=true", "fcn", "danet model.cam=false")]  # fmt: skip
    shutil.rmtree(tmp_path / "c" / ".hydra")  # where one is not known, keys tell them apart
    names = {" ".join(sorted(group.name.split())) for group in groups_of(tmp_path)}
    together = "model.cam=true model.pam=true"
    assert names == {"model.pam=false", together, together.replace("true", "false", 1)}


def test_the_state_of_a_run(tmp_path: Path) -> None:
    write_run(tmp_path / "finished", 0.5)
    write_run(tmp_path / "stopped", None)
    write_run(tmp_path / "running", None)
    write_run(tmp_path / "failed", None)
    note = {"code": 1, "reason": "the loss is nan\nmore", "overrides": []}
    (tmp_path / "failed" / "failed.json").write_text(json.dumps(note))
    (tmp_path / "stopped" / IN_USE).write_text("{}")  # a killed process left it
    with claimed(tmp_path / "running" / IN_USE):
        states = {path.name: reading.read(path) for path in reading.find([tmp_path])}
    assert {name: run.status for name, run in states.items()} == {
        name: name for name in ("failed", "finished", "running", "stopped")
    }
    assert states["failed"].reason == "the loss is nan"
    assert states["stopped"].series["train/loss"][10] == 0.5  # steps done, not Lightning's number


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("results.json", '{"miou": 0.5, "class_', "results.json: Unterminated string"),
        ("results.json", "[1]", "results.json: [1]"),
        ("results.json", '{"miou": "high"}', "results.json: {"),
        ("results.json", '{"class_iou": {"a": 1}, "confusion_matrix": [[1, 2]]}', "not one of its"),
        ("results.json", b"\xff", "results.json: 'utf-8' codec"),
        ("config.yaml", "model: {pam: tr", "config.yaml: "),
    ],
)
def test_a_half_written_file_is_told(tmp_path: Path, file: str, content: Any, said: str) -> None:
    write_run(tmp_path / "a", 0.5)
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "a" / file).write_bytes(data)
    run = reading.read(tmp_path / "a")
    assert run.status == "damaged"
    assert said in run.reason


def test_numbers_that_are_none_and_endless_levels_damage_one_run_alone(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 0.5)
    for content in ('{"miou": NaN}', '{"miou": Infinity}', 100_000 * "["):
        (tmp_path / "a" / "results.json").write_text(content)
        assert reading.read(tmp_path / "a").status == "damaged"


def test_a_run_that_is_named_twice_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        write_run(tmp_path / "sweep" / name, 0.5)
    monkeypatch.chdir(tmp_path)
    assert [path.name for path in reading.find(["sweep/b", tmp_path / "sweep"])] == ["b", "a"]


def test_links_are_followed_once(tmp_path: Path) -> None:
    """To a run, to a folder of runs, to where one is already, and to nothing."""
    write_run(tmp_path / "elsewhere" / "a", 0.5)
    write_run(tmp_path / "elsewhere" / "more" / "b", 0.6)
    (sweep := tmp_path / "sweep").mkdir()
    for name, target in (
        ("one", "../elsewhere/a"), ("several", "../elsewhere/more"), ("round", "."),
        ("up", ".."), ("gone", "nowhere"),
    ):  # fmt: skip
        (sweep / name).symlink_to(target)
    (tmp_path / "elsewhere" / "back").symlink_to(sweep)
    found = reading.find([sweep])
    assert sorted(path.resolve().name for path in found) == ["a", "b"]
    assert reading.find([sweep / "one"]) == [sweep / "one"]


def test_runs_of_other_classes_are_groups_apart(tmp_path: Path) -> None:
    """Also where the configurations are the same, as of a folder whose content has changed."""
    write_run(tmp_path / "a", 0.5, ("road", "sky"), seed=0)
    write_run(tmp_path / "b", 0.7, ("road", "sky"), seed=1)
    write_run(tmp_path / "c", 0.9, ("sky", "road"), seed=0)
    write_run(tmp_path / "running", None, seed=2)
    groups = groups_of(tmp_path)
    assert [(group.name, len(group.runs)) for group in groups] == [
        ("classes=[road,sky]", 3), ("classes=[sky,road]", 1),
    ]  # fmt: skip
    assert groups[0].spread().mean == pytest.approx(0.6)
    (told,) = [each for each in fairness.warnings(groups) if "classes differ" in each]
    assert "(a, b)" in told
    assert "(c)" in told


def test_a_half_written_row_and_what_is_no_number_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,train/loss,val/miou\n0,1.5,\n1,nan,0.25\nx,1,1\n2,0.5,0.")
    assert reading.series(path) == {"train/loss": {1: 1.5, 3: 0.5}, "val/miou": {2: 0.25, 3: 0.0}}
    path.write_text("step,train/loss\n0,1.5\n1")
    assert reading.series(path) == {"train/loss": {1: 1.5}}


def test_a_run_of_another_version_is_read(tmp_path: Path) -> None:
    write_run(tmp_path / "old", 0.5)
    old = {"miou": 0.5, "class_iou": {"road": 0.5}, "unknown": {"to": "us"}}
    (tmp_path / "old" / "results.json").write_text(json.dumps(old))
    (group,) = groups_of(tmp_path)
    assert (group.runs[0].status, group.spread().mean) == ("finished", 0.5)
    assert group.cost("seconds_per_step") is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"protocol": PROTOCOL | {"name": "slide"}}, 'protocols differ.*name "whole".*"slide"'),
        ({"data": {"val": "another"}}, 'images or labels differ.*val "another"'),
        ({"git_commit": "0123456789+changes"}, "commits differ.*0123456789"),
        ({"git_commit": "62c699838c+changes"}, "not committed"),
        ({"versions": {"torch": "2.6.0"}}, 'versions differ.*torch "2.6.0"'),
        ({"machine": {"host": "there"}}, "machines differ"),
        ({"class_iou": {"road": 1, "sky": 1, "bus": 1}}, r"classes differ.*car \(a\) / bus \(b\)"),
        ({"partial": True}, "Only a part"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_should_not_be_compared_is_warned_of(
    tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    write_run(tmp_path / "a", 0.5, model__pam=True)
    write_run(tmp_path / "b", 0.6, model__pam=False, results=changed)
    told = fairness.warnings(groups_of(tmp_path))
    assert any(re.search(said, each) for each in told), told


def test_a_baseline_is_found_by_name_or_folder(ablation: Any) -> None:
    folder, _ = ablation
    groups = groups_of(folder)
    assert choose_baseline(groups, None) is groups[0]
    assert choose_baseline(groups, "model.cam=false model.pam=false") is groups[3]
    assert choose_baseline(groups, str(folder / "4")) is groups[1]
    with pytest.raises(RequestError, match=r"baseline=model.pam=maybe: neither.*Groups: model"):
        choose_baseline(groups, "model.pam=maybe")


@pytest.mark.parametrize(
    ("make", "said"),
    [(lambda path: path.mkdir(), "holds no run"), (lambda path: None, "no folder at")],
    ids=["no run", "no folder"],
)
def test_places_without_runs_are_refused(tmp_path: Path, make: Any, said: str) -> None:
    make(tmp_path / "here")
    with pytest.raises(RequestError, match=said):
        reading.find([tmp_path / "here"])
