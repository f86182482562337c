"""The processes of a job: all run one configuration, and the next job meets none of them.

Lightning starts the others by the command line of the first, with which each would compose a
configuration of its own: after a sweep's command line it would run the whole sweep.
"""

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig, OmegaConf, read_write

from danet_lightning.disk.writing import writing
from danet_lightning.processes.internals import processes_of_lightning

RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")  # where Lightning looks, in its order
LEFT = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE", "PL_GLOBAL_SEED")
RESOLVED = "resolved"  # beside what Hydra records of a job: config.yaml has its interpolations
PATIENCE = 30.0  # seconds in which a process has to end after the others


def rank() -> int:
    """Return the number of this process among those of its job."""
    return int(next((os.environ[name] for name in RANKS if name in os.environ), 0))


def started_outside() -> bool:
    """Tell whether torchrun or srun has started the processes, each by the same command line."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return True
    is_shell = os.environ.get("SLURM_JOB_NAME") in {"bash", "interactive"}  # Lightning's rule
    return int(os.environ.get("SLURM_NTASKS", 1)) > 1 and not is_shell


@contextmanager
def command_line(arguments: Sequence[str]) -> Iterator[None]:
    """Replace `sys.argv`, which Hydra reads, and by which Lightning starts other processes."""
    typed = sys.argv[1:]
    sys.argv[1:] = arguments
    try:
        yield
    finally:
        sys.argv[1:] = typed


@contextmanager
def one_configuration(name: str, config: DictConfig, run_dir: Path) -> Iterator[None]:
    """Give the processes that Lightning starts for a job the job's resolved configuration.

    It is resolved here, once: a resolver may say something else each time it is asked.

    Args:
        name: Of the command.
        config: Of the job; resolved in place.
        run_dir: Of the job.
    """
    OmegaConf.resolve(config)
    if rank():  # which starts no others
        yield
        return
    hydra: Any = HydraConfig.get()
    if hydra.output_subdir is None:  # no record is wanted in the run folder
        place: Any = TemporaryDirectory(prefix="danet-")
    else:
        place = nullcontext(run_dir / hydra.output_subdir)
    with place as record:
        resolved = Path(record, f"{RESOLVED}.yaml")
        with writing(resolved):
            OmegaConf.save(config, resolved)
        with read_write(hydra):  # Lightning puts it between quotation marks
            quoted = QuotedString(str(run_dir), Quote.double).with_quotes()
            hydra.run.dir = quoted[1:-1]
        start = ["--config-path", str(record), "--config-name", RESOLVED]
        if hydra.job.chdir:
            start.append("hydra.job.chdir=true")
        with _started_by(f"danet_lightning.{name}", start):
            yield


@contextmanager
def _started_by(module: str, arguments: list[str]) -> Iterator[None]:
    """Let Lightning start other processes by a command line; end them and undo what they needed."""
    main = sys.modules["__main__"]
    before = (main.__spec__, {key: os.environ.get(key) for key in LEFT})
    main.__spec__ = importlib.util.find_spec(module)  # a launcher has its own
    patience = PATIENCE
    try:
        with command_line(arguments):
            yield
    except Exception:
        patience = PATIENCE / 10  # for what they have to say of it
        raise
    finally:
        end_others(patience)
        main.__spec__, variables = before
        for key, value in variables.items():
            os.environ.pop(key, None)
            if value is not None:
                os.environ[key] = value


def end_others(patience: float) -> None:
    """End the job's other processes, before Lightning's watch over them ends a whole sweep.

    Args:
        patience: Seconds for those that end by themselves.
    """
    others = processes_of_lightning()
    deadline = time.monotonic() + patience
    for process in others:
        try:
            process.wait(max(deadline - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for_first() -> None:
    """Wait until the first process has noticed a failure here, before it sees an exit code."""
    if rank() and not started_outside():
        time.sleep(PATIENCE)
