"""Scenes as a source of samples; apart from the data set, whose import takes a worker seconds."""

from danet_lightning.data.base import Pixels, Source
from danet_lightning.data.drawing.scene import draw_scene


class SceneSource(Source):
    """The scenes of one split, drawn once and then kept: 4 bytes for each pixel.

    Args:
        seed: Which scenes there are.
        split: Name of the split.
        count: Number of scenes.
        height: Height of a scene in pixels.
        width: Width of a scene in pixels.
    """

    def __init__(self, seed: int, split: str, count: int, height: int, width: int) -> None:
        self.seed = seed
        self.split = split
        self.count = count
        self.height = height
        self.width = width
        self._drawn: dict[int, tuple[Pixels, Pixels]] = {}

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        """Return the id of a scene."""
        return f"{self.split}_{index:05d}"

    def read(self, index: int) -> tuple[Pixels, Pixels]:
        """Return the RGB image (H, W, 3) and its train ids (H, W)."""
        if not 0 <= index < self.count:
            raise IndexError(f"scene {index} of {self.count}")
        if index not in self._drawn:
            self._drawn[index] = draw_scene(self.seed, self.split, index, self.height, self.width)
        return self._drawn[index]
