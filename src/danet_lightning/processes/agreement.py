"""Processes that torchrun or srun start compose a configuration each: is it one training?"""

from collections.abc import Collection
from typing import Any

from lightning import Callback, LightningModule, Trainer
from omegaconf import DictConfig, OmegaConf
from torch import distributed
from typing_extensions import override

from danet_lightning.errors import RequestError
from danet_lightning.runs.reading import flat


class Agreement(Callback):
    """Refuse to begin where the processes would train or evaluate different things.

    Args:
        config: Of this process; it counts as it stands when the run begins.
        placed: Keys in it that may differ between machines.
    """

    def __init__(self, config: DictConfig, placed: Collection[str]) -> None:
        self.config = config
        self.placed = placed

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if trainer.world_size == 1:
            return
        plain: Any = OmegaConf.to_container(self.config, resolve=True)
        own = {key: repr(value) for key, value in flat(plain).items() if key not in self.placed}
        of_all: list[dict[str, str]] = [{} for _ in range(trainer.world_size)]
        distributed.all_gather_object(of_all, own)
        for rank, values in enumerate(of_all):
            for key in sorted({*values, *of_all[0]}):
                first, other = (each.get(key, "not set") for each in (of_all[0], values))
                if first != other:
                    raise RequestError(
                        f"{key}: {first} in process 0, {other} in process {rank}. All processes "
                        "must be given one value: write it down, or let Lightning start them."
                    )
