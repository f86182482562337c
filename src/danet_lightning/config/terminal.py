"""What a command says: no terminal, pipe or log file is a reason for it to fail."""

import errno
import io
import logging
import os
import re
import sys
from contextlib import suppress
from typing import Any

DRAWN = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # what moves a terminal's cursor, or colors
BAR = re.compile(r"%\|.*\| .*\[.*\]|\d\w* \[\d+:\d+")  # tqdm's, drawn again and again


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


class Terminal(io.TextIOWrapper):
    """Standard output or error, whose whole lines are written to the log file as well.

    Attributes:
        alone: The same output without that: for what is in the log already.
    """

    def __init__(self, file: Any, name: str, *options: Any, **more: Any) -> None:
        super().__init__(file, *options, **more)
        self.alone = io.TextIOWrapper(file, *options, **more)
        self._name = name
        self._line = ""

    def write(self, text: str) -> int:
        """Write, and log what makes a line whole, as it stands there at its end."""
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            shown = DRAWN.sub("", line.rstrip("\r").rpartition("\r")[2]).rstrip()
            if shown and not BAR.search(shown):
                record = logging.LogRecord(self._name, logging.INFO, "", 0, shown, None, None)
                for handler in _log_files():
                    handler.handle(record)
        self._line = self._line[self._line.rfind("\r", 0, -1) + 1 :]  # what is drawn over is gone
        return super().write(text)


def _log_files() -> list[logging.FileHandler]:
    handlers = logging.getLogger().handlers
    return [each for each in handlers if isinstance(each, logging.FileHandler)]


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
        text = Terminal(file, name, encoding, "backslashreplace", line_buffering=True)
        setattr(sys, name, text)


def protect_log() -> None:
    """Write the log files in UTF-8, whatever the locale says, and nothing into them twice."""
    for handler in _log_files():
        if handler.stream:
            handler.stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    for console in logging.getLogger().handlers:
        if isinstance(console, logging.StreamHandler) and isinstance(console.stream, Terminal):
            console.setStream(console.stream.alone)
