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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

IN_USE = ".in_use"  # in a folder while a command is at work there: which one, where, since when
PATIENCE = 3.0  # seconds for a process that was killed to be gone
SETTLING = 1.0  # seconds after which, without locks, all see who took over last
FACTS = ("host", "pid", "user", "since", "command", "born", "pids", "slurm")
HELD: set[tuple[int, Path]] = set()  # by process; who opens such a file again ends its own lock
WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}


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
            raise HeldError(_who(path))
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
    return _is_alive(_read(path)) if is_locked is None else not is_locked


def _take(path: Path) -> int | None:
    """The file, open and naming this process; None while it is another one's."""
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
        return None if _is_alive(_read(path)) else _replace(path)
    if is_locked is False or not _is_at(path, descriptor):
        os.close(descriptor)
        return None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, _this_process())
    return descriptor


def _lock(descriptor: int, shared: bool) -> bool | None:
    """Whether this process has the lock now; None where there are none."""
    try:
        fcntl.lockf(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        return None if error.errno in WITHOUT_LOCKS else False
    return True


def _remove_if_free(path: Path) -> None:
    """Remove the file of another user, which this one can only read, if nobody holds it."""
    descriptor = os.open(path, os.O_RDONLY)
    is_locked = _lock(descriptor, shared=True)
    if is_locked or (is_locked is None and not _is_alive(_read(path))):
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
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = f"uid {os.getuid()}"
    command = shlex.join([Path(sys.orig_argv[0]).name, *sys.orig_argv[1:]])
    values = (
        *(socket.gethostname(), os.getpid(), user, time.strftime("%Y-%m-%d %H:%M:%S")),
        *(command[:1000], _born(os.getpid()), _pids(), _slurm()),
    )
    return json.dumps(dict(zip(FACTS, values, strict=True))).encode()


def _read(path: Path) -> Mapping[str, Any]:
    """What a holder says of itself; nothing while it is about to."""
    try:
        facts = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    is_whole = isinstance(facts, dict) and isinstance(facts.get("pid"), int)
    return facts if is_whole and set(FACTS) <= set(facts) else {}


def _is_alive(holder: Mapping[str, Any]) -> bool:
    """Whether it must be taken to be: only of this host's processes can one know."""
    if (holder.get("host"), holder.get("pids")) != (socket.gethostname(), _pids()):
        job, starts = holder.get("slurm") or (None, 0)
        here = _slurm()
        return here is None or here[0] != job or here[1] <= starts  # or SLURM has requeued it
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return bool(_born(holder["pid"]) == holder["born"])  # or the number is another process's now


def _born(pid: int) -> str | None:
    """When a process was started, in Linux's own count; None elsewhere, "" if it is dead."""
    if not Path("/proc/self/stat").exists():
        return None
    try:
        state, *facts = Path(f"/proc/{pid}/stat").read_text("latin-1").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else facts[18]


def _pids() -> str | None:
    """Which count of processes the numbers here belong to: each container has its own."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return None


def _slurm() -> list[Any] | None:
    job = os.environ.get("SLURM_JOB_ID")
    return [job, int(os.environ.get("SLURM_RESTART_COUNT", 0))] if job else None


def _who(path: Path) -> str:
    holder = _read(path)
    if not holder:
        return f"another process (if there is none, remove {path.absolute()})"
    told = (
        f"`{holder['command']}`, process {holder['pid']} on {holder['host']}, user "
        f"{holder['user']}, since {holder['since']}"
    )
    if holder["host"] == socket.gethostname() or _has_locks(path):
        return told
    return f"{told} (if it has ended there, remove {path.absolute()})"


def _has_locks(path: Path) -> bool:
    with suppress(OSError), path.open("rb") as file:
        return _lock(file.fileno(), shared=True) is not None
    return True
