"""Read every file of a data set and report what is in it and what is wrong with it."""

from pathlib import Path

from omegaconf import DictConfig

from danet_lightning.config.launch import launch
from danet_lightning.config.schema import CheckConfig


def check(config: DictConfig, run_dir: Path) -> None:
    """Print and write the report on the splits; exit code 1 if something is wrong."""
    from hydra.utils import instantiate

    from danet_lightning.building import request_errors
    from danet_lightning.checking import report, walk  # imports torch

    with request_errors():
        data = instantiate(config.dataset, _convert_="all")
    found = walk.walk(data, config.splits, config.workers)
    report.write(found, run_dir)
    if found.errors:
        raise SystemExit(1)


if __name__ == "__main__":
    launch(check, CheckConfig)
