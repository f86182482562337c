"""Measure what the data path costs on this machine."""

import sys
from pathlib import Path

from omegaconf import DictConfig

from danet_lightning.config.launch import launch
from danet_lightning.config.schema import BenchmarkConfig


def benchmark(config: DictConfig, run_dir: Path) -> None:
    """Measure what `config.what` names; the figures go to the console and to results.json."""
    from danet_lightning.benchmarking import samples  # imports torch

    samples.measure(config, run_dir)


def name_first_word(words: list[str]) -> list[str]:
    """Write `data` at the beginning of a command line as `what=data`, which Hydra can read."""
    if words and "=" not in words[0] and not words[0].startswith(("-", "+", "~")):
        return [f"what={words[0]}", *words[1:]]
    return words


if __name__ == "__main__":
    sys.argv[1:] = name_first_word(sys.argv[1:])
    launch(benchmark, BenchmarkConfig)
