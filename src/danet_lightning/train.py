"""Train a network, then evaluate its best checkpoint."""

from pathlib import Path

from omegaconf import DictConfig

from danet_lightning.config.launch import launch
from danet_lightning.config.schema import TrainConfig


def train(config: DictConfig, run_dir: Path) -> None:
    """Fit and evaluate what the config describes."""
    from danet_lightning import run  # ten seconds of CPU, which --help and a typo can do without

    run.fit(config, run_dir)


if __name__ == "__main__":
    launch(train, TrainConfig)
