"""What a checkpoint may name, and where."""

from collections.abc import Callable
from typing import Any, NamedTuple

OURS = "danet_lightning"
SCHEME = "hf://"  # of a network on the Hugging Face hub: hf://user/name


class Kind(NamedTuple):
    """A part that a checkpoint may name, such as a backbone, and what it has to be.

    Attributes:
        name: Of the place, in messages.
        bases: What its class has to be a subclass of.
        home: The package of ours that such classes are in.
        builders: Functions that may stand for a class.
    """

    name: str
    bases: tuple[type, ...]
    home: str
    builders: tuple[Callable[..., Any], ...] = ()
