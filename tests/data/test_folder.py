import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from fake_trees import write_folder, write_mask, write_photo
from loaded import loaded
from PIL import Image

from danet_lightning.check.run import walk
from danet_lightning.data.files.black_and_white import look_for_black_and_white
from danet_lightning.data.files.cache import cached
from danet_lightning.data.folder import Folder
from danet_lightning.data.samples.dataset import SegmentationDataset
from danet_lightning.errors import RequestError

CLASSES = ["road", "sky", "person"]
COLORS = [[128, 64, 128], [70, 130, 180], [220, 20, 60]]


def own(root: Path, classes=CLASSES, **options) -> Folder:
    return loaded(Folder, str(root), classes, **options)


def refusal(root: Path, split: str = "train", **options) -> str:
    with pytest.raises(RequestError) as raised:
        list(SegmentationDataset(own(root, **options).source(split)))
    return str(raised.value)


def names(data: Folder, split: str) -> list[str]:
    return [name for name, _, _ in data.source(split).files]


@pytest.fixture
def root(tmp_path):
    return write_folder(tmp_path / "my dätä [1]")


@pytest.fixture
def pool(tmp_path):
    return write_pool(tmp_path / "pool", 40)


def write_pool(root: Path, count: int) -> Path:
    for number in range(count):
        labels = np.full((4, 5), number % 3, np.uint8)
        labels[0, 0] = number
        write_photo(root / "images" / f"{number:03d}.png", labels)
        write_mask(root / "masks" / f"{number:03d}.png", np.minimum(labels, 2))
    return root


def write_rgb(root: Path, colors: np.ndarray) -> Path:
    """One image a split; in the masks, the given colors."""
    for number, split in enumerate(("train", "val")):
        write_photo(root / split / "images" / "a.jpg", np.full(colors.shape[:2], number))
        (root / split / "masks").mkdir(parents=True)
        Image.fromarray(colors.astype(np.uint8)).save(root / split / "masks" / "a.png")
    return root


# ---- layouts


def test_a_tree_needs_a_root_and_classes_alone(root):
    data = own(root)
    assert {split: len(data.source(split)) for split in data.dataset.splits} == {
        "train": 5, "val": 3, "test": 2,
    }  # fmt: skip
    assert names(data, "val") == ["tour 0__val é 0", "tour 0__val é 2", "tour 1__val é 1"]
    _, mask = data.source("val").read(0)
    raw = np.asarray(Image.open(root / "val/masks/tour 0/val é 0.png"))
    assert np.array_equal(mask, raw)
    assert {*np.unique(mask)} == {0, 1, 2, 255}
    assert (len(data.dataset.classes), len({*data.dataset.palette}), data.dataset.raw_ids) == (
        3,
        3,
        (0, 1, 2),
    )


@pytest.mark.parametrize("images", ["images/{split}", "{split}"])
def test_the_splits_may_be_anywhere_in_the_path(root, images):
    for split in ("train", "val"):
        for kind, pattern in {"images": images, "masks": "annotations/{split}"}.items():
            target = root / "new" / pattern.replace("{split}", split)
            shutil.copytree(root / split / kind, target)
    data = own(root / "new", images=images, masks="annotations/{split}")
    assert [len(data.source(split)) for split in ("train", "val")] == [5, 3]


def test_masks_of_all_splits_may_be_one_folder(root):
    for split in ("train", "val", "test"):
        shutil.copytree(root / split / "masks", root / "masks", dirs_exist_ok=True)
    data = own(root, masks="masks")
    assert [len(data.source(split)) for split in data.dataset.splits] == [5, 3, 2]


def test_suffixes_of_names(tmp_path):
    ids = np.full((4, 5), 1, np.uint8)
    for number, split in enumerate(("train", "val")):
        write_photo(tmp_path / split / "a_rgb.png", ids + number)
        write_mask(tmp_path / split / "a_ids.png", ids)
    layout = {"images": "{split}", "masks": "{split}"}
    assert names(own(tmp_path, image_suffix="_rgb", mask_suffix="_ids", **layout), "val") == ["a"]
    told = refusal(tmp_path, mask_suffix="_ids", **layout)
    assert "a_rgb" in told
    assert "dataset.image_suffix" in told


