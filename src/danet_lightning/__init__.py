"""DANet, the Dual Attention Network for Scene Segmentation, on PyTorch Lightning and Hydra."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from danet_lightning.checkpoints.loading import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """Import `load` when it is asked for: `--help` must not wait for torch."""
    if name == "load":
        from danet_lightning.checkpoints.loading import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
