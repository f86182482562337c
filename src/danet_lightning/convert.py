"""Turn the authors' or MMSegmentation's DANet weights into a checkpoint of ours."""

from pathlib import Path

from omegaconf import DictConfig

from danet_lightning.config.launch import launch
from danet_lightning.config.schema import ConvertConfig


def convert(config: DictConfig, run_dir: Path) -> None:
    """Write `config.output` and say what was recognised in `config.source`."""
    from danet_lightning import conversion  # imports torch

    conversion.convert(config)


if __name__ == "__main__":
    launch(convert, ConvertConfig)
