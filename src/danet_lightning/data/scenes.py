"""The built-in data set: street scenes drawn when they are needed, without any file."""

from typing import Annotated

from pydantic import Field, NonNegativeInt

from danet_lightning.data.base import DataSet, Pairs
from danet_lightning.data.drawing import CLASSES, PALETTE
from danet_lightning.data.drawing.scene import SMALLEST
from danet_lightning.data.drawing.source import SceneSource
from danet_lightning.errors import checked

Side = Annotated[int, Field(ge=SMALLEST, le=4096)]
Count = Annotated[int, Field(ge=1, le=100_000)]  # all are drawn, and kept


class Scenes(DataSet):
    """Procedural street scenes; each is a function of (scenes_seed, split, index) and the size.

    Args:
        train_images: Number of scenes to train on.
        val_images: Number of scenes to validate on.
        test_images: Number of scenes to test on.
        size: Height and width of a scene in pixels.
        scenes_seed: Which scenes there are, whatever the training's seed.
    """

    classes = tuple(CLASSES)
    palette = tuple(PALETTE)
    label_source = "drawn with the image"

    @checked
    def __init__(
        self,
        train_images: Count,
        val_images: Count,
        test_images: Count,
        size: tuple[Side, Side],
        scenes_seed: NonNegativeInt = 0,
    ) -> None:
        self.counts = {"train": train_images, "val": val_images, "test": test_images}
        self.size = size
        self.scenes_seed = scenes_seed

    def pairs(self, split: str) -> Pairs:
        """Return the scenes of a split."""
        height, width = self.size
        return Pairs(SceneSource(self.scenes_seed, split, self.counts[split], height, width))
