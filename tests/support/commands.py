"""Run our commands as a user types them, without the 15 s of imports that each would cost.

A process that has imported everything heavy is forked for each command (multiprocessing's
forkserver), and the fork runs `python -m danet_lightning.<verb>` to its end. A variable that is
read when Python starts or a module is imported (PYTHONHASHSEED, MPLBACKEND) is the test process's.
What a command starts with `sys.executable -m`, as Lightning does with the other ranks, submitit
with its jobs and torchrun with its workers, is a process that has one forked in its place.
"""

import atexit
import multiprocessing
import os
import runpy
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
import weakref
from contextlib import suppress
from multiprocessing import forkserver
from pathlib import Path
from typing import Self

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["preloaded"])
ADDRESS = "DANET_FORKSERVER"
PYTHON = "DANET_PYTHON"  # what the commands have as sys.executable
UNFORKED = ("submitit.local._local",)  # whose process id is the job's
FORWARDED = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def find_server() -> None:
    """Start the server at once, or use that of the process which hands the tests out."""
    server = forkserver._forkserver
    if ADDRESS in os.environ:
        server._forkserver_address = os.environ[ADDRESS]
        server._forkserver_alive_fd = os.open(os.devnull, os.O_RDONLY)  # it is kept by the other
        server.ensure_running = lambda: None
        return
    import pytest

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        server.ensure_running()
    os.environ[ADDRESS] = server._forkserver_address
    find_server.folder = tempfile.TemporaryDirectory(prefix="danet-python-")  # until the end
    python = Path(find_server.folder.name, "python")
    words = [sys.executable, str(Path(__file__).with_name("forked_python.py"))]
    python.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    python.chmod(0o755)
    os.environ[PYTHON] = str(python)


if not hasattr(multiprocessing.current_process(), "_inheriting"):  # a child that imports this file
    find_server()


class Running:
    """A command that runs; the leader of its process group, so `os.killpg` is Ctrl-C's reach."""

    def __init__(
        self, module: str, *arguments: str, cwd: Path, environment: dict[str, str]
    ) -> None:
        self.arguments = [sys.executable, "-m", module, *arguments]
        self.folder = tempfile.TemporaryDirectory(prefix="danet-command-")
        outputs = [Path(self.folder.name, name) for name in ("stdout", "stderr")]
        self.stdout, self.stderr = outputs
        for output in outputs:
            output.touch()
        self.process = SERVER.Process(
            target=_run, args=(module, arguments, str(cwd), environment, outputs)
        )
        self.process.start()
        self.pid: int = self.process.pid

    def poll(self) -> int | None:
        """The exit code as `subprocess` gives it, None while it runs."""
        return self.process.exitcode

    def wait(self, timeout: float = 300) -> "subprocess.CompletedProcess[str]":
        """Wait for the end and clean up; one that takes longer is killed with all it started."""
        self.process.join(timeout)
        code = self.poll()
        outputs = [path.read_text(encoding="utf-8") for path in (self.stdout, self.stderr)]
        if code is None:
            self.kill()
            raise subprocess.TimeoutExpired(self.arguments, timeout, *outputs)
        self.folder.cleanup()
        return subprocess.CompletedProcess(self.arguments, code, *outputs)

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it with all that it started, and wait until it is gone."""
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it has just begun, and leads no group yet
                os.killpg(self.pid, signal.SIGKILL)
            self.process.kill()
            self.process.join()
        self.folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()


def danet(
    verb: str, *arguments: str, cwd: Path, timeout: float = 300, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end, with these variables beside those of this process."""
    with start(verb, *arguments, cwd=cwd, **environment) as running:
        return running.wait(timeout)


def start(verb: str, *arguments: str, cwd: Path, **environment: str) -> Running:
    """Start a command; use it in a `with`, so that no failing test leaves it running."""
    return start_module(f"danet_lightning.{verb}", *arguments, cwd=cwd, **environment)


def start_module(module: str, *arguments: str, cwd: Path, **environment: str) -> Running:
    """Start any `python -m module`, as `start` does with our commands."""
    # W&B leaves the address of a service that a test has used in this process, and that has ended
    inherited = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    return Running(module, *arguments, cwd=cwd, environment={**inherited, **environment})


def _run(
    module: str,
    arguments: tuple[str, ...],
    cwd: str,
    environment: dict[str, str],
    outputs: list[Path],
    group: int = 0,
) -> None:
    """In the forked process: become what `python -m <module>` would be, in a process group."""
    with suppress(PermissionError):  # a group of another session
        os.setpgid(0, group)
    for number, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    multiprocessing.set_start_method(None, force=True)  # the default's again, for data loaders
    tempfile.tempdir = None  # or TMPDIR would not be read
    _renew_temporary_folders()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job's is ignored
    own = str(Path(__file__).parents[1])
    named = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [cwd, *filter(None, named), *(p for p in sys.path if not p.startswith(own))]
    # after what the imported modules ignore, as if it had been there before them
    warnings.filterwarnings("error", category=UserWarning, append=True)
    sys.argv = ["-m", *arguments]
    sys.executable = environment[PYTHON]
    _read_as_at_import(environment)
    code = _exit_code(module)
    threading._shutdown()  # what ends an interpreter, and not a forked child
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _read_as_at_import(environment: dict[str, str]) -> None:
    """Let the variables count which torch and Lightning read when they are imported."""
    import torch
    from lightning.pytorch.utilities import rank_zero_only

    if "OMP_NUM_THREADS" in environment:
        torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    ranks = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
    rank_zero_only.rank = int(next(filter(None, map(environment.get, ranks)), 0))


def _renew_temporary_folders() -> None:
    """Replace the folders that imports have made (wandb's): each command removes its own."""
    for finalizer in list(weakref.finalize._registry):
        made = finalizer.peek()
        if made and isinstance(made[0], tempfile.TemporaryDirectory):
            finalizer.detach()
            made[0].__init__()


def _exit_code(module: str) -> int:
    """Run a module as the main module; the exit code that a shell would see."""
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    except KeyboardInterrupt:
        traceback.print_exc()
        sys.stderr.flush()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def run_in_a_fork(python: list[str]) -> None:
    """Be what a command starts with `sys.executable`: a fork of the server runs the module.

    It is in the process group that this process leaves, so that each signal to the group comes
    once; one to this process is handed on, and this process ends as it does.
    """
    arguments = [each for each in python if each != "-u"]
    if arguments[:1] != ["-m"] or arguments[1] in UNFORKED:
        os.execv(sys.executable, [sys.executable, *python])
    outputs = [Path(f"/proc/{os.getpid()}/fd/{number}") for number in (1, 2)]
    request = (arguments[1], arguments[2:], str(Path.cwd()), dict(os.environ), outputs)
    process = SERVER.Process(target=_run_while_wanted, args=(*request, os.getpgid(0)))
    with suppress(PermissionError):  # it leads a session
        os.setpgid(0, 0)
    process.start()
    for number in FORWARDED:
        signal.signal(number, lambda number, _: os.kill(process.pid, number))
    process.join()
    if process.exitcode < 0:
        with suppress(OSError):  # of SIGKILL
            signal.signal(-process.exitcode, signal.SIG_DFL)
        os.kill(os.getpid(), -process.exitcode)
    os._exit(process.exitcode)


def _run_while_wanted(*arguments: object) -> None:
    """In the forked process: as `_run`, until the process that has asked for it is killed."""

    def end() -> None:
        multiprocessing.parent_process().join()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=end, daemon=True).start()
    _run(*arguments)
