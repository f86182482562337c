"""Several processes of one command, as torchrun starts them, without torchrun's imports."""

import socket
from contextlib import ExitStack
from pathlib import Path

from commands import danet, start


def together(world: int, verb: str, *arguments: str, cwd: Path) -> list:
    """Run a command in several processes to its end; how each of them ended."""
    if world == 1:
        return [danet(verb, *arguments, cwd=cwd)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {
        "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world), "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test",
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    with ExitStack() as stack:
        running = [
            stack.enter_context(
                start(verb, *arguments, cwd=cwd, RANK=str(rank), LOCAL_RANK=str(rank), **shared)
            )
            for rank in range(world)
        ]
        return [process.wait(200) for process in running]


def succeed(world: int, verb: str, *arguments: str, cwd: Path) -> list:
    """Run a command in several processes, all of which have to end with 0."""
    results = together(world, verb, *arguments, cwd=cwd)
    for result in results:
        assert result.returncode == 0, result.stderr
    return results


def devices(world: int) -> list[str]:
    """The arguments that make it use them."""
    return ["trainer=ddp", "trainer.accelerator=cpu", f"trainer.devices={world}"]
