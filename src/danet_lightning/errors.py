"""Errors that are told in their own words, without a traceback."""

from collections.abc import Sequence
from pathlib import Path


class RequestError(ValueError):
    """The request was wrong: a bad config, missing or broken data, a bad checkpoint.

    Its message is one self-contained text that names the value, the rule and the remedy: commands
    print it without a traceback and exit with code 2.

    Args:
        text: What is wrong; with the remedy, unless that is given apart.
        kind: One word for what is wrong with a file, by which `check` sorts its findings.
        remedy: What to do about it; the last sentences of the message.
        files: The files at fault, also those that the text does not name.

    Attributes:
        fact: The text without the remedy.
    """

    def __init__(
        self, text: str, kind: str = "", remedy: str = "", files: Sequence[Path] = ()
    ) -> None:
        super().__init__(f"{text} {remedy}".rstrip())  # one argument: it has to pass processes
        self.fact = text
        self.kind = kind
        self.remedy = remedy
        self.files = tuple(files)


class RunError(RuntimeError):
    """A run that was asked for rightly has failed, for a reason that has a name: exit code 1."""
