"""Writers of small data sets in their real layouts, and a source without files."""

import struct
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

from danet_lightning.data.base import Source


class NoiseSource(Source):
    """Noise of various sizes with labels 0..4; importable, so that workers can unpickle it."""

    def __init__(self, count: int, height: int = 60, width: int = 80) -> None:
        self.count, self.height, self.width = count, height, width

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return f"noise_{index}"

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        generator = np.random.default_rng(index)
        height, width = self.height + index % 3, self.width + index % 5
        image = generator.integers(0, 256, (height, width, 3), np.uint8)
        mask = generator.integers(0, 5, (height, width), np.uint8)
        image.flags.writeable = mask.flags.writeable = False  # as a memory map's are
        return image, mask


def write_camvid(root: Path, train: int = 5, val: int = 3, test: int = 2, seed: int = 0) -> Path:
    """SegNet's layout: train/ trainannot/ ..., jpg and png frames, ids 0..10 and 11."""
    generator = np.random.default_rng(seed)
    for split, count in {"train": train, "val": val, "test": test}.items():
        (root / split).mkdir(parents=True)
        (root / f"{split}annot").mkdir()
        for number in range(count):
            suffix = ("jpg", "png", "jpeg")[number % 3]
            labels = generator.integers(0, 12, (36, 48), np.uint8)
            frame = np.repeat(labels[..., None] * 20, 3, axis=2)
            Image.fromarray(frame).save(root / split / f"{split} {number:03d}.{suffix}")
            Image.fromarray(labels).save(root / f"{split}annot" / f"{split} {number:03d}.png")
    return root


