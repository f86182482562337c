"""Measure what the data path costs on this machine."""

import sys

from danet_lightning.config.commands import BenchmarkConfig
from danet_lightning.config.launch import launch


def name_first_word(words: list[str]) -> list[str]:
    """Write `data` at the beginning of a command line as `what=data`, which Hydra can read."""
    if words and "=" not in words[0] and not words[0].startswith(("-", "+", "~")):
        return [f"what={words[0]}", *words[1:]]
    return words


if __name__ == "__main__":
    sys.argv[1:] = name_first_word(sys.argv[1:])
    launch("benchmark", BenchmarkConfig)
