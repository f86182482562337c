"""COCO-Stuff 10k v1.1 (Caesar et al. 2018): photos with every pixel labelled, 171 classes."""

from pathlib import Path
from typing import ClassVar

from danet_lightning.data.base import IGNORE, Archive, DataSet, Pairs, Place, Triple, voc_colors
from danet_lightning.data.files.layout import read_names, require_folder
from danet_lightning.data.files.lists import pair_listed
from danet_lightning.data.files.matlab import mat_shape
from danet_lightning.data.files.source import FileSource
from danet_lightning.errors import RequestError, checked

LAYOUT = """\
COCO-Stuff 10k v1.1 is expected as it is published: dataset.root/ with images/*.jpg, \
annotations/*.mat (or *.png of the same ids: 0 = unlabeled, 1..182) and \
imageLists/{train,test}.txt.
`danet prepare dataset=cocostuff10k root=FOLDER` fetches it. By hand: cocostuff-10k-v1.1.zip of \
https://github.com/nightrome/cocostuff10k."""

LISTS = {"train": "train", "val": "test", "test": "test"}  # there is no other validation set
UNUSED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)  # COCO's ids of things nobody labelled
USED = [label for label in range(1, 183) if label not in UNUSED]
TRAIN_IDS = {
    **dict.fromkeys((0, *UNUSED), IGNORE),
    **{label: train_id for train_id, label in enumerate(USED)},
}


class CocoStuff10k(DataSet):
    """COCO-Stuff 10k's 9000 training and 1000 test images; val is test, as in the benchmark.

    Args:
        root: Folder that holds images/, annotations/ and imageLists/.
    """

    # fmt: off
    classes = (
        "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
        "traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat",
        "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack",
        "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball",
        "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket",
        "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple",
        "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair",
        "couch", "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse",
        "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator",
        "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush", "banner",
        "blanket", "branch", "bridge", "building-other", "bush", "cabinet", "cage", "cardboard",
        "carpet", "ceiling-other", "ceiling-tile", "cloth", "clothes", "clouds", "counter",
        "cupboard", "curtain", "desk-stuff", "dirt", "door-stuff", "fence", "floor-marble",
        "floor-other", "floor-stone", "floor-tile", "floor-wood", "flower", "fog", "food-other",
        "fruit", "furniture-other", "grass", "gravel", "ground-other", "hill", "house", "leaves",
        "light", "mat", "metal", "mirror-stuff", "moss", "mountain", "mud", "napkin", "net",
        "paper", "pavement", "pillow", "plant-other", "plastic", "platform", "playingfield",
        "railing", "railroad", "river", "road", "rock", "roof", "rug", "salad", "sand", "sea",
        "shelf", "sky-other", "skyscraper", "snow", "solid-other", "stairs", "stone", "straw",
        "structural-other", "table", "tent", "textile-other", "towel", "tree", "vegetable",
        "wall-brick", "wall-concrete", "wall-other", "wall-panel", "wall-stone", "wall-tile",
        "wall-wood", "water-other", "waterdrops", "window-blind", "window-other", "wood",
    )
    # fmt: on
    palette = voc_colors(172)[1:]  # the release has none; black is left to the unlabelled
    label_source = "COCO-Stuff 10k v1.1 annotations"
    images: ClassVar[dict[str, int]] = {"train": 9000, "val": 1000, "test": 1000}
    archives = (
        Archive(
            name="cocostuff-10k-v1.1.zip",
            entries=("images", "annotations", "imageLists"),
            urls=(
                "http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/"
                "cocostuff-10k-v1.1.zip",
            ),
        ),
    )

    @checked
    def __init__(self, root: Place) -> None:
        self.root = root

    def pairs(self, split: str) -> Pairs:
        """Pair the images of a list with their annotations."""
        root = require_folder(Path(self.root).expanduser(), LAYOUT)
        names = read_names(root / "imageLists" / f"{LISTS[split]}.txt", LAYOUT)
        annotations = require_folder(root / "annotations", LAYOUT)
        labels = [annotations / "*.mat", annotations / "*.png"]
        files, problems = pair_listed(names, [root / "images" / "*.jpg"], labels, LAYOUT)
        _check_release(files)
        source = FileSource(files, TRAIN_IDS, variable="S")
        return Pairs(source, problems, self.images[split])


def _check_release(files: list[Triple]) -> None:
    # v1.0 counts its 172 classes from 1, so its ids are legal here, and wrong.
    path = next((label for _, _, label in files if label.suffix == ".mat"), None)
    if path is not None and 172 in (mat_shape(path, "names") or ()):
        raise RequestError(
            f"{path} is of COCO-Stuff 10k v1.0: its `names` are 172, with 1 = unlabeled. Results "
            f"are published on v1.1, whose ids are 0..182.\n{LAYOUT}"
        )
