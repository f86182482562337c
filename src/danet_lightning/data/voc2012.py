"""PASCAL VOC 2012 (Everingham et al. 2015), with SBD's extra labels (Hariharan et al. 2011)."""

from pathlib import Path
from typing import ClassVar, Literal

from danet_lightning.data.base import IGNORE, Archive, DataSet, Pairs, Place, voc_colors
from danet_lightning.data.files.layout import find_folder, read_names
from danet_lightning.data.files.lists import pair_listed
from danet_lightning.data.files.source import FileSource
from danet_lightning.errors import RequestError, checked

LAYOUT = """\
VOC 2012 is expected as it is published: dataset.root/VOCdevkit/VOC2012/ with JPEGImages/*.jpg, \
SegmentationClass/*.png and ImageSets/Segmentation/{train,val,trainval}.txt.
`danet prepare dataset=voc2012 root=FOLDER` fetches it, with SBD. By hand: unpack \
VOCtrainval_11-May-2012.tar from http://host.robots.ox.ac.uk/pascal/VOC/voc2012 and give \
dataset.root the folder it is unpacked in."""

SBD_LAYOUT = """\
SBD is expected as it is published: dataset.sbd_root/benchmark_RELEASE/dataset/ with cls/*.mat, \
train.txt and val.txt. `danet prepare dataset=voc2012 root=FOLDER` fetches it. By hand: \
benchmark.tgz of http://home.bharathh.info/pubs/codes/SBD/download.html. Or do without it: \
dataset.train_split=train"""

TRAIN_IDS = {**{label: label for label in range(21)}, 255: IGNORE}  # 255: contours and "difficult"


class Voc2012(DataSet):
    """VOC 2012's segmentation images, the training set enlarged to 10582 by SBD.

    Test has no public labels. Beware of `train_split="trainval"`: it contains val, so a score on
    val is then one on images trained on, and only the benchmark's server, on test, tells a
    result. The authors' loader reads trainval under the name of train.

    Args:
        root: Folder that holds VOCdevkit/VOC2012, or one of these two themselves.
        train_split: What train reads: VOC's train (1464 images), its trainval (2913), or
            train_aug (10582): train and SBD's train and val, without VOC's val. It is read from a
            folder SegmentationClassAug beside SegmentationClass, with the list train_aug.txt or
            trainaug.txt if there is one, or from SBD itself. Where VOC has a mask, that is used.
        sbd_root: Folder that holds SBD's benchmark_RELEASE; goes before SegmentationClassAug.
    """

    # fmt: off
    classes = (
        "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat",
        "chair", "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant",
        "sheep", "sofa", "train", "tvmonitor",
    )
    # fmt: on
    palette = voc_colors(21)
    label_source = "VOC masks, SBD's for the images that train_aug adds"
    splits = ("train", "val")
    images: ClassVar[dict[str, int]] = {
        "train": 1464,
        "val": 1449,
        "trainval": 2913,
        "train_aug": 10582,
    }
    archives = (  # checksums as in torchvision
        Archive(
            name="VOCtrainval_11-May-2012.tar",
            entries=("VOCdevkit/VOC2012",),
            urls=(
                "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
                "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
            ),
            checksum="md5:6cd6e144f989b92b3379bac3b3de84fd",
        ),
        Archive(
            name="benchmark.tgz",
            entries=("benchmark_RELEASE",),
            urls=(
                "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/"
                "semantic_contours/benchmark.tgz",
            ),
            checksum="md5:82b4d87ceb2ed10f6038a1cba92111cb",
            option="sbd_root",
        ),
    )

    @checked
    def __init__(
        self,
        root: Place,
        train_split: Literal["train", "trainval", "train_aug"] = "train_aug",
        sbd_root: Place | None = None,
    ) -> None:
        self.root = root
        self.train_split = train_split
        self.sbd_root = sbd_root

    def pairs(self, split: str) -> Pairs:
        """Pair the images of a list with their masks."""
        voc = self._folder()
        wanted = self.train_split if split == "train" else split
        masks = [voc / "SegmentationClass" / "*.png"]  # a mask of VOC's goes before SBD's
        if wanted == "train_aug":
            names, extra = self._augmented(voc)
            masks.append(extra)
        else:
            names = _listed(voc, wanted)
        files, problems = pair_listed(names, [voc / "JPEGImages" / "*.jpg"], masks, LAYOUT)
        source = FileSource(files, TRAIN_IDS, variable="GTcls.Segmentation")
        return Pairs(source, problems, self.images.get(wanted))

    def image_files(self, split: str) -> list[tuple[str, Path]]:
        """Return (id, image) of a split; the list of test comes with VOC's test archive."""
        if split != "test":
            return super().image_files(split)
        voc = self._folder()
        images = [voc / "JPEGImages" / "*.jpg"]
        pairs, problems = pair_listed(_listed(voc, "test"), images, images, LAYOUT)
        if problems:
            raise problems[0]
        return [(name, image) for name, image, _ in pairs]

    def _folder(self) -> Path:
        places = ("VOCdevkit/VOC2012", "VOC2012", ".")
        return find_folder(Path(self.root).expanduser(), places, "JPEGImages", LAYOUT)

    def _augmented(self, voc: Path) -> tuple[list[str], Path]:
        """Return the names of train_aug, and where the masks lie that VOC does not have."""
        train, val = _listed(voc, "train"), _listed(voc, "val")
        ready = voc / "SegmentationClassAug"
        if self.sbd_root is not None:
            places = ("benchmark_RELEASE/dataset", "dataset", ".")
            sbd = find_folder(Path(self.sbd_root).expanduser(), places, "cls", SBD_LAYOUT)
            lists = [read_names(sbd / f"{part}.txt", SBD_LAYOUT) for part in ("train", "val")]
            names, extra = {*train, *lists[0], *lists[1]}, sbd / "cls" / "*.mat"
        elif ready.is_dir():
            names, extra = _ready_names(voc, ready), ready / "*.png"
        else:
            raise RequestError(
                f"train_split=train_aug: there is no {ready.absolute()}, and no sbd_root is given. "
                "Give dataset.sbd_root, or train on VOC's 1464 images with "
                f"dataset.train_split=train.\n{SBD_LAYOUT}"
            )
        return sorted(names - set(val)), extra


def _listed(voc: Path, name: str) -> list[str]:
    return read_names(voc / "ImageSets" / "Segmentation" / f"{name}.txt", LAYOUT)


def _ready_names(voc: Path, folder: Path) -> set[str]:
    for name in ("train_aug", "trainaug"):
        if (voc / "ImageSets" / "Segmentation" / f"{name}.txt").is_file():
            return set(_listed(voc, name))
    return {*_listed(voc, "train"), *(path.stem for path in folder.glob("[!.]*.png"))}
