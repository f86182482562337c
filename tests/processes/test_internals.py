"""Private names of dependencies that we lean on: each is there, in a version that is capped."""

import copy
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import wandb
from hydra._internal.core_plugins.structured_config_source import StructuredConfigSource
from lightning import Trainer
from lightning.fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers.multiprocessing import _MultiProcessingLauncher
from packaging.requirements import Requirement

from danet_lightning.processes import internals


def requirements() -> dict[str, Requirement]:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    lines = tomllib.loads(text)["project"]["dependencies"]
    return {each.name: each for each in map(Requirement, lines)}


@pytest.mark.parametrize("package", internals.READ_IN)
def test_the_versions_are_those_it_was_read_in_up_to_the_next_release(package: str) -> None:
    allowed = requirements()[package].specifier
    major, minor = internals.READ_IN[package].split(".")[:2]
    assert internals.READ_IN[package] in allowed
    assert f"{major}.{int(minor) + 1}.0" not in allowed
    assert version(package).split(".")[:2] == [major, minor]


def test_hydras_parser_reads_a_command_line() -> None:
    read = internals.command_line_parser().parse_args(["-m", "a=1", "b=2"])
    assert (read.multirun, read.overrides) == (True, ["a=1", "b=2"])


def test_hydras_store_is_not_copied() -> None:
    """It is what a source keeps, and a composition copies its sources."""
    source = StructuredConfigSource("hydra", "structured://")
    assert copy.deepcopy(source).store is source.store


def test_a_launcher_that_copies_the_process_is_known() -> None:
    launcher = _MultiProcessingLauncher(DDPStrategy(start_method="spawn"))
    assert internals.copies_this_process(launcher)
    assert not internals.copies_this_process(None)


def test_the_processes_of_lightnings_observer_are_taken_over() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        observer = _ChildProcessObserver(0, [process], sleep_period=0.05)
        observer.start()
        assert internals.processes_of_lightning() == [process]
        observer.join(30)  # with none to watch, it ends
        assert process.stdin is not None
        process.stdin.write(b"\n")


def test_wandb_takes_the_setting() -> None:
    assert internals.WANDB_FLUSH_SETTING in wandb.Settings.model_fields


def test_lightnings_loops_have_what_the_exact_ones_use() -> None:
    trainer = Trainer(accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False)
    loop = trainer.fit_loop
    for name in ("_restarting", "_loaded_from_state_dict", "_restart_stage", "_combined_loader"):
        assert hasattr(loop, name), name
    for name in ("_should_check_val_fx", "_num_ready_batches_reached", "_batches_that_stepped"):
        assert hasattr(loop.epoch_loop, name), name
    assert hasattr(loop, "_data_fetcher")
