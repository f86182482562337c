"""What a command says: no terminal, pipe or log file is a reason for it to fail."""

import errno
import io
import logging
import os
import sys
from contextlib import suppress
from typing import Any


class LastingFile(io.FileIO):
    """Standard output or error whose reader may go away, or whose disk may be full."""

    is_told = False

    def write(self, data: Any) -> int:
        """Write, or pretend to."""
        try:
            return super().write(data) or 0
        except OSError as error:
            if error.errno != errno.EPIPE and self.fileno() == 1 and not self.is_told:
                self.is_told = True
                with suppress(OSError):
                    os.write(2, f"stdout: {error.strerror}; what was printed is lost.\n".encode())
            return memoryview(data).nbytes


def protect_output() -> None:
    """Escape what the terminal's encoding does not have, and outlast its end.

    What is no real output, as in a test or a notebook, stays as it is.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file that is opened would get what libraries print
            os.open(os.devnull, os.O_RDWR)
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is not getattr(sys, f"__{name}__"):
            continue
        if stream is not None:
            stream.flush()
        encoding = stream.encoding if stream is not None else "utf-8"
        file = io.BufferedWriter(LastingFile(number, "w", closefd=False))
        text = io.TextIOWrapper(file, encoding, "backslashreplace", line_buffering=True)
        setattr(sys, name, text)


def protect_log() -> None:
    """Write the log files in UTF-8, whatever the locale says."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler) and handler.stream:
            handler.stream.reconfigure(encoding="utf-8", errors="backslashreplace")
