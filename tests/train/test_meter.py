"""What a training logs of its time and memory, and that its pictures reach every logger."""

import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from danet_lightning.train import meter

CPU = torch.device("cpu")


def test_time_is_that_of_the_steps_without_the_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 1.0, 3.0, 100.0, 104.0])  # steps of 1, 2 and 4 s, a validation of 97 s
    monkeypatch.setattr(meter, "time", SimpleNamespace(perf_counter=lambda: next(times)))
    measuring = meter.Meter()
    measuring.stepped(images=8)
    measuring.stepped(images=8)
    first = measuring.lap(CPU, waited=0.75)
    assert first == {
        "memory/peak_gib": pytest.approx(first["memory/peak_gib"]),
        "time/step": 1.5, "time/images_per_second": 16 / 3, "time/data_share": 0.25,
    }  # fmt: skip
    measuring.go_on()
    measuring.stepped(images=8)
    second = measuring.lap(CPU, waited=2.75)
    assert (second["time/step"], second["time/data_share"]) == (4.0, 0.5)
    assert measuring.summary(CPU) == {
        "seconds_per_step": 2.75, "images_per_second": (16 / 3 + 2) / 2, "data_share": 0.375,
        "peak_memory_gib": pytest.approx(second["memory/peak_gib"], rel=0.2),
    }  # fmt: skip


def test_the_peak_is_that_since_it_was_forgotten() -> None:
    meter.begin_peak(CPU)
    before = meter.peak_memory(CPU)
    held = torch.ones(2**27)  # 0.5 GiB
    assert held.sum() == 2**27
    assert meter.peak_memory(CPU) - before == pytest.approx(0.5, abs=0.1)
    del held
    meter.begin_peak(CPU)
    assert meter.peak_memory(CPU) < before + 0.25


def test_a_loader_counts_what_it_was_waited_for() -> None:
    from danet_lightning.data.samples.loader import TrainingLoader
    from danet_lightning.data.samples.sampler import EpochSampler

    class Slow(dict[Any, int]):
        def __getitem__(self, key: Any) -> int:
            time.sleep(0.01)
            return super().__getitem__(key)

    loader = TrainingLoader(Slow({(0, i): i for i in range(8)}), 2, sampler=EpochSampler(8, 2))
    for _ in loader:
        time.sleep(0.05)
    assert 0.08 <= loader.waited < 0.25
