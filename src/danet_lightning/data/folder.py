"""A person's own images and masks, in any layout that a configuration can describe."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, NonNegativeInt

from danet_lightning.data.base import DataError, DataSet, Pairs, Place, Triple
from danet_lightning.data.files.layout import require_folder
from danet_lightning.data.files.lists import pair_lines
from danet_lightning.data.files.own_masks import own_masks
from danet_lightning.data.files.pairing import pair_by_name
from danet_lightning.data.files.source import FileSource
from danet_lightning.disk.names import expanded, stored_path
from danet_lightning.errors import PLACED, RequestError, checked

LAYOUT = """\
Your own images are expected as dataset.root/{train,val}/images/ and, by the same names, masks \
(png, bmp, gif, tif) as dataset.root/{train,val}/masks/; test/ may be there, too. Other layouts:
  dataset.images=images/{split} dataset.masks=masks/{split}
  dataset.images=images dataset.masks=masks dataset.val_fraction=0.2   without folders of splits
  dataset.image_suffix=_rgb dataset.mask_suffix=_mask   names that differ
  dataset.images={split} dataset.masks={split} dataset.mask_suffix=_mask   side by side: Roboflow
  dataset.list_file={split}.txt   lines of an image and its mask, relative to dataset.root
Polygons of CVAT, Labelme, COCO or YOLO become masks by `danet prepare labels=EXPORT`."""

PARTNER = (
    "Add or remove them; dataset.skip_unlabelled=true leaves images without a mask out; "
    "dataset.image_suffix and dataset.mask_suffix are taken off names that "
    "differ in their endings; JPEGs are no masks, as they invent labels along every edge."
)


def _distinct(names: Sequence[str]) -> Sequence[str]:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name} occurs {names.count(name)} times; name every class once")
    return names


def _enough(names: Sequence[str]) -> Sequence[str]:
    if not 2 <= len(names) <= 254:
        raise ValueError(
            "must be 2 to 254 names; what belongs to nothing else is a class, too: "
            "[background,road]"
        )
    return names


Text = Annotated[str, Field(min_length=1)]
Names = Annotated[Sequence[Text], AfterValidator(_enough), AfterValidator(_distinct)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Id = Annotated[int, Field(ge=0, le=65534)]
Byte = Annotated[int, Field(ge=0, le=255)]
Color = tuple[Byte, Byte, Byte]


class Folder(DataSet):
    """Images and masks below one folder.

    Args:
        root: The folder.
        classes: Names of the classes, in the order of their train ids.
        images: Where images lie below the root, sub-folders included; {split} stands for train,
            val (or valid, or validation) and test. Without {split}, all images are one pool; see
            `val_fraction`.
        masks: Where masks lie, by the images' paths there.
        image_suffix: What is taken off the end of image names before they are compared.
        mask_suffix: What is taken off the end of mask names. Files that end otherwise are passed
            over.
        list_file: A list below the root, in place of `images` and `masks`: "image mask" on each
            line, relative to the root. It may have {split} as well.
        val_fraction: The share of the pool, or else of train, that is val instead. Which images
            is a function of `split_seed` and an image's path alone, whatever the Unicode form of
            its name, so another image moves none.
        split_seed: Seed of that choice.
        ids: The id of each class in the masks; None: 0, 1, 2 ...
        colors: The color of each class, in masks of colors and in what is drawn; None: masks
            hold ids, and VOC's colors are drawn.
        ignore: An id or ids that are ignored; of masks of colors, a color or colors. With
            `colors`, three numbers are a color.
        skip_unlabelled: Whether images without a mask are left out, and counted. Of a list, all
            has to be there.

    Raises:
        RequestError: Ids, colors and classes do not fit together, or nothing says which images
            are val.
    """

    is_own = True

    @checked
    def __init__(
        self,
        root: Place,
        classes: Names,
        images: Annotated[Text, PLACED] = "{split}/images",
        masks: Annotated[Text, PLACED] = "{split}/masks",
        image_suffix: str = "",
        mask_suffix: str = "",
        list_file: Annotated[Text | None, PLACED] = None,
        val_fraction: Fraction | None = None,
        split_seed: NonNegativeInt = 0,
        ids: Sequence[Id] | None = None,
        colors: Sequence[Color] | None = None,
        ignore: Id | Sequence[Id] | Sequence[Color] | None = 255,
        skip_unlabelled: bool = False,
    ) -> None:
        self.root = root
        self.classes = tuple(classes)
        self.masks = own_masks(self.classes, ids, colors, ignore)
        self.palette = self.masks.palette
        self.raw_ids = tuple(ids or range(len(self.classes)))
        self.image_pattern, self.mask_pattern = images, masks
        self.suffixes = (image_suffix, mask_suffix)
        self.list_file = list_file
        self.val_fraction = val_fraction
        self.split_seed = split_seed
        self.skip_unlabelled = skip_unlabelled
        self.place = images if list_file is None else list_file  # what decides on the splits
        if "{split}" not in self.place and val_fraction is None:
            key = "images" if list_file is None else "list_file"
            raise RequestError(
                f"dataset.{key}={self.place}: without {{split}} in it, nothing says which images "
                "are for validation. Set apart a share of them: dataset.val_fraction=0.2"
            )
        if skip_unlabelled and list_file is not None:
            raise RequestError(
                "dataset.skip_unlabelled: a list names the mask of every image; take the lines "
                "without one out of dataset.list_file."
            )
        self.label_source = f"own masks, {masks if list_file is None else list_file}"
        if val_fraction is not None:
            self.label_source += f", val_fraction {val_fraction}, split_seed {split_seed}"

    def pairs(self, split: str) -> Pairs:
        """Pair the images of a split with their masks."""
        files, problems = self._files(split)
        return Pairs(FileSource(files, self.masks.train_ids, self.masks.color_ids), problems)

    def _files(self, split: str) -> tuple[list[Triple], list[DataError]]:
        root = require_folder(stored_path(expanded(self.root)), LAYOUT)
        if self.val_fraction is not None and split != "test":
            return self._share(root, split)
        if "{split}" not in self.place:
            raise DataError(
                f"split=test: without {{split}}, {self.place} is divided into train and val only.",
                "absent",
            )
        return self._pairs(root, split)

    def _pairs(self, root: Path, split: str) -> tuple[list[Triple], list[DataError]]:
        if self.list_file is not None:
            return pair_lines(_place(root, self.list_file, split), root, LAYOUT)
        images = require_folder(_place(root, self.image_pattern, split), LAYOUT)
        masks = require_folder(_place(root, self.mask_pattern, split), LAYOUT)
        is_shared = "{split}" in self.image_pattern and "{split}" not in self.mask_pattern
        files, problems = pair_by_name(
            images, masks, *self.suffixes, is_shared, self.skip_unlabelled, remedy=PARTNER
        )
        if not files and not problems:
            raise RequestError(f"There are no images in {images.absolute()}.\n{LAYOUT}")
        return files, problems

    def _share(self, root: Path, split: str) -> tuple[list[Triple], list[DataError]]:
        val = _place(root, self.place, "val")
        if "{split}" in self.place and val.exists():
            raise RequestError(
                f"dataset.val_fraction={self.val_fraction} sets images of train apart for "
                f"validation, and there is {val.absolute()}. Use dataset.val_fraction=null, or "
                "move its files to train."
            )
        pool, problems = self._pairs(root, "train")
        chosen = [file for file in pool if self._is_val(file[0]) == (split == "val")]
        if not chosen and not problems:
            raise RequestError(
                f"dataset.val_fraction={self.val_fraction} of {len(pool)} images leaves none for "
                f"{split}. Choose another fraction or dataset.split_seed."
            )
        return chosen, problems

    def _is_val(self, name: str) -> bool:
        text = f"{self.split_seed}/{name}"  # of a name that is no UTF-8, its bytes
        digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:8]) < (self.val_fraction or 0) * 2**64


def _place(root: Path, pattern: str, split: str) -> Path:
    """Find where a split lies; the one for validation may be called valid, as in Roboflow's
    exports.
    """
    names = ("val", "valid", "validation") if split == "val" else (split,)
    # not str.format: other braces may be part of a name
    places = [root / pattern.replace("{split}", name) for name in names]
    places = [stored_path(place) for place in places]
    return next((place for place in places if place.exists()), places[0])
