"""ADE20K as of MIT's scene parsing challenge 2016 (Zhou et al. 2017): 150 classes."""

from pathlib import Path
from typing import ClassVar

from danet_lightning.data.base import Archive, DataSet, Pairs, Place
from danet_lightning.data.files.layout import find_folder, require_folder
from danet_lightning.data.files.pairing import pair_by_name
from danet_lightning.data.files.source import FileSource
from danet_lightning.errors import checked

LAYOUT = """\
ADE20K is expected as it is published: dataset.root/ADEChallengeData2016/ with \
images/{training,validation}/*.jpg and, by the same names, annotations/{training,validation}/*.png \
(0 = other, 1..150).
`danet prepare dataset=ade20k root=FOLDER` fetches it. By hand: unpack \
http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip and give dataset.root the \
folder it is unpacked in."""

FOLDERS = {"train": "training", "val": "validation"}
TRAIN_IDS = {0: 255, **{label: label - 1 for label in range(1, 151)}}  # 0: other, unlabelled


class Ade20k(DataSet):
    """ADE20K's 20210 training and 2000 validation images. The labels of test are not public.

    Args:
        root: Folder that holds ADEChallengeData2016, or that folder itself.
    """

    # fmt: off
    classes = (
        "wall", "building", "sky", "floor", "tree", "ceiling", "road", "bed", "windowpane", "grass",
        "cabinet", "sidewalk", "person", "earth", "door", "table", "mountain", "plant", "curtain",
        "chair", "car", "water", "painting", "sofa", "shelf", "house", "sea", "mirror", "rug",
        "field", "armchair", "seat", "fence", "desk", "rock", "wardrobe", "lamp", "bathtub",
        "railing", "cushion", "base", "box", "column", "signboard", "chest of drawers", "counter",
        "sand", "sink", "skyscraper", "fireplace", "refrigerator", "grandstand", "path", "stairs",
        "runway", "case", "pool table", "pillow", "screen door", "stairway", "river", "bridge",
        "bookcase", "blind", "coffee table", "toilet", "flower", "book", "hill", "bench",
        "countertop", "stove", "palm", "kitchen island", "computer", "swivel chair", "boat", "bar",
        "arcade machine", "hovel", "bus", "towel", "light", "truck", "tower", "chandelier",
        "awning", "streetlight", "booth", "television receiver", "airplane", "dirt track",
        "apparel", "pole", "land", "bannister", "escalator", "ottoman", "bottle", "buffet",
        "poster", "stage", "van", "ship", "fountain", "conveyer belt", "canopy", "washer",
        "plaything", "swimming pool", "stool", "barrel", "basket", "waterfall", "tent", "bag",
        "minibike", "cradle", "oven", "ball", "food", "step", "tank", "trade name", "microwave",
        "pot", "animal", "bicycle", "lake", "dishwasher", "screen", "blanket", "sculpture", "hood",
        "sconce", "vase", "traffic light", "tray", "ashcan", "fan", "pier", "crt screen", "plate",
        "monitor", "bulletin board", "shower", "radiator", "glass", "clock", "flag",
    )
    palette = (  # the benchmark's, in which road and skyscraper share a grey
        (120, 120, 120), (180, 120, 120), (6, 230, 230), (80, 50, 50), (4, 200, 3), (120, 120, 80),
        (140, 140, 140), (204, 5, 255), (230, 230, 230), (4, 250, 7), (224, 5, 255), (235, 255, 7),
        (150, 5, 61), (120, 120, 70), (8, 255, 51), (255, 6, 82), (143, 255, 140), (204, 255, 4),
        (255, 51, 7), (204, 70, 3), (0, 102, 200), (61, 230, 250), (255, 6, 51), (11, 102, 255),
        (255, 7, 71), (255, 9, 224), (9, 7, 230), (220, 220, 220), (255, 9, 92), (112, 9, 255),
        (8, 255, 214), (7, 255, 224), (255, 184, 6), (10, 255, 71), (255, 41, 10), (7, 255, 255),
        (224, 255, 8), (102, 8, 255), (255, 61, 6), (255, 194, 7), (255, 122, 8), (0, 255, 20),
        (255, 8, 41), (255, 5, 153), (6, 51, 255), (235, 12, 255), (160, 150, 20), (0, 163, 255),
        (140, 140, 140), (250, 10, 15), (20, 255, 0), (31, 255, 0), (255, 31, 0), (255, 224, 0),
        (153, 255, 0), (0, 0, 255), (255, 71, 0), (0, 235, 255), (0, 173, 255), (31, 0, 255),
        (11, 200, 200), (255, 82, 0), (0, 255, 245), (0, 61, 255), (0, 255, 112), (0, 255, 133),
        (255, 0, 0), (255, 163, 0), (255, 102, 0), (194, 255, 0), (0, 143, 255), (51, 255, 0),
        (0, 82, 255), (0, 255, 41), (0, 255, 173), (10, 0, 255), (173, 255, 0), (0, 255, 153),
        (255, 92, 0), (255, 0, 255), (255, 0, 245), (255, 0, 102), (255, 173, 0), (255, 0, 20),
        (255, 184, 184), (0, 31, 255), (0, 255, 61), (0, 71, 255), (255, 0, 204), (0, 255, 194),
        (0, 255, 82), (0, 10, 255), (0, 112, 255), (51, 0, 255), (0, 194, 255), (0, 122, 255),
        (0, 255, 163), (255, 153, 0), (0, 255, 10), (255, 112, 0), (143, 255, 0), (82, 0, 255),
        (163, 255, 0), (255, 235, 0), (8, 184, 170), (133, 0, 255), (0, 255, 92), (184, 0, 255),
        (255, 0, 31), (0, 184, 255), (0, 214, 255), (255, 0, 112), (92, 255, 0), (0, 224, 255),
        (112, 224, 255), (70, 184, 160), (163, 0, 255), (153, 0, 255), (71, 255, 0), (255, 0, 163),
        (255, 204, 0), (255, 0, 143), (0, 255, 235), (133, 255, 0), (255, 0, 235), (245, 0, 255),
        (255, 0, 122), (255, 245, 0), (10, 190, 212), (214, 255, 0), (0, 204, 255), (20, 0, 255),
        (255, 255, 0), (0, 153, 255), (0, 41, 255), (0, 255, 204), (41, 0, 255), (41, 255, 0),
        (173, 0, 255), (0, 245, 255), (71, 0, 255), (122, 0, 255), (0, 255, 184), (0, 92, 255),
        (184, 255, 0), (0, 133, 255), (255, 214, 0), (25, 194, 194), (102, 255, 0), (92, 0, 255),
    )
    # fmt: on
    label_source = "ADEChallengeData2016 annotations"
    splits = ("train", "val")
    raw_ids = tuple(range(1, 151))
    images: ClassVar[dict[str, int]] = {"train": 20210, "val": 2000}
    archives = (
        Archive(
            name="ADEChallengeData2016.zip",
            entries=("ADEChallengeData2016",),
            urls=("http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",),
            checksum="sha1:219e1696abb36c8ba3a3afe7fb2f4b4606a897c7",  # as in GluonCV
        ),
    )

    @checked
    def __init__(self, root: Place) -> None:
        self.root = root

    def pairs(self, split: str) -> Pairs:
        """Pair the images of a split with their annotations."""
        places = ("ADEChallengeData2016", ".")
        root = find_folder(Path(self.root).expanduser(), places, "annotations", LAYOUT)
        images = require_folder(root / "images" / FOLDERS[split], LAYOUT)
        annotations = require_folder(root / "annotations" / FOLDERS[split], LAYOUT)
        files, problems = pair_by_name(images, annotations)
        return Pairs(FileSource(files, TRAIN_IDS), problems, self.images[split])
