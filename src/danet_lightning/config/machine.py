"""What a run needs of a machine beside the disk, and what stands in for it where it is missing."""

import atexit
import functools
import logging
import multiprocessing.util
import os
import shutil
import sys
import tempfile
from pathlib import Path

from danet_lightning.disk.writing import refusal
from danet_lightning.errors import RequestError

log = logging.getLogger(__name__)

SOCKET_NAME = len("/pymp-12345678/listener-12345678")


def require_working_folder() -> None:
    """Refuse to go on where the working folder is gone: Python itself fails without one.

    Raises:
        RequestError: It was removed after the shell has gone there.
    """
    try:
        Path.cwd()
    except OSError as error:
        raise RequestError(
            f"The folder in which this was started is gone ({error.strerror}); cd to another."
        ) from None


def settle_in() -> None:
    """Find what runs need, before anything is imported that would fail without it.

    Raises:
        RequestError: There is no folder for temporary files.
    """
    _find_temporary_folder()
    _find_home()
    _go_on_without_log()


def _find_temporary_folder() -> None:
    """Choose a folder with a short name for the sockets through which a job's processes speak.

    Python makes them below TMPDIR, and a socket's name has at most 107 bytes on Linux, 103 on
    macOS. A child that then fails to open one would be waited for without end.

    Raises:
        RequestError: There is no folder for temporary files at all.
    """
    try:
        folder_now = tempfile.gettempdir()
    except FileNotFoundError as error:
        raise RequestError(
            f"TMPDIR: no folder for temporary files can be written ({error.strerror}). Set TMPDIR "
            "to one that can be."
        ) from None
    if len(os.fsencode(folder_now)) + SOCKET_NAME <= 103:
        return
    for folder in ("/tmp", "/var/tmp"):
        if os.access(folder, os.W_OK | os.X_OK):
            tempfile.tempdir = folder  # for this one call, which keeps its answer
            multiprocessing.util.get_temp_dir()
            tempfile.tempdir = folder_now
            return
    raise RequestError(
        f"TMPDIR={folder_now} is too long a name for the sockets below it (of 103 bytes in all), "
        "and neither /tmp nor /var/tmp can be written. Set TMPDIR to a folder with a shorter name."
    )


def _find_home() -> None:
    """Give a user without a home folder one until the end: W&B and others fail without any.

    It is new and this user's own, as what lies in a home decides where a key is sent.
    """
    try:
        Path.home()
    except RuntimeError:
        home = tempfile.mkdtemp(prefix="danet-home-")
        atexit.register(shutil.rmtree, home, ignore_errors=True)
        os.environ["HOME"] = home  # for the other processes too
        log.warning("HOME is not set: what is downloaded lies in %s until the end only.", home)


def _go_on_without_log() -> None:
    """Make a log file that cannot be written say so once, and not by a traceback for each line.

    The console has all of it, and what cannot be done without fails by itself.
    """

    def lose(handler: logging.FileHandler, record: logging.LogRecord) -> None:
        logging.getLogger().removeHandler(handler)
        error = sys.exc_info()[1]
        reason = refusal(handler.baseFilename, error) if isinstance(error, OSError) else error
        print(f"The log ends here: {reason}", file=sys.stderr)

    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handleError = functools.partial(lose, handler)  # type: ignore[method-assign]