def test_lists_of_pairs_stand_for_folders(root):
    for split in ("train", "val"):
        masks = sorted((root / split / "masks").rglob("*.png"))
        pairs = [(next((root / split / "images").rglob(f"{mask.stem}.*")), mask) for mask in masks]
        lines = ["\t".join(str(path.relative_to(root)) for path in pair) for pair in pairs]
        (root / f"{split}.txt").write_text("\n".join(lines))
    data = own(root, list_file="{split}.txt")
    assert [len(data.source(split)) for split in ("train", "val")] == [5, 3]
    assert np.array_equal(data.source("val").read(0)[1], own(root).source("val").read(0)[1])
    assert "There is no list" in refusal(root, "test", list_file="{split}.txt")
    shares = own(root, list_file="train.txt", val_fraction=0.5)
    assert len(shares.source("train")) + len(shares.source("val")) == 5


def test_roboflows_export_needs_no_renaming(tmp_path):
    """Masks beside the images, valid/ for val, and a table of the classes."""
    for number, split in enumerate(("train", "valid", "test")):
        (tmp_path / split).mkdir()
        (tmp_path / split / "_classes.csv").write_text("Pixel Value, Class\n0, background\n")
        name = f"IMG_{number}_jpg.rf.0a1b2c3d4e5f"
        write_photo(tmp_path / split / f"{name}.jpg", np.full((4, 5), 40 * number))
        Image.fromarray(np.full((4, 5), number, np.uint8)).save(
            tmp_path / split / f"{name}_mask.png"
        )
    layout = {"images": "{split}", "masks": "{split}", "mask_suffix": "_mask"}
    data = own(tmp_path, **layout)
    assert names(data, "val") == ["IMG_1_jpg.rf.0a1b2c3d4e5f"]
    assert [data.source(split).read(0)[1].max() for split in data.dataset.splits] == [0, 1, 2]
    told = refusal(tmp_path)
    assert " ".join(f"dataset.{key}={value}" for key, value in layout.items()) in told
    assert "val_fraction=null" in refusal(tmp_path, val_fraction=0.5, **layout)


def test_a_jpeg_is_no_mask_in_a_list_either(root):
    for split in ("train", "val"):
        mask = next((root / split / "masks").rglob("*.png"))
        image = next((root / split / "images").rglob(f"{mask.stem}.*"))
        with Image.open(mask) as opened:
            opened.convert("L").save(root / f"{split}.JPG", format="JPEG")
        paths = (image.relative_to(root), f"{split}.JPG")
        (root / f"{split}.txt").write_text("\t".join(map(str, paths)))
    assert "it is a JPEG file" in refusal(root, list_file="{split}.txt")


# ---- the share that validates


def share(root: Path, fraction: float = 0.25, seed: int = 0) -> Folder:
    return own(root, images="images", masks="masks", val_fraction=fraction, split_seed=seed)


def test_another_image_moves_none(pool, tmp_path, seed):
    """Removing or adding files, and their order on the disk, leave the others where they are."""
    random = np.random.default_rng(seed)
    before = {split: {*names(share(pool, 0.25, seed), split)} for split in ("train", "val")}
    assert before["train"] | before["val"] == {f"{number:03d}" for number in range(40)}
    assert not before["train"] & before["val"]
    for number in random.choice(40, 10, replace=False):
        for kind in ("images", "masks"):
            (pool / kind / f"{number:03d}.png").unlink()
    write_photo(pool / "images" / "new.png", np.full((4, 5), 200))
    write_mask(pool / "masks" / "new.png", np.full((4, 5), 2, np.uint8))
    for split, earlier in before.items():
        assert {*names(share(pool, 0.25, seed), split)} - {"new"} <= earlier
    assert own(
        pool, images="images", masks="masks", val_fraction=0.4
    ).dataset.label_source.endswith("val_fraction 0.4, split_seed 0")


