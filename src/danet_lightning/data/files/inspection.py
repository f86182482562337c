"""Hearing everything that is wrong with the files of a split, instead of the first error alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from danet_lightning.errors import RequestError


@dataclass
class Inspection:
    """What came up while a split was looked for.

    Attributes:
        errors: Of files that were left out; elsewhere each of them is raised.
        published: How many images the split has as published, if the data set knows.
    """

    errors: list[RequestError] = field(default_factory=list)
    published: int | None = None


_running: ContextVar[Inspection | None] = ContextVar("inspection", default=None)


@contextmanager
def inspection() -> Iterator[Inspection]:
    """Collect, in this thread, what `complain` is given."""
    token = _running.set(Inspection())
    try:
        yield _running.get()  # type: ignore[misc]
    finally:
        _running.reset(token)


def running() -> Inspection | None:
    """Return the inspection that is going on; None: the data set is being used."""
    return _running.get()


def complain(error: RequestError) -> None:
    """Note an error that concerns some files only, so that the others can be looked at.

    Raises:
        RequestError: The given one, where nothing is being inspected.
    """
    current = running()
    if current is None:
        raise error
    current.errors.append(error)
