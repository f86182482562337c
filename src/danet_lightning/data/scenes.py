"""The built-in data set: street scenes drawn when they are needed, without any file."""

from typing import Annotated, Any

from pydantic import Field, NonNegativeInt

from danet_lightning.data.base import Source
from danet_lightning.data.datamodule import SegmentationDataModule
from danet_lightning.data.drawing import CLASSES, PALETTE
from danet_lightning.data.drawing.scene import SMALLEST
from danet_lightning.data.drawing.source import SceneSource

Side = Annotated[int, Field(ge=SMALLEST, le=4096)]
Count = Annotated[int, Field(ge=1, le=100_000)]  # all are drawn, and kept


class Scenes(SegmentationDataModule):
    """Procedural street scenes; each is a function of (scenes_seed, split, index) and the size.

    Args:
        train_images: Number of scenes to train on.
        val_images: Number of scenes to validate on.
        test_images: Number of scenes to test on.
        size: Height and width of a scene in pixels.
        scenes_seed: Which scenes there are, whatever the training's seed.
        options: What every data set takes; see `SegmentationDataModule`.
    """

    classes = tuple(CLASSES)
    palette = tuple(PALETTE)
    label_source = "drawn with the image"

    def __init__(
        self,
        train_images: Count,
        val_images: Count,
        test_images: Count,
        size: tuple[Side, Side],
        scenes_seed: NonNegativeInt = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.counts = {"train": train_images, "val": val_images, "test": test_images}
        self.size = size
        self.scenes_seed = scenes_seed

    def source(self, split: str) -> Source:
        """Return the scenes of a split."""
        height, width = self.size
        return SceneSource(self.scenes_seed, split, self.counts[split], height, width)
