"""Evaluate a checkpoint on a split of a data set."""

from pathlib import Path

from omegaconf import DictConfig

from danet_lightning.config.launch import launch
from danet_lightning.config.schema import EvaluateConfig


def evaluate(config: DictConfig, run_dir: Path) -> None:
    """Run the checkpoint over the split, print and keep the table."""
    from danet_lightning import run  # ten seconds of CPU, which --help and a typo can do without

    run.evaluate(config, run_dir)


if __name__ == "__main__":
    launch(evaluate, EvaluateConfig)
