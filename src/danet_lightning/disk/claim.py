"""Say in a file who is at work in a place: one process at a time, for as long as it lives.

The lock of a process ends with it, however it ends, and counts between the hosts of a network
drive. It is POSIX's, which a forked worker that outlives its process does not inherit.
"""

import errno
import fcntl
import getpass
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

IN_USE = ".in_use"  # in a folder while a command is at work there: which one, where, since when
PATIENCE = 3.0  # seconds for a process that was killed to be gone
SETTLING = 1.0  # seconds after which, without locks, all see who took over last
HELD: set[tuple[int, Path]] = set()  # process and file; opening it again would end the lock
WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}


class Holder(NamedTuple):
    """The process that holds a file, as the file describes it."""

    host: str
    pid: int
    user: str
    since: str
    command: str
    born: str | None
    pids: str | None
    slurm: list[Any] | None


class HeldError(Exception):
    """Another process is at work there; the message says which, and since when."""


@contextmanager
def claimed(path: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Hold a file for this process; what a killed process has left is taken over at once.

    Where the file system has no locks, the text of the file decides: the process it names has to
    be alive, and one on another host is taken to be.

    Args:
        path: A file for nothing else, in a folder that exists; it is removed at the end.
        patience: Seconds to wait for another process to leave.

    Raises:
        HeldError: Another process holds it.
        OSError: It cannot be written.
    """
    name = os.getpid(), path.resolve()  # a forked process holds nothing
    if name in HELD:  # a point of a sweep whose folder is the sweep's
        yield
        return
    deadline = time.monotonic() + patience
    while (descriptor := _take(path)) is None:
        if time.monotonic() > deadline:
            raise HeldError(_describe_holder(path))
        time.sleep(0.1)
    HELD.add(name)
    try:
        yield
    finally:
        HELD.discard(name)
        with suppress(OSError):
            if _is_at(path, descriptor):
                path.unlink()
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Tell whether a process holds a file, this one included; it may have ended a moment later."""
    if (os.getpid(), path.resolve()) in HELD:
        return True
    try:
        with path.open("rb") as file:
            is_locked = _lock(file.fileno(), shared=True)
    except OSError:  # there is none
        return False
    return _may_live(_read(path)) if is_locked is None else not is_locked


def _take(path: Path) -> int | None:
    """Open the file and write this process into it; None while it is another one's."""
    try:
        descriptor, is_new = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), True
    except FileExistsError:
        try:
            descriptor, is_new = os.open(path, os.O_RDWR), False
        except FileNotFoundError:  # it was removed meanwhile
            return None
        except PermissionError:
            _remove_if_free(path)
            return None
    is_locked = _lock(descriptor, shared=False)
    if is_locked is None and not is_new:
        os.close(descriptor)
        return None if _may_live(_read(path)) else _replace(path)
    if is_locked is False or not _is_at(path, descriptor):
        os.close(descriptor)
        return None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, _this_process())
    return descriptor


def _lock(descriptor: int, shared: bool) -> bool | None:
    """Try to lock a file, and tell whether this process has the lock now; None: there are none."""
    try:
        fcntl.lockf(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        return None if error.errno in WITHOUT_LOCKS else False
    return True


def _remove_if_free(path: Path) -> None:
    """Remove the file of another user, which this one can only read, if nobody holds it."""
    descriptor = os.open(path, os.O_RDONLY)
    is_locked = _lock(descriptor, shared=True)
    if is_locked or (is_locked is None and not _may_live(_read(path))):
        path.unlink()
    os.close(descriptor)


def _replace(path: Path) -> int | None:
    """Take over from a dead process; of several that try, the last one has it."""
    mine = path.with_name(f"{path.name}.{socket.gethostname()}.{os.getpid()}")
    descriptor = os.open(mine, os.O_RDWR | os.O_CREAT, 0o666)
    os.write(descriptor, _this_process())
    mine.replace(path)
    time.sleep(SETTLING)
    if _is_at(path, descriptor):
        return descriptor
    os.close(descriptor)
    return None


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _this_process() -> bytes:
    """Describe this process, so that others can say who it is, and whether it still lives."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = f"uid {os.getuid()}"
    command = shlex.join([Path(sys.orig_argv[0]).name, *sys.orig_argv[1:]])[:1000]
    pid, since = os.getpid(), time.strftime("%Y-%m-%d %H:%M:%S")
    host, started, pids = socket.gethostname(), _start_of(pid), _pid_namespace()
    holder = Holder(host, pid, user, since, command, started, pids, _slurm_job())
    return json.dumps(holder._asdict()).encode()


def _read(path: Path) -> Holder | None:
    """Return the process that a file names; None while it is about to be written, or is foreign."""
    try:
        holder = Holder(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    return holder if isinstance(holder.pid, int) else None


def _may_live(holder: Holder | None) -> bool:
    """Tell whether a holder has to be taken to be alive: only of this host's can one know."""
    if holder is None:
        return True
    if (holder.host, holder.pids) != (socket.gethostname(), _pid_namespace()):
        here, there = _slurm_job(), holder.slurm
        return not here or not there or here[0] != there[0] or here[1] <= there[1]  # or requeued
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return _start_of(holder.pid) == holder.born  # or the number is another process's now


def _start_of(pid: int) -> str | None:
    """Return when a process was started, in Linux's own count; None elsewhere, "" if it is dead."""
    if not Path("/proc/self/stat").exists():
        return None
    try:
        state, *facts = Path(f"/proc/{pid}/stat").read_text("latin-1").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else facts[18]


def _pid_namespace() -> str | None:
    """Return the namespace of process numbers here: each container counts its own."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return None


def _slurm_job() -> list[Any] | None:
    """Return this process's SLURM job, and how often that was requeued."""
    job = os.environ.get("SLURM_JOB_ID")
    return [job, int(os.environ.get("SLURM_RESTART_COUNT", 0))] if job else None


def _describe_holder(path: Path) -> str:
    """Say who holds a file, and what to do where nobody can tell that it has ended."""
    holder = _read(path)
    if holder is None:
        return f"another process (if there is none, remove {path.absolute()})"
    text = (
        f"`{holder.command}`, process {holder.pid} on {holder.host}, user {holder.user}, since "
        f"{holder.since}"
    )
    if holder.host == socket.gethostname() or _has_locks(path):
        return text
    return f"{text} (if it has ended there, remove {path.absolute()})"


def _has_locks(path: Path) -> bool:
    with suppress(OSError), path.open("rb") as file:
        return _lock(file.fileno(), shared=True) is not None
    return True