def test_the_share_is_the_fraction_and_depends_on_the_seed(tmp_path):
    data = share(tmp_path, 0.2)
    chosen = [data.dataset._is_val(f"{number}.png") for number in range(10000)]
    assert 0.18 < np.mean(chosen) < 0.22  # 5 standard deviations
    other = share(tmp_path, 0.2, seed=1)
    assert chosen != [other.dataset._is_val(f"{number}.png") for number in range(10000)]
    larger = share(tmp_path, 0.3)  # a larger share takes some in and lets none go
    assert all(larger.dataset._is_val(f"{number}.png") for number in np.flatnonzero(chosen))
    # the same on every machine and in every version
    assert [name for name in "abcdefgh" if data.dataset._is_val(name)] == ["c", "f", "g"]


def test_the_share_does_not_depend_on_the_unicode_form(tmp_path):
    """The same files, copied over a Mac, are the same share, in the same order."""
    shares = []
    for form in ("NFC", "NFD"):
        root = tmp_path / form
        for number in range(40):
            name = unicodedata.normalize(form, f"Straße/Grün_{number}.png")
            labels = np.full((4, 5), number % 3, np.uint8)
            write_photo(root / unicodedata.normalize(form, "Bälder") / name, labels + number)
            write_mask(root / "masks" / name, labels)
        # the folder as typed on the other machine
        data = own(root, images="Bälder", masks="masks", val_fraction=0.25)
        shares.append([names(data, split) for split in ("train", "val")])
    assert shares[0] == shares[1]
    earlier = [6, 7, 9, 12, 14, 16, 19, 22, 27, 30, 32, 33]  # before the forms were made one
    assert {*shares[0][1]} == {f"Straße__Grün_{number}" for number in earlier}


def test_names_that_are_no_utf_8_are_divided(pool):
    for kind in ("images", "masks"):
        (pool / kind / "000.png").rename(pool / kind / os.fsdecode(b"b\xfcro.png"))
    assert sum(len(share(pool).source(split)) for split in ("train", "val")) == 40


def test_train_alone_is_divided_and_test_is_kept(root):
    shutil.rmtree(root / "val")
    data = own(root, val_fraction=0.4)
    assert len(data.source("train")) + len(data.source("val")) == 5
    assert len(data.source("test")) == 2


def test_what_cannot_be_divided_is_refused(root, pool):
    assert "dataset.val_fraction=0.2" in refusal(pool, images="images", masks="masks")
    told = refusal(root, val_fraction=0.2)
    assert str(root / "val" / "images") in told
    assert "dataset.val_fraction=null" in told
    pooled = {"images": "images", "masks": "masks"}
    told = refusal(pool, "val", val_fraction=1e-6, **pooled)
    assert "1e-06 of 40 images leaves none for val" in told
    assert "split=test: without {split}" in refusal(pool, "test", val_fraction=0.2, **pooled)


# ---- what is in the masks


def test_raw_ids_become_train_ids_and_several_are_ignored(root):
    for path in root.rglob("masks/*/*.png"):
        labels = np.array([[7, 8, 11], [0, 255, 3]], np.uint8)
        write_mask(path, labels)
        write_photo(next((path.parents[2] / "images").rglob(f"{path.stem}.*")), labels)
    told = refusal(root, "val", ids=[7, 8, 11], ignore=[0, 255])
    assert "label 3 (1 pixel) is outside the allowed 0, 7-8, 11, 255" in told
    assert "dataset.ids=[...]" in told
    data = own(root, ids=[7, 8, 11], ignore=[0, 3, 255])
    assert data.source("val").read(0)[1].tolist() == [[0, 1, 2], [255, 255, 255]]
    assert data.dataset.raw_ids == (7, 8, 11)


