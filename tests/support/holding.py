"""Another process that is at work in a place, until it is killed."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from danet_lightning.disk.claim import claimed


@contextmanager
def other(task: Callable[[], None]) -> Iterator[int]:
    """Another process that does something and then waits to be killed."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            task()
        finally:
            os.write(writing, b"x")
        time.sleep(600)
    os.read(reading, 1)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reading)
        os.close(writing)


def hold(path: Path) -> Callable[[], None]:
    kept = claimed(path)  # the generator has to live as long as its process
    return lambda: kept.__enter__()
