"""Cityscapes (Cordts et al. 2016): 2048 x 1024 frames of 50 cities, finely labelled, 19 classes."""

import logging
from pathlib import Path
from typing import ClassVar, Literal

from danet_lightning.data.base import IGNORE, Archive, DataError, DataSet, Pairs, Place, Triple
from danet_lightning.data.files.layout import require_folder
from danet_lightning.data.files.lists import pair_listed
from danet_lightning.data.files.source import FileSource
from danet_lightning.errors import checked

log = logging.getLogger(__name__)

LAYOUT = """\
Cityscapes is expected as it is published: dataset.root/ with \
leftImg8bit/{train,val,test}/<city>/*_leftImg8bit.png and \
gtFine/{train,val,test}/<city>/*_gtFine_labelIds.png.
Get leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip from \
https://www.cityscapes-dataset.com/downloads (with an account) into a folder; \
`danet prepare dataset=cityscapes root=FOLDER archives=DOWNLOADS` verifies and unpacks them.
labels=labelTrainIds reads *_gtFine_labelTrainIds.png, which its csCreateTrainIdLabelImgs makes."""

DOWNLOADS = "https://www.cityscapes-dataset.com/downloads (or with cityscapesScripts' csDownload)"
FRAME = "_leftImg8bit.png"
EVALUATED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
# The other ids are ignored; 255 is what an 8-bit file makes of -1, the license plates.
TRAIN_IDS = {
    "labelIds": {
        **dict.fromkeys([*range(34), 255], IGNORE),
        **{label: train_id for train_id, label in enumerate(EVALUATED)},
    },
    "labelTrainIds": {**{label: label for label in range(19)}, 255: IGNORE},
}


class Cityscapes(DataSet):
    """Cityscapes' 2975 training, 500 validation and 1525 test frames.

    The labels of test are kept by the benchmark's server: the published ones are dummies, all
    ignored. `trainval` is train and val together, for a submission to that server.

    Args:
        root: Folder that holds leftImg8bit/ and gtFine/.
        labels: Which label files are read; the ids of labelIds become train ids while reading.
    """

    # fmt: off
    classes = (
        "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign",
        "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train",
        "motorcycle", "bicycle",
    )
    palette = (
        (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153),
        (153, 153, 153), (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152),
        (70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100),
        (0, 80, 100), (0, 0, 230), (119, 11, 32),
    )
    # fmt: on
    splits = ("train", "val", "test", "trainval")
    raw_ids = EVALUATED
    images: ClassVar[dict[str, int]] = {"train": 2975, "val": 500, "test": 1525, "trainval": 3475}
    archives = (  # checksums as the download page shows them
        Archive(
            name="leftImg8bit_trainvaltest.zip",
            entries=("leftImg8bit",),
            checksum="md5:0a6e97e94b616a514066c9e2adb0c97f",
            page=DOWNLOADS,
        ),
        Archive(
            name="gtFine_trainvaltest.zip",
            entries=("gtFine",),
            checksum="md5:4237c19de34c8a376e9ba46b495d6f66",
            page=DOWNLOADS,
        ),
    )

    @checked
    def __init__(
        self, root: Place, labels: Literal["labelIds", "labelTrainIds"] = "labelIds"
    ) -> None:
        self.root = root
        self.labels = labels
        self.label_source = f"gtFine {labels}"

    def pairs(self, split: str) -> Pairs:
        """Pair the frames of all cities of a split with their labels."""
        parts = ("train", "val") if split == "trainval" else (split,)
        files: list[Triple] = []
        problems: list[DataError] = []
        for part in parts:
            complete, incomplete = self._pairs(part)
            files += complete
            problems += incomplete
        source = FileSource(files, TRAIN_IDS[self.labels])
        return Pairs(source, problems, self.images[split])

    def image_files(self, split: str) -> list[tuple[str, Path]]:
        """Return (id, image) for the frames of a split; those of test need no labels."""
        if split != "test":
            return super().image_files(split)
        frames = require_folder(Path(self.root).expanduser() / "leftImg8bit" / split, LAYOUT)
        names = sorted(_names(frames, FRAME))
        return [(name.rpartition("/")[2], frames / f"{name}{FRAME}") for name in names]

    def _pairs(self, split: str) -> tuple[list[Triple], list[DataError]]:
        root = require_folder(Path(self.root).expanduser(), LAYOUT)
        suffix = f"_gtFine_{self.labels}.png"
        frames, labels = root / "leftImg8bit" / split, root / "gtFine" / split
        require_folder(frames, LAYOUT)
        if split == "test":
            _check_test(labels, suffix)
        require_folder(labels, LAYOUT)
        # "city/city_000000_000019", of frames and of labels, so that either one is missed
        names = sorted(_names(frames, FRAME) | _names(labels, suffix))
        return pair_listed(names, [frames / f"*{FRAME}"], [labels / f"*{suffix}"], LAYOUT)


def _names(folder: Path, suffix: str) -> set[str]:
    paths = (path.relative_to(folder) for path in folder.glob(f"*/[!.]*{suffix}"))
    return {path.as_posix().removesuffix(suffix) for path in paths}


def _check_test(folder: Path, suffix: str) -> None:
    if next(folder.glob(f"*/*{suffix}"), None) is None:
        raise DataError(
            f"split=test: there is no {folder.absolute()}/<city>/*{suffix}. The labels of "
            "Cityscapes' test images are not published; gtFine_trainvaltest.zip has dummies, all "
            "ignored. Evaluate split=val; to submit test results, danet predict dataset=cityscapes "
            "split=test format=cityscapes writes what the server takes.",
            "no_labels",
        )
    log.warning("Cityscapes: the published labels of test are dummies, so its scores are empty.")
