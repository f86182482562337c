"""Street scenes drawn from numbers alone, without any file."""

from danet_lightning.data.drawing.canvas import CLASSES, PALETTE
from danet_lightning.data.drawing.scene import draw_scene

__all__ = ["CLASSES", "PALETTE", "draw_scene"]
