"""Download, verify and unpack a data set."""

import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from danet_lightning.config.launch import launch
from danet_lightning.config.schema import PrepareConfig


def prepare(config: DictConfig, run_dir: Path) -> None:
    """Make a folder that `config.dataset` reads; go on where an earlier run was interrupted."""
    from danet_lightning.preparing import preparation  # imports torch

    try:
        preparation.prepare(config, HydraConfig.get().runtime.choices["dataset"])
    except KeyboardInterrupt:
        print("\nInterrupted; run the same command again to go on from here.", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    launch(prepare, PrepareConfig)