@pytest.mark.parametrize("alpha", [False, True])
def test_colors_become_train_ids(tmp_path, alpha):
    colors = np.array([[*COLORS, [0, 0, 0]]])
    if alpha:
        colors = np.concatenate([colors, np.full((1, 4, 1), 255)], axis=2)
    root = write_rgb(tmp_path / "rgb", colors)
    for ignore in ([0, 0, 0], [[0, 0, 0], [1, 1, 1]]):
        data = own(root, colors=COLORS, ignore=ignore)
        assert data.source("val").read(0)[1].tolist() == [[0, 1, 2, 255]]
    assert data.dataset.palette == tuple(map(tuple, COLORS))
    reordered = own(root, colors=COLORS, ids=[5, 9, 2], ignore=[0, 0, 0])
    assert reordered.source("val").read(0)[1].tolist() == [[0, 1, 2, 255]]


def test_an_unknown_color_names_file_color_and_count(tmp_path):
    root = write_rgb(tmp_path, np.array([[COLORS[0], [1, 2, 3], [0, 0, 0], [1, 2, 3]]]))
    told = refusal(root, colors=COLORS)
    assert str(root / "train/masks/a.png") in told
    assert "colors [1,2,3] in 2 pixels, [0,0,0] in 1 pixels of no class" in told
    assert "dataset.ignore" in told


def test_a_mask_of_colors_without_a_table_tells_its_colors(tmp_path):
    told = refusal(write_rgb(tmp_path, np.array([[COLORS[0], COLORS[1], COLORS[0]]])))
    assert str(tmp_path / "train/masks/a.png") in told
    assert "[128,64,128] in 2 pixels, [70,130,180] in 1 pixels" in told
    assert "dataset.colors=[[0,0,0]," in told


def test_files_of_ids_are_read_beside_a_table_of_colors(root):
    data = own(root, colors=COLORS)
    assert np.array_equal(data.source("val").read(0)[1], own(root).source("val").read(0)[1])


def test_a_palette_that_contradicts_the_table_is_refused(tmp_path):
    """As quantization makes of an RGB mask: its indices are legal, and mean something else."""
    root = write_rgb(tmp_path, np.array([[COLORS[2], COLORS[0], COLORS[0]]]))
    for path in root.rglob("masks/*.png"):
        with Image.open(path) as image:
            quantized = image.quantize(3)
        quantized.save(path)
    told = refusal(root, colors=COLORS)
    assert str(root / "train/masks/a.png") in told
    assert "index 0 of the palette has the color [" in told


def black_and_white(root: Path) -> Path:
    for path in root.rglob("masks/*/*.png"):
        labels = np.asarray(Image.open(path))
        Image.fromarray(np.where(labels == 1, 255, 0).astype(np.uint8)).save(path)
    return root


def test_black_and_white_masks_are_refused_although_255_is_ignored(root):
    told = refusal(black_and_white(root), classes=["no", "yes"])
    assert "All 5 masks of train hold the ids 0 and 255 alone" in told
    data = own(root, ["no", "yes"], ids=[0, 255], ignore=None)
    assert {*np.unique(data.source("val").read(0)[1])} == {0, 1}


def test_one_other_mask_says_that_255_is_meant(root):
    path = max(black_and_white(root).rglob("train/masks/*/*.png"))
    labels = np.asarray(Image.open(path)).copy()
    labels[0, 0] = 1
    Image.fromarray(labels).save(path)
    assert len(own(root, ["no", "yes"]).source("train")) == 5
    assert "label 255" in refusal(root, classes=["no", "yes"], ignore=None)


@pytest.mark.parametrize(("white", "warned"), [((0,), True), ((0, 1, 2, 3), True), ((), False)])
def test_black_and_white_masks_among_others_are_told_by_check_and_training(
    tmp_path, white, warned, caplog
):
    """Of two origins: 0 and 1 in some masks, 0 and 255 in others."""
    for number in range(5):
        labels = np.full((4, 5), number, np.uint8)
        mask = np.zeros((4, 5), np.uint8)
        mask[1] = 255 if number in white else 1
        for split in ("train", "val"):
            write_photo(tmp_path / split / "images" / f"{number}.png", labels + 9 * (split < "v"))
            write_mask(tmp_path / split / "masks" / f"{number}.png", mask)
    data = own(tmp_path, ["no", "yes"])
    data.source("train")
    told = f"{len(white)} of 5 masks of train hold the ids 0 and 255 alone"
    assert (told in caplog.text) == warned
    found = [each for each in walk(data.dataset, ["train"], workers=1).findings if each.files == ()]
    assert [each.kind for each in found] == ["some_0_255"] * warned
    assert all(each.is_warning and told in each.message for each in found)


