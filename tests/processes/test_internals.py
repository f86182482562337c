"""Private names of dependencies that we lean on: each is there, in a version that is capped."""

import copy
import io
import multiprocessing
import pickle
import subprocess
import sys
import tomllib
from importlib.metadata import version
from multiprocessing.queues import Queue
from pathlib import Path

import pytest
import torch
import wandb
from hydra._internal.core_plugins.structured_config_source import StructuredConfigSource
from lightning import Trainer
from lightning.fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers.multiprocessing import _MultiProcessingLauncher
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from torch._dynamo.exc import TorchDynamoException
from torch._inductor.exc import CppCompileError
from torch.optim.lr_scheduler import LambdaLR

from danet_lightning.processes import internals

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


def requirements() -> dict[str, Requirement]:
    return {each.name: each for each in map(Requirement, PROJECT["dependencies"])}


@pytest.mark.parametrize("package", internals.READ_IN)
def test_the_versions_are_those_it_was_read_in_up_to_the_next_release(package: str) -> None:
    allowed = requirements()[package].specifier
    major, minor = internals.READ_IN[package].split(".")[:2]
    assert internals.READ_IN[package] in allowed
    assert f"{major}.{int(minor) + 1}.0" not in allowed
    assert version(package).split(".")[:2] == [major, minor]


def test_it_was_read_in_every_python_that_is_allowed() -> None:
    allowed = SpecifierSet(PROJECT["requires-python"])
    minors = [f"3.{minor}" for minor in range(20) if f"3.{minor}" in allowed]
    assert minors == list(internals.READ_IN_PYTHON)


def test_hydras_parser_reads_a_command_line() -> None:
    read = internals.command_line_parser().parse_args(["-m", "a=1", "b=2"])
    assert (read.multirun, read.overrides) == (True, ["a=1", "b=2"])


def test_hydras_store_is_not_copied() -> None:
    """It is what a source keeps, and a composition copies its sources."""
    internals.share_store()
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


def test_wandb_takes_the_setting_and_the_options() -> None:
    assert internals.WANDB_FLUSH_SETTING in wandb.Settings.model_fields
    command, *options = internals.WANDB_SUMMARY[:-2], *internals.WANDB_SUMMARY[-2:]
    tool = [sys.executable, "-m", "wandb", *command, "--help"]
    shown = subprocess.run(tool, capture_output=True, text=True, check=True).stdout
    assert set(options) <= set(shown.split())


def test_a_queue_calls_the_function_for_what_it_cannot_pickle() -> None:
    """The queue's thread ends with it, so that nothing waits where the name is gone."""
    calls: list[Exception] = []
    before = vars(Queue)["_on_queue_feeder_error"]
    try:
        internals.replace_feeder_error(lambda error, content: calls.append(error))
        queue = multiprocessing.Queue()
        queue.put(lambda: None)
        queue.close()
        queue.join_thread()
    finally:
        Queue._on_queue_feeder_error = before
    assert "pickle" in str(calls)


def test_pickles_own_code_in_python_has_the_instructions_that_are_replaced() -> None:
    unpickler = internals.PythonUnpickler(io.BytesIO(pickle.dumps({"a": (1, 2.5)})))
    assert {pickle.BUILD[0], pickle.SETITEMS[0], pickle.FRAME[0]} <= set(unpickler.dispatch)
    assert unpickler.load() == {"a": (1, 2.5)}
    assert callable(unpickler.pop_mark)
    assert callable(unpickler.read)
    assert unpickler.stack == []


def test_a_schedules_state_has_the_names() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.5)
    state = LambdaLR(optimizer, lambda step: 1.0).state_dict()
    assert state[internals.SCHEDULE_RATES] == [0.5]
    assert state[internals.SCHEDULE_STEPS] == 1


def test_an_error_of_the_compiler_is_known() -> None:
    assert internals.is_of_compiler(TorchDynamoException())
    assert internals.is_of_compiler(CppCompileError(["c++"], "no such file"))
    assert not internals.is_of_compiler(ValueError())


def test_an_error_of_lightnings_restoring_is_known(tmp_path: Path) -> None:
    torch.save({"pytorch-lightning_version": "2.6.5", "state_dict": {}}, tmp_path / "a.ckpt")
    trainer = Trainer(accelerator="cpu", logger=False, default_root_dir=tmp_path, max_epochs=1)
    with pytest.raises(RuntimeError, match="Missing key") as caught:
        trainer.fit(BoringModel(), ckpt_path=tmp_path / "a.ckpt", weights_only=True)
    assert internals.is_restoring(caught.value)
    assert not internals.is_restoring(ValueError())


def test_lightnings_loops_have_what_the_exact_ones_use() -> None:
    trainer = Trainer(accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False)
    loop = trainer.fit_loop
    for name in ("_restarting", "_loaded_from_state_dict", "_restart_stage", "_combined_loader"):
        assert hasattr(loop, name), name
    for name in ("_should_check_val_fx", "_num_ready_batches_reached", "_batches_that_stepped"):
        assert hasattr(loop.epoch_loop, name), name
    assert hasattr(loop, "_data_fetcher")
