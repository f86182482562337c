"""The processes of one command: how they meet, share work and part."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import distributed
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from danet_lightning.errors import RequestError

if TYPE_CHECKING:
    from lightning import Trainer

T = TypeVar("T")


class Team:
    """The processes that predict together; without others, nothing of Lightning is imported.

    Args:
        device: "auto", "cpu", "cuda" or, for a single process, any that torch knows.
        devices: Number of processes, each on a device of its own; under torchrun, its number.

    Attributes:
        rank: Number of this process.
        device: Of this process.

    Raises:
        RequestError: One device is named, or not so many are there.
    """

    def __init__(self, device: str, devices: int) -> None:
        self.rank, self.size = 0, devices
        self.device = device
        if devices == 1:
            return
        if device not in ("auto", "cpu", "cuda"):
            raise RequestError(f"device={device}: {devices} devices need auto, cpu or cuda.")
        from lightning.fabric import Fabric

        is_cpu = device == "cpu" or not torch.cuda.is_available()
        if not is_cpu and devices > torch.cuda.device_count():
            raise RequestError(f"devices={devices}: there are {torch.cuda.device_count()}.")
        accelerator = "cpu" if is_cpu else "cuda"
        fabric = Fabric(accelerator=accelerator, devices=devices, strategy="ddp")
        fabric.launch()
        self.rank, self.size = fabric.global_rank, fabric.world_size
        self.device = str(fabric.device)

    def share(self, items: Sequence[T]) -> list[T]:
        """Return this process's part of a list; the parts of all make the whole."""
        return list(items[self.rank :: self.size])

    def collect(self, items: Sequence[T]) -> list[T]:
        """Return the parts of all processes together, when all of them have come here."""
        if self.size == 1:
            return list(items)
        parts: list[list[T]] = [[] for _ in range(self.size)]
        distributed.all_gather_object(parts, list(items))
        distributed.destroy_process_group()
        return [item for part in parts for item in part]


def join_group(trainer: "Trainer") -> None:
    """Form the group of this start's processes: after a restart, torchrun's own holds dead ones.

    Lightning takes a group that is there. Only on one machine: torchrun's count is each machine's.
    """
    torchrun = os.environ
    has_store = torchrun.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if trainer.world_size == 1 or not has_store or torchrun.get("GROUP_WORLD_SIZE") != "1":
        return
    address = torchrun["MASTER_ADDR"], int(torchrun["MASTER_PORT"])
    store = TCPStore(*address, is_master=False)
    distributed.init_process_group(
        "nccl" if trainer.strategy.root_device.type == "cuda" else "gloo",
        store=PrefixStore(f"start_{torchrun['TORCHELASTIC_RESTART_COUNT']}", store),
        rank=int(torchrun["RANK"]),
        world_size=int(torchrun["WORLD_SIZE"]),
    )


def leave_group() -> None:
    """Leave the group of processes: without it, gloo sometimes aborts at the very end."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
