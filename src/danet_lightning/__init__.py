"""DANet, the Dual Attention Network for Scene Segmentation, on PyTorch Lightning and Hydra."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from danet_lightning.checkpoints.loading import load

    __version__: str

__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is: `--help` must not wait for torch."""
    if name == "__version__":
        from importlib.metadata import version

        return version("danet-lightning")
    if name == "load":
        from danet_lightning.checkpoints.loading import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