def test_ignored_pixels_beside_a_class_are_no_black_and_white_masks(tmp_path, caplog):
    masks = np.array([[0, 1, 255], [0, 255, 255], [0, 0, 0], [1, 1, 1], [0, 1, 1]], np.uint8)
    for number, mask in enumerate(masks):
        for split in ("train", "val"):
            write_photo(tmp_path / split / "images" / f"{number}.png", masks[:1] + number)
            write_mask(tmp_path / split / "masks" / f"{number}.png", mask[None])
    data = own(tmp_path, ["no", "yes"])
    source = data.dataset.pairs("train").source
    look_for_black_and_white(source, "train")
    assert caplog.text == ""


# ---- what does not fit together


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (
            {"classes": ["road"]},
            "must be 2 to 254 names; what belongs to nothing else is a class, too",
        ),
        ({"classes": ["road", "sky", "road"]}, "road occurs 2 times; name every class once"),
        ({"ids": [0, 1]}, "dataset.ids: 2 entries for 3 classes"),
        ({"ids": []}, "dataset.ids: 0 entries for 3 classes"),
        ({"ids": [0, 1, 1]}, "dataset.ids: 1 occurs 2 times"),
        ({"ids": [0, 1, 255]}, "dataset.ignore: 255 is the class person"),
        ({"colors": COLORS[:2]}, "dataset.colors: 2 entries for 3 classes"),
        ({"colors": [COLORS[0]] * 3}, "dataset.colors: [128,64,128] occurs 3 times"),
        ({"colors": COLORS, "ignore": COLORS[1]}, "[70,130,180] is the class sky"),
        ({"ignore": [2, 255]}, "dataset.ignore: 2 is the class person"),
        ({"ignore": [[0, 0, 0]]}, "dataset.ignore=[[0,0,0]] is of colors"),
    ],
)
def test_a_legend_that_contradicts_itself_is_refused(root, options, part):
    assert part in refusal(root, **options)


def test_files_without_partner_are_counted_and_five_named(root):
    for path in (root / "train/masks").rglob("*.png"):
        path.rename(path.with_suffix(".jpg"))
    told = refusal(root)
    assert "5 of the files in" in told
    assert told.count("tour") == 5
    assert "JPEGs are no masks" in told


def test_an_image_in_train_and_in_val_is_named_whatever_its_name(root):
    original = next((root / "train/images").rglob("*.jpg"))
    shutil.copy(original, root / "val/images/copy.jpg")
    shutil.copy(next((root / "train/masks").rglob(f"{original.stem}.png")), root / "val/masks")
    (root / "val/masks" / f"{original.stem}.png").rename(root / "val/masks/copy.png")
    told = refusal(root)
    assert "1 images are in train and in val" in told
    assert str(original) in told
    assert str(root / "val/images/copy.jpg") in told


def test_an_empty_folder_says_what_belongs_there(root):
    shutil.rmtree(root / "val")
    for kind in ("images", "masks"):
        (root / "val" / kind).mkdir(parents=True)
    told = refusal(root)
    assert f"There are no images in {root / 'val/images'}" in told
    assert "dataset.list_file={split}.txt" in told


def test_a_cache_knows_the_colors(tmp_path):
    """Other colors, other labels: nothing of an earlier cache may be used."""
    root = write_rgb(tmp_path, np.array([[COLORS[0], COLORS[1]]]))
    sources = [own(root, colors=table).source("val") for table in (COLORS, COLORS[::-1])]
    keys = {cached(source, "val", [root / "cache"]).folder for source in sources}
    assert len(keys) == 2
