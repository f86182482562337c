"""The points of a sweep: one that fails stops no other, and the end of the sweep names it."""

import json
import logging
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from danet_lightning.config.explanation import explain
from danet_lightning.config.overrides import fixed
from danet_lightning.data.samples.cores import cores
from danet_lightning.disk.writing import writing
from danet_lightning.errors import RequestError, RunError
from danet_lightning.runs import reading
from danet_lightning.runs.fairness import warnings
from danet_lightning.runs.grouping import grouped
from danet_lightning.runs.overview import table
from danet_lightning.runs.reading import NOTE

log = logging.getLogger(__name__)

THREADS = "OMP_NUM_THREADS"


class PointFailed(Exception):  # noqa: N818 - nothing to catch, but for the sweeper
    """Tell the sweeper that a point has failed, in plain text, which passes between processes."""


@contextmanager
def point(run_dir: Path) -> Iterator[None]:
    """Note down why a point of a sweep fails.

    Raises:
        PointFailed: It did.
    """
    try:
        yield
    except RequestError as error:
        code, reason = 2, explain(error)
    except RunError as error:
        code, reason = 1, str(error)
    except Exception as error:
        log.exception("The point has failed")
        code, reason = 1, f"{type(error).__name__}: {error}"
    else:
        return
    print(f"{run_dir}: {reason}", file=sys.stderr)
    overrides = list(HydraConfig.get().overrides.task)
    note = {"code": code, "reason": reason, "overrides": overrides}
    with writing(run_dir / NOTE):
        (run_dir / NOTE).write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")
    raise PointFailed(reason)


def score(run_dir: Path) -> Any:
    """Return the mIoU of a point, which a sweeper that searches maximizes; None without one."""
    results = run_dir / "results.json"
    return json.loads(results.read_text())["miou"] if results.is_file() else None


@contextmanager
def sweep(folder: Path, command: Sequence[str], overrides: Sequence[str]) -> Iterator[None]:
    """Run a sweep to its end, and tell its table of means and which of its points failed.

    Where some did, the process ends with their code.

    Args:
        folder: Of the sweep.
        command: What runs it again.
        overrides: Of its command line.
    """
    for note in folder.rglob(NOTE):  # of an earlier start
        note.unlink()
    again = f"What is missing is run by: {shlex.join(command)}"
    try:
        yield
    except PointFailed:  # the first of them
        pass
    except BaseException:
        if folder.is_dir():
            print(again, file=sys.stderr)
        raise
    _compare(folder)
    notes = {note.parent: json.loads(note.read_text("utf-8")) for note in folder.rglob(NOTE)}
    if not notes:
        return
    print(f"{len(notes)} of the sweep's points failed:", file=sys.stderr)
    common = fixed(overrides)
    for run_dir, note in sorted(notes.items()):
        swept = " ".join(each for each in note["overrides"] if each not in common)
        print(f"  {run_dir}  {swept}  {note['reason'].splitlines()[0]}", file=sys.stderr)
    print(again, file=sys.stderr)
    sys.exit(max(note["code"] for note in notes.values()))


def side_by_side(count: int, hydra: DictConfig) -> int:
    """Tell how many points a launcher runs at the same time on this machine.

    By default they follow one another, and under SLURM each has the cores of its own job.

    Args:
        count: Of the points.
        hydra: Hydra's part of the configuration that they have in common.
    """
    launcher = str(hydra.launcher._target_).rpartition(".")[2]
    if launcher in ("BasicLauncher", "SlurmLauncher"):
        return 1
    return max(count, hydra.sweeper.get("n_jobs") or 1)  # of a sweeper that searches


def share_cores(together: int) -> None:
    """Give each of the points that run at the same time its share of the cores, if none is set."""
    if together > 1 and THREADS not in os.environ:
        os.environ[THREADS] = str(max(1, cores() // together))
        print(f"{together} points side by side on {cores()} cores: {THREADS}={os.environ[THREADS]}")


def _compare(folder: Path) -> None:
    """Print the means over seeds of what has a result, and the command that shows more."""
    groups = grouped([reading.read(path) for path in reading.below(folder, set())])
    if not any(group.scored for group in groups):
        return
    print(f"\n{table(groups)}", *warnings(groups), sep="\n")
    print(f"compare: danet report runs={shlex.quote(str(folder))}")
