"""PASCAL-Context (Mottaghi et al. 2014): every pixel of VOC 2010's images labelled, 59 classes."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from danet_lightning.data.base import IGNORE, Archive, DataSet, Pairs, Place, voc_colors
from danet_lightning.data.files.layout import find_folder, read_names
from danet_lightning.data.files.lists import pair_listed
from danet_lightning.data.files.source import FileSource
from danet_lightning.errors import RequestError, checked

LAYOUT = """\
PASCAL-Context is expected as dataset.root/VOCdevkit/VOC2010/ with JPEGImages/*.jpg and, there or \
in dataset.root, the 459-label maps trainval/*.mat (or SegmentationClassContext/*.png: 0 = \
background, 1..59) and the lists train.txt and val.txt (or trainval_merged.json).
`danet prepare dataset=pascal_context root=FOLDER` fetches them. By hand: the images are \
VOCtrainval_03-May-2010.tar of http://host.robots.ox.ac.uk/pascal/VOC/voc2010, the \
labels trainval.tar.gz of https://cs.stanford.edu/~roozbeh/pascal-context, the split is the one of \
the Detail API, https://github.com/zhanghang1989/detail-api."""

# fmt: off
IDS = {  # among the 459 labels
    "aeroplane": 2, "bag": 9, "bed": 18, "bedclothes": 19, "bench": 22, "bicycle": 23, "bird": 25,
    "boat": 31, "book": 33, "bottle": 34, "building": 44, "bus": 45, "cabinet": 46, "car": 59,
    "cat": 65, "ceiling": 68, "chair": 72, "cloth": 80, "computer": 85, "cow": 98, "cup": 104,
    "curtain": 105, "dog": 113, "door": 115, "fence": 144, "floor": 158, "flower": 159,
    "food": 162, "grass": 187, "ground": 189, "horse": 207, "keyboard": 220, "light": 232,
    "motorbike": 258, "mountain": 259, "mouse": 260, "person": 284, "plate": 295, "platform": 296,
    "pottedplant": 308, "road": 324, "rock": 326, "sheep": 347, "shelves": 349, "sidewalk": 354,
    "sign": 355, "sky": 360, "snow": 366, "sofa": 368, "table": 397, "track": 415, "train": 416,
    "tree": 420, "truck": 424, "tvmonitor": 427, "wall": 440, "water": 445, "window": 454,
    "wood": 458,
}
# fmt: on


class PascalContext(DataSet):
    """PASCAL-Context's 4998 training and 5105 validation images.

    Args:
        root: Folder that holds VOCdevkit/VOC2010, or one of these two themselves.
        background: Whether the other 400 labels are a class, the first of 60; else they are
            ignored, and there are 59. Results are published under both rules.
    """

    classes = tuple(IDS)
    palette = voc_colors(60)[1:]  # the release has none; black is the background's
    splits = ("train", "val")
    images: ClassVar[dict[str, int]] = {"train": 4998, "val": 5105}
    archives = (  # the small ones first, which are the likeliest not to be found
        Archive(
            name="trainval_merged.json",
            entries=("trainval_merged.json",),
            urls=(
                "https://codalabuser.blob.core.windows.net/public/trainval_merged.json",
                "https://web.archive.org/web/2020id_/"
                "https://codalabuser.blob.core.windows.net/public/trainval_merged.json",
            ),
            checksum="sha1:169325d9f7e9047537fedca7b04de4dddf10b881",  # as in PyTorch-Encoding
        ),
        Archive(
            name="trainval.tar.gz",
            entries=("trainval",),
            urls=(
                "https://roozbehm.info/pascal-context/trainval.tar.gz",  # the author has moved
                "https://cs.stanford.edu/~roozbeh/pascal-context/trainval.tar.gz",
            ),
        ),
        Archive(
            name="VOCtrainval_03-May-2010.tar",
            entries=("VOCdevkit/VOC2010",),
            urls=(
                "http://host.robots.ox.ac.uk/pascal/VOC/voc2010/VOCtrainval_03-May-2010.tar",
                "https://thor.robots.ox.ac.uk/pascal/VOC/voc2010/VOCtrainval_03-May-2010.tar",
            ),
            checksum="md5:da459979d0c395079b5c75ee67908abb",  # as in torchvision
        ),
    )

    @checked
    def __init__(self, root: Place, background: bool = False) -> None:
        self.root = root
        self.background = background
        self.label_source = "59 of 459 labels, the others ignored"
        if background:
            self.classes = ("background", *IDS)
            self.palette = voc_colors(60)
            self.label_source = "59 of 459 labels, the others background"

    def pairs(self, split: str) -> Pairs:
        """Pair the images of a split with their label maps."""
        root = Path(self.root).expanduser()
        voc = find_folder(root, ("VOCdevkit/VOC2010", "VOC2010", "."), "JPEGImages", LAYOUT)
        images = [voc / "JPEGImages" / "*.jpg"]
        labels, ids, last = _labels(voc, root)
        files, problems = pair_listed(_names(voc, root, split), images, [labels], LAYOUT)
        others = dict.fromkeys(range(last + 1), 0 if self.background else IGNORE)
        classes = {label: train_id for train_id, label in enumerate(ids, int(self.background))}
        source = FileSource(files, {**others, **classes}, variable="LabelMap")
        return Pairs(source, problems, self.images[split])


def _labels(voc: Path, root: Path) -> tuple[Path, Iterable[int], int]:
    """Find where the label files lie, the ids of the 59 classes in them, and the last id of all."""
    for folder in (voc, root):
        if (folder / "trainval").is_dir():
            return folder / "trainval" / "*.mat", IDS.values(), 459
    # 255 is not allowed in these: files with 0..58 and 255 would be one class off, silently.
    folder = find_folder(voc, (".",), "SegmentationClassContext", LAYOUT)
    return folder / "SegmentationClassContext" / "*.png", range(1, 60), 59


def _names(voc: Path, root: Path, split: str) -> list[str]:
    for folder in (voc, root, voc / "ImageSets" / "SegmentationContext"):
        if (folder / f"{split}.txt").is_file():
            return read_names(folder / f"{split}.txt", LAYOUT)
    for path in (voc / "trainval_merged.json", root / "trainval_merged.json"):
        if path.is_file():
            return _names_of_phase(path, split)
    return read_names(voc / f"{split}.txt", LAYOUT)  # is missing, and that tells it


def _names_of_phase(path: Path, split: str) -> list[str]:
    try:
        images = json.loads(path.read_bytes())["images"]
        return [Path(image["file_name"]).stem for image in images if image["phase"] == split]
    except (ValueError, KeyError, TypeError) as error:
        raise RequestError(
            f"{path} is not the Detail API's list of images: {error!r}.\n{LAYOUT}"
        ) from error