def write_cityscapes(
    root: Path, train: int = 5, val: int = 3, test: int = 2, labels: str = "labelIds"
) -> Path:
    """leftImg8bit/ and gtFine/ by split and city; every id of labels.py, -1 as an 8-bit 255."""
    generator = np.random.default_rng(0)
    ids = [*range(34), 255] if labels == "labelIds" else [*range(19), 255]
    for split, count in {"train": train, "val": val, "test": test}.items():
        for number in range(count):
            city = f"{split}stadt{number % 2}"
            name = f"{city}_000000_{number:06d}"
            mask = generator.choice(np.array(ids, np.uint8), (32, 64))
            if split == "test":
                mask[:] = 3 if labels == "labelIds" else 255  # dummies, as published
            write_photo(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", mask)
            write_mask(root / "gtFine" / split / city / f"{name}_gtFine_{labels}.png", mask)
    return root


def write_voc2012(root: Path, train: int = 4, val: int = 3, seed: int = 0) -> Path:
    """VOCdevkit/VOC2012: photos of several sizes, palette masks with 0..20 and 255, lists."""
    voc = root / "VOCdevkit" / "VOC2012"
    names = {
        "train": [f"2007_{number:06d}" for number in range(train)],
        "val": [f"2008_{number:06d}" for number in range(val)],
    }
    names["trainval"] = sorted(names["train"] + names["val"])
    for split, listed in names.items():
        write_list(voc / "ImageSets" / "Segmentation" / f"{split}.txt", listed)
    for number, name in enumerate(names["trainval"]):
        mask = voc_labels(seed + number)
        write_photo(voc / "JPEGImages" / f"{name}.jpg", mask)
        write_mask(voc / "SegmentationClass" / f"{name}.png", mask)
    return root


def write_sbd(root: Path, voc_root: Path, extra: int = 3) -> Path:
    """SBD's benchmark_RELEASE: masks in .mat, of images of VOC's train and val and of others."""
    voc = voc_root / "VOCdevkit" / "VOC2012"
    own = [path.stem for path in sorted((voc / "SegmentationClass").glob("*.png"))]
    others = [f"2009_{number:06d}" for number in range(extra)]
    folder = root / "benchmark_RELEASE" / "dataset"
    listed = [*reversed(others), *own[1:]]  # VOC's first training image is not among SBD's
    write_list(folder / "train.txt", listed[::2])
    write_list(folder / "val.txt", listed[1::2])
    for number, name in enumerate(listed):
        mask = np.minimum(voc_labels(100 + number), 20)
        if name in others:
            write_photo(voc / "JPEGImages" / f"{name}.jpg", mask)
        else:  # of the photo's size, and not VOC's own labels
            with Image.open(voc / f"SegmentationClass/{name}.png") as own_mask:
                mask = np.ones((own_mask.height, own_mask.width), np.uint8)
        content = {"Segmentation": mask, "CategoriesPresent": np.unique(mask)}
        write_mat(folder / "cls" / f"{name}.mat", {"GTcls": content})
    return root


def voc_labels(seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    ids = np.array([*range(21), 255], np.uint8)
    return generator.choice(ids, (36 + seed % 3, 48 + seed % 5))


def write_pascal_context(root: Path, train: int = 4, val: int = 3) -> Path:
    """VOC 2010's photos, 459-label maps in trainval/*.mat, train.txt and val.txt."""
    generator = np.random.default_rng(0)
    for split, count in {"train": train, "val": val}.items():
        names = [f"2010_{split}_{number:06d}" for number in range(count)]
        write_list(root / f"{split}.txt", names)
        for name in names:
            labels = generator.integers(1, 460, (36, 48), np.uint16)
            write_photo(root / "VOCdevkit" / "VOC2010" / "JPEGImages" / f"{name}.jpg", labels)
            write_mat(root / "trainval" / f"{name}.mat", {"LabelMap": labels})
    return root


def write_cocostuff10k(root: Path, train: int = 4, test: int = 3, classes: int = 182) -> Path:
    """images/, annotations/*.mat with 0..182, imageLists/; 172 classes are those of v1.0."""
    generator = np.random.default_rng(0)
    for split, count in {"train": train, "test": test}.items():
        names = [f"COCO_train2014_{len(split)}{number:011d}" for number in range(count)]
        write_list(root / "imageLists" / f"{split}.txt", names)
        for name in names:
            labels = generator.integers(0, classes + 1, (36, 48)).astype(np.uint8)
            write_photo(root / "images" / f"{name}.jpg", labels)
            cells = np.array([f"name {number}" for number in range(classes)], object)
            content = {"S": labels, "names": cells[:, None], "captions": cells[:5, None]}
            write_mat(root / "annotations" / f"{name}.mat", content)
    return root


def write_ade20k(root: Path, train: int = 5, val: int = 3) -> Path:
    """ADEChallengeData2016: jpg photos of several sizes, grey annotations with 0..150."""
    generator = np.random.default_rng(0)
    ade = root / "ADEChallengeData2016"
    for folder, split, count in (("training", "train", train), ("validation", "val", val)):
        for number in range(1, count + 1):
            name = f"ADE_{split}_{number:08d}"
            labels = generator.integers(0, 151, (36 + number % 3, 48 + number % 5), np.uint8)
            write_photo(ade / "images" / folder / f"{name}.jpg", labels)
            path = ade / "annotations" / folder / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(labels).save(path)
    return root


def write_folder(root: Path, train: int = 5, val: int = 3, classes: int = 3) -> Path:
    """A person's own data: {split}/images/ and {split}/masks/, sub-folders, ids and 255."""
    generator = np.random.default_rng(0)
    ids = np.array([*range(classes), 255], np.uint8)
    for split, count in {"train": train, "val": val, "test": 2}.items():
        for number in range(count):
            labels = generator.choice(ids, (36 + number % 3, 48))
            name = f"tour {number % 2}/{split} é {number}"
            write_photo(root / split / "images" / f"{name}.{('jpg', 'png')[number % 2]}", labels)
            write_mask(root / split / "masks" / f"{name}.png", labels)
    return root


def write_photo(path: Path, labels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.repeat(labels.astype(np.uint8)[..., None], 3, axis=2)).save(path)


def write_mask(path: Path, labels: np.ndarray) -> None:
    """A palette PNG whose colors differ from its indices, as VOC's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels)
    image.putpalette([(7 * index + 255) % 256 for index in range(768)])
    image.save(path)


def write_tiff(
    path: Path, *pages: np.ndarray, photometric: int = 1, order: str = "<", subfiles: tuple = ()
) -> Path:
    """An uncompressed grey TIFF of any sample type, as GDAL writes it; Pillow cannot write all."""
    content = b"II*\0" if order == "<" else b"MM\0*"
    for number, page in enumerate(pages):
        height, width = page.shape
        start = len(content) + 4
        pixels = page.astype(page.dtype.newbyteorder(order)).tobytes()
        pixels += bytes(len(pixels) % 2)
        tags = {254: subfiles[number] if subfiles else 0, 256: width, 257: height}
        tags |= {258: 8 * page.itemsize, 259: 1, 262: photometric, 273: start, 277: 1}
        tags |= {278: height, 279: page.nbytes, 339: {"u": 1, "i": 2, "f": 3}[page.dtype.kind]}
        entries = [struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items()]
        content += struct.pack(f"{order}I", start + len(pixels)) + pixels
        content += struct.pack(f"{order}H", len(tags)) + b"".join(entries)
    path.write_bytes(content + bytes(4))
    return path


def write_mat(path: Path, content: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, content, do_compression=True)


def write_list(path: Path, names: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names))
