"""A person's own images and masks, in any layout that a configuration can describe."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt

from danet_lightning.data.base import Source
from danet_lightning.data.datamodule import SegmentationDataModule
from danet_lightning.data.files.black_and_white import look_for_black_and_white
from danet_lightning.data.files.inspection import running
from danet_lightning.data.files.layout import require_folder
from danet_lightning.data.files.leakage import same_files
from danet_lightning.data.files.legend import legend
from danet_lightning.data.files.lists import pair_lines
from danet_lightning.data.files.own_masks import ColorSource
from danet_lightning.data.files.pairing import Triple, first_five, pair_by_name
from danet_lightning.disk.names import expanded, stored_path
from danet_lightning.errors import RequestError

LAYOUT = """\
Your own images are expected as dataset.root/{train,val}/images/ and, by the same names, masks \
(png, bmp, gif, tif) as dataset.root/{train,val}/masks/; test/ may be there, too. Other layouts:
  dataset.images=images/{split} dataset.masks=masks/{split}
  dataset.images=images dataset.masks=masks dataset.val_fraction=0.2   without folders of splits
  dataset.image_suffix=_rgb dataset.mask_suffix=_mask   names that differ
  dataset.images={split} dataset.masks={split} dataset.mask_suffix=_mask   side by side: Roboflow
  dataset.list_file={split}.txt   lines of an image and its mask, relative to dataset.root"""

PARTNER = (
    "Add or remove them; dataset.image_suffix and dataset.mask_suffix are taken off names that "
    "differ in their endings; JPEGs are no masks, as they invent labels along every edge."
)
# Here, as the check of a configuration follows the names of this file only.
Names = Annotated[
    Sequence[Annotated[str, Field(min_length=1)]], Field(min_length=2, max_length=254)
]
Text = Annotated[str, Field(min_length=1)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Id = Annotated[int, Field(ge=0, le=65534)]
Byte = Annotated[int, Field(ge=0, le=255)]
Color = tuple[Byte, Byte, Byte]


class Folder(SegmentationDataModule):
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
        options: What every data set takes; see `SegmentationDataModule`.

    Raises:
        RequestError: Ids, colors and classes do not fit together, or nothing says which images
            are val.
    """

    def __init__(
        self,
        root: str,
        classes: Names,
        images: Text = "{split}/images",
        masks: Text = "{split}/masks",
        image_suffix: str = "",
        mask_suffix: str = "",
        list_file: Text | None = None,
        val_fraction: Fraction | None = None,
        split_seed: NonNegativeInt = 0,
        ids: Sequence[Id] | None = None,
        colors: Sequence[Color] | None = None,
        ignore: Id | Sequence[Id] | Sequence[Color] | None = 255,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.root = root
        self.classes = tuple(classes)
        self.legend = legend(self.classes, ids, colors, ignore)
        self.palette = self.legend.palette
        self.raw_ids = tuple(ids or range(len(self.classes)))
        self.image_pattern, self.mask_pattern = images, masks
        self.suffixes = (image_suffix, mask_suffix)
        self.list_file = list_file
        self.val_fraction = val_fraction
        self.split_seed = split_seed
        self.place = images if list_file is None else list_file  # what decides on the splits
        if "{split}" not in self.place and val_fraction is None:
            key = "images" if list_file is None else "list_file"
            raise RequestError(
                f"dataset.{key}={self.place}: without {{split}} in it, nothing says which images "
                "are for validation. Set apart a share of them: dataset.val_fraction=0.2"
            )
        self.label_source = f"own masks, {masks if list_file is None else list_file}"
        if val_fraction is not None:
            self.label_source += f", val_fraction {val_fraction}, split_seed {split_seed}"

    def source(self, split: str) -> Source:
        """Pair the images of a split with their masks.

        Raises:
            RequestError: Something is missing or has no partner, an image is in train and in val,
                or the masks are black and white while white is ignored.
        """
        files = self._files(split)
        if split == "train":
            self._refuse_shared(files)
        source = ColorSource(files, self.legend.train_ids, self.legend.color_ids)
        look_for_black_and_white(source, split)
        return source

    def _files(self, split: str) -> list[Triple]:
        root = require_folder(stored_path(expanded(self.root)), LAYOUT)
        if self.val_fraction is not None and split != "test":
            return self._share(root, split)
        if "{split}" not in self.place:
            raise RequestError(
                f"split=test: without {{split}}, {self.place} is divided into train and val only.",
                "absent",
            )
        return self._pairs(root, split)

    def _pairs(self, root: Path, split: str) -> list[Triple]:
        if self.list_file is not None:
            return pair_lines(_place(root, self.list_file, split), root, LAYOUT)
        images = require_folder(_place(root, self.image_pattern, split), LAYOUT)
        masks = require_folder(_place(root, self.mask_pattern, split), LAYOUT)
        is_shared = "{split}" in self.image_pattern and "{split}" not in self.mask_pattern
        files = pair_by_name(images, masks, *self.suffixes, extra_labels=is_shared, remedy=PARTNER)
        if not files:
            raise RequestError(f"There are no images in {images.absolute()}.\n{LAYOUT}")
        return files

    def _share(self, root: Path, split: str) -> list[Triple]:
        val = _place(root, self.place, "val")
        if "{split}" in self.place and val.exists():
            raise RequestError(
                f"dataset.val_fraction={self.val_fraction} sets images of train apart for "
                f"validation, and there is {val.absolute()}. Use dataset.val_fraction=null, or "
                "move its files to train."
            )
        pool = self._pairs(root, "train")
        chosen = [file for file in pool if self._is_val(file[0]) == (split == "val")]
        if not chosen:
            raise RequestError(
                f"dataset.val_fraction={self.val_fraction} of {len(pool)} images leaves none for "
                f"{split}. Choose another fraction or dataset.split_seed."
            )
        return chosen

    def _is_val(self, name: str) -> bool:
        text = f"{self.split_seed}/{name}"  # of a name that is no UTF-8, its bytes
        digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:8]) < (self.val_fraction or 0) * 2**64

    def _refuse_shared(self, train: Sequence[Triple]) -> None:
        if running() is not None:  # `check` compares all splits itself
            return
        val = self._files("val")
        same = same_files([image for _, image, _ in train], [image for _, image, _ in val])
        if same:
            shown = first_five([f"{here} = {there}" for here, there in same])
            raise RequestError(
                f"{len(same)} images are in train and in val: {shown}. What was learned by heart "
                "would count as found. Remove them from one of the two."
            )


def _place(root: Path, pattern: str, split: str) -> Path:
    """Where a split lies; the one for validation may be called valid, as in Roboflow's exports."""
    names = ("val", "valid", "validation") if split == "val" else (split,)
    # not str.format: other braces may be part of a name
    places = [root / pattern.replace("{split}", name) for name in names]
    places = [stored_path(place) for place in places]
    return next((place for place in places if place.exists()), places[0])
