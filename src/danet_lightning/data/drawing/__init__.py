"""Street scenes drawn from numbers alone, without any file."""

from danet_lightning.data.drawing.canvas import CLASSES, PALETTE
from danet_lightning.data.drawing.scene import draw_scene
from danet_lightning.data.drawing.source import SceneSource

__all__ = ["CLASSES", "PALETTE", "SceneSource", "draw_scene"]
