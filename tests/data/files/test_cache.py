"""The pixel cache: the same samples, never of other files, never a broken one."""

import errno
import multiprocessing
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import lightning
import numpy as np
import pytest
import torch
from fake_trees import NoiseSource, write_camvid, write_cityscapes, write_voc2012
from loaded import loaded
from PIL import Image
from processes import devices, succeed
from torch.utils.data import DataLoader
from trainings import QUICK, TRUSTED, matrix_of

from danet_lightning.data.camvid import CamVid
from danet_lightning.data.cityscapes import Cityscapes
from danet_lightning.data.files import cache as cache_module
from danet_lightning.data.files import cache_building
from danet_lightning.data.files.cache import CachedSource, cached
from danet_lightning.data.files.cache_key import cache_key
from danet_lightning.data.files.source import FileSource
from danet_lightning.data.samples.dataset import SegmentationDataset
from danet_lightning.data.samples.transforms import Augmentation
from danet_lightning.data.voc2012 import Voc2012
from danet_lightning.disk.claim import claimed
from danet_lightning.errors import RequestError, RunError

pytestmark = [
    # The number of workers is chosen here, whatever the machine that runs the tests has.
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_camvid(tmp_path / "Cam Vid ä")


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The caches that are built in this process."""
    paths = []

    def build(source: FileSource, path: Path, *rest: object) -> None:
        paths.append(path)
        cache_building.build(source, path, *rest)

    monkeypatch.setattr(cache_module, "build", build)
    return paths


def camvid(root: Path, **options: object) -> CamVid:
    return loaded(CamVid, str(root), **{"seed": 5, **options})


def source_of(root: Path, split: str = "train") -> FileSource:
    return camvid(root).source(split)


def all_batches(data: CamVid) -> list[dict[str, object]]:
    return [*data.train_dataloader(), *data.val_dataloader()]


def assert_same(here: list[dict[str, object]], there: list[dict[str, object]]) -> None:
    assert len(here) == len(there) > 0
    for one, other in zip(here, there, strict=True):
        assert one["id"] == other["id"]
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["mask"], other["mask"])


def one_file(folder: Path, pattern: str) -> Path:
    (path,) = folder.glob(pattern)
    return path


@pytest.mark.parametrize("workers", [0, 2])
def test_samples_are_the_same_with_and_without(workers: int, root: Path, seed: int) -> None:
    options = {"seed": seed, "workers": workers, "color_jitter": 0.5, "photometric": True}
    reference = all_batches(camvid(root, **{**options, "workers": 0}))
    assert_same(all_batches(camvid(root, cache="memmap", **options)), reference)
    assert_same(all_batches(camvid(root, cache="memmap", **options)), reference)
    assert len(list((root / ".danet_cache").glob("*.pixels"))) == 2


def test_sizes_may_differ(tmp_path: Path, seed: int) -> None:
    root = str(write_voc2012(tmp_path, seed=seed % 1000))
    voc = loaded(Voc2012, root, "train", cache="memmap")
    plain = loaded(Voc2012, root, "train").source("val")
    images = [batch["image"].shape for batch in voc.val_dataloader()]
    assert len(set(images)) == len(images) == 3
    for index in range(len(plain)):
        for one, other in zip(plain.read(index), voc.source("val").read(index), strict=True):
            assert np.array_equal(one, other)
            assert not other.flags.writeable


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_of_either_kind_open_it_themselves(start: str, root: Path, seed: int) -> None:
    source = source_of(root)
    kept = cached(source, "train", [root / "cache"])
    assert len(pickle.dumps(kept)) < len(pickle.dumps(source)) + 2000
    kept.read(0)  # nothing that is open goes along
    sets = [SegmentationDataset(each, None, seed) for each in (source, kept)]
    loaders = [
        DataLoader(
            each,
            batch_size=None,
            num_workers=workers,
            multiprocessing_context=start if workers else None,
        )
        for each, workers in zip(sets, (0, 2), strict=True)
    ]
    assert_same(*(list(loader) for loader in loaders))


def test_it_is_built_once_and_by_workers_as_well(root: Path, built: list[Path], capsys) -> None:
    first = camvid(root, cache="memmap", workers=2)
    first.setup("fit")
    camvid(root, cache="memmap").setup("fit")
    camvid(root, cache="memmap").source("test")
    assert [path.name.split("-")[:2] for path in built] == [
        ["CamVid", "train"], ["CamVid", "val"], ["CamVid", "test"],
    ]  # fmt: skip
    assert "5/5" in capsys.readouterr().err
    assert not list((root / ".danet_cache").glob("*.part"))


def test_lightning_builds_before_it_sets_up(root: Path, built: list[Path]) -> None:
    data = camvid(root, cache="memmap")
    data.prepare_data()
    assert built == []
    data.trainer = SimpleNamespace(
        state=SimpleNamespace(fn=lightning.pytorch.trainer.states.TrainerFn.VALIDATING)
    )
    data.prepare_data()
    assert len(built) == 1
    assert "-val-" in built[0].name


def test_another_list_and_other_files_have_another_key(root: Path) -> None:
    source = source_of(root)
    key = cache_key(source)
    assert cache_key(source_of(root)) == key
    assert cache_key(FileSource(source.files[:-1], {0: 0})) != key
    _, image, label = source.files[2]
    for path in (image, label):
        status = path.stat()
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
        assert cache_key(source) != key
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert cache_key(source) == key
        content = path.read_bytes()
        path.write_bytes(content + b" ")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert cache_key(source) != key
        path.write_bytes(content)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_what_changes_labels_changes_the_key(root: Path) -> None:
    source = source_of(root)
    table = {label: label for label in range(12)}
    keys = {
        cache_key(FileSource(source.files, {**table, 11: 255})),
        cache_key(FileSource(source.files, {**table, 11: 255, 12: 255})),
        cache_key(FileSource(source.files, {**table, 11: 0})),
        cache_key(FileSource(source.files, {**table, 11: 255}, variable="S")),
        cache_key(Colors(source.files, {**table, 11: 255}, {"road": (1, 2, 3)})),
        cache_key(Colors(source.files, {**table, 11: 255}, {"road": (1, 2, 4)})),
    }
    assert len(keys) == 6
    with pytest.raises(RequestError, match=r"Colors.colors is a object"):
        cache_key(Colors(source.files, table, object()))


class Colors(FileSource):
    """A user's own source, with an option of its own."""

    def __init__(self, files, train_ids, colors) -> None:
        super().__init__(files, train_ids)
        self.colors = colors


def test_a_data_set_that_is_moved_keeps_its_cache(root: Path, built: list[Path]) -> None:
    camvid(root, cache="memmap").setup("fit")
    moved = root.rename(root.with_name("moved"))
    camvid(moved, cache="memmap").setup("fit")
    assert len(built) == 2


def test_other_labels_get_a_file_of_their_own(tmp_path: Path, caplog) -> None:
    root = write_cityscapes(tmp_path / "ids")
    write_cityscapes(root, labels="labelTrainIds")
    with caplog.at_level("INFO"):
        for labels in ("labelIds", "labelTrainIds"):
            data = loaded(Cityscapes, str(root), labels, cache="memmap")
            data.evaluation_dataloader("val")
    assert len(list((root / ".danet_cache").glob("Cityscapes-val-*.pixels"))) == 2
    (told,) = [text for text in caplog.messages if "remove what nobody uses" in text]
    assert "Cityscapes-val-" in told


def flip_a_byte(folder: Path) -> None:
    header = one_file(folder, "*.json")
    content = bytearray(header.read_bytes())
    content[-5] ^= 1  # among the sizes
    header.write_bytes(content)


def cut_header(folder: Path) -> None:
    header = one_file(folder, "*.json")
    header.write_bytes(header.read_bytes()[:-20])


def foreign_header(folder: Path) -> None:
    one_file(folder, "*.json").write_text("[]")


def cut_pixels(folder: Path) -> None:
    os.truncate(one_file(folder, "*.pixels"), 1000)


def lengthen_pixels(folder: Path) -> None:
    with one_file(folder, "*.pixels").open("ab") as file:
        file.write(b"more")


def remove_header(folder: Path) -> None:
    one_file(folder, "*.json").unlink()


def remove_pixels(folder: Path) -> None:
    one_file(folder, "*.pixels").unlink()


def of_other_files(folder: Path) -> None:
    path = one_file(folder, "*.json")
    path.write_bytes(path.read_bytes())
    other = folder.parent / "other"
    kept = cached(source_of(folder.parent, "val"), "train", [other])
    shutil.copy(kept.pixels.path, one_file(folder, "*.pixels"))
    shutil.copy(kept.pixels.path.with_suffix(".json"), path)


@pytest.mark.parametrize(
    "damage",
    [flip_a_byte, cut_header, foreign_header, cut_pixels, lengthen_pixels, remove_header,
     remove_pixels, of_other_files],
)  # fmt: skip
def test_a_damaged_cache_is_told_and_built_again(
    damage: Callable[[Path], None], root: Path, caplog, built: list[Path]
) -> None:
    source, folder = source_of(root), root / "cache"
    reference = [image.copy() for image, _ in map(source.read, range(5))]
    cached(source, "train", [folder])
    damage(folder)
    built.clear()
    again = cached(source, "train", [folder])
    assert len(built) == 1
    (told,) = [text for text in caplog.messages if "damaged" in text]
    assert str(built[0]) in told
    for index, image in enumerate(reference):
        assert np.array_equal(again.read(index)[0], image)
    cached(source, "train", [folder])
    assert len(built) == 1


def test_a_cache_that_goes_while_it_is_used_is_a_request_error(root: Path) -> None:
    kept = cached(source_of(root), "train", [root / "cache"])
    kept.read(4)
    os.truncate(kept.pixels.path, kept.pixels.starts[4])
    kept.read(0)
    with pytest.raises(RequestError, match="was removed or changed while it was in use"):
        kept.read(4)
    kept.pixels.path.unlink()
    with pytest.raises(RequestError, match="Start again"):
        kept.read(0)


def build_in_process(root: Path, result: "multiprocessing.Queue[object]") -> None:
    kept = cached(source_of(root), "train", [root / "cache"])
    result.put((str(kept.pixels.path), kept.read(4)[0].tobytes()))


def test_two_builders_at_once_both_get_the_one_file(root: Path) -> None:
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    builders = [context.Process(target=build_in_process, args=(root, queue)) for _ in range(2)]
    for builder in builders:
        builder.start()
    results = [queue.get(timeout=120) for _ in builders]
    for builder in builders:
        builder.join(60)
        assert builder.exitcode == 0
    assert results[0] == results[1]
    assert results[0][0] == str(one_file(root / "cache", "*.pixels"))
    assert not list((root / "cache").glob("*.part"))


def test_who_waits_for_a_builder_builds_nothing(root: Path) -> None:
    """As with the other processes of a training: the first one builds, the next finds it."""
    source, folder = source_of(root), root / "cache"
    path = folder / f"train-{cache_key(source)[:16]}.pixels"
    folder.mkdir()
    lock = path.with_name(f"{path.name}.lock")
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    with claimed(lock):
        builder = context.Process(target=build_in_process, args=(root, queue))
        builder.start()
        builder.join(2)
        assert builder.is_alive()
        assert list(folder.glob("*.pixels")) == []
        cache_building.build(source, path, cache_key(source), 0)
        before = path.stat().st_mtime_ns
    queue.get(timeout=60)
    builder.join(60)
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize("code", [errno.ENODEV, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_maps_is_read(root: Path, monkeypatch, code: int) -> None:
    source, folder = source_of(root), root / "cache"
    kept = cached(source, "train", [folder])

    def memmap(*_: object) -> None:
        raise OSError(code, "No such device")

    monkeypatch.setattr(np, "memmap", memmap)
    for index in range(len(source)):
        for one, other in zip(kept.read(index), source.read(index), strict=True):
            assert np.array_equal(one, other)
            assert not one.flags.writeable
    path = one_file(folder, "*.pixels")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RequestError, match=r"it ends 1 bytes too early\. Start again"):
        kept.read(len(source) - 1)


def test_half_a_file_of_a_killed_builder_is_cleared_away(root: Path) -> None:
    source, folder = source_of(root), root / "cache"
    folder.mkdir()
    part = folder / f"train-{cache_key(source)[:16]}.pixels.part"
    part.write_bytes(b"half")
    kept = cached(source, "train", [folder])
    assert np.array_equal(kept.read(3)[0], source.read(3)[0])
    assert not part.exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_build_leaves_nothing(error, root: Path, monkeypatch) -> None:
    source, folder = source_of(root), root / "cache"
    read = FileSource.read

    def interrupted(self: FileSource, index: int) -> object:
        if index == 3:
            raise error
        return read(self, index)

    monkeypatch.setattr(FileSource, "read", interrupted)
    expected = KeyboardInterrupt if error is KeyboardInterrupt else RunError
    with pytest.raises(expected):
        cached(source, "train", [folder])
    assert [path.suffix for path in folder.iterdir() if path.suffix != ".lock"] == []


def test_files_that_change_while_it_is_built_are_told(root: Path, monkeypatch) -> None:
    source, folder = source_of(root), root / "cache"
    read = FileSource.read

    def touching(self: FileSource, index: int) -> object:
        source.files[0][1].touch()
        return read(self, index)

    monkeypatch.setattr(FileSource, "read", touching)
    with pytest.raises(RequestError, match="were changed while"):
        cached(source, "train", [folder])
    assert not list(folder.glob("*.pixels"))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_is_named_as_without_a_cache(workers: int, root: Path) -> None:
    source = source_of(root)
    source.files[1][1].write_bytes(b"nothing")
    with pytest.raises(RequestError) as plain:
        source.read(1)
    with pytest.raises(RequestError) as raised:
        cached(source, "train", [root / "cache"], workers)
    assert str(raised.value) == str(plain.value)
    assert not list((root / "cache").glob("*.pixels*[!k]"))


def test_a_read_only_root_falls_back_to_the_home(
    root: Path, tmp_path: Path, monkeypatch, built: list[Path]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    # As a read-only disk is: permissions would not keep an administrator out.
    (root / ".danet_cache").write_text("a file is where the folder should be")
    data = camvid(root, cache="memmap")
    data.setup("fit")
    assert {path.parent for path in built} == {tmp_path / "home/.cache/danet_lightning"}
    with pytest.raises(RequestError) as raised:
        camvid(root, cache="memmap", cache_dir=str(root / ".danet_cache")).setup("fit")
    for part in (str(root / ".danet_cache"), "data.cache_dir", "data.cache=none"):
        assert part in str(raised.value)


@pytest.mark.ddp
def test_of_two_processes_of_a_training_one_builds(root: Path, tmp_path: Path) -> None:
    done = succeed(
        2, "train", *QUICK, *devices(2), "dataset=camvid", f"dataset.root={root}", "logger=csv",
        "data.cache=memmap", "augmentation.crop_size=[32,32]", "trainer.max_epochs=1",
        "run_dir=cached", cwd=tmp_path,
    )  # fmt: skip
    told = "".join(process.stdout + process.stderr for process in done)
    assert told.count("Building the pixel cache") == 2  # of train and of val
    succeed(
        1, "evaluate", "ckpt_path=cached/best.ckpt", "+data.cache=none", "run_dir=decoded",
        "trainer=cpu", TRUSTED, cwd=tmp_path,
    )  # fmt: skip
    assert matrix_of(tmp_path / "cached") == matrix_of(tmp_path / "decoded")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="an administrator may write")
def test_a_cache_in_a_read_only_root_is_used(root: Path, built: list[Path]) -> None:
    camvid(root, cache="memmap").setup("fit")
    (root / ".danet_cache").chmod(0o500)
    try:
        camvid(root, cache="memmap").setup("fit")
    finally:
        (root / ".danet_cache").chmod(0o700)
    assert len(built) == 2


def test_cache_dir_chooses(root: Path, tmp_path: Path, built: list[Path]) -> None:
    camvid(root, cache="memmap", cache_dir=str(tmp_path / "fast disk")).setup("validate")
    assert [path.parent for path in built] == [tmp_path / "fast disk"]
    assert not (root / ".danet_cache").exists()


def test_too_small_a_disk_is_told_before_anything_is_decoded(root: Path, monkeypatch) -> None:
    needed = 5 * 36 * 48 * 4
    usage = SimpleNamespace(free=needed - 1000)
    monkeypatch.setattr(cache_building.shutil, "disk_usage", lambda folder: usage)
    source = source_of(root)
    with monkeypatch.context() as patch:
        patch.setattr(FileSource, "read", lambda *_: pytest.fail("was decoded"))
        with pytest.raises(RequestError) as raised:
            cached(source, "train", [root / "cache"])
    for part in ("needs 3.46e-05 GB", "and 3.36e-05 GB are free", "data.cache_dir"):
        assert part in str(raised.value)
    usage.free = needed
    cached(source_of(root), "train", [root / "cache"])


def test_a_source_without_files_is_refused() -> None:
    with pytest.raises(RequestError, match="NoiseSource reads none"):
        cached(NoiseSource(3), "train", [])


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells of a mapping")
def test_a_crop_reads_its_window_alone(tmp_path: Path) -> None:
    picture = np.zeros((3000, 2000, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png", compress_level=1)
    Image.fromarray(picture[..., 0]).save(tmp_path / "b.png")
    files = [("a", tmp_path / "a.png", tmp_path / "b.png")]
    kept = cached(FileSource(files, {0: 0}), "large", [tmp_path])
    image, mask = kept.read(0)
    assert resident(kept) == 0
    transform = Augmentation((100, 100), (1.0, 1.0)).transform()
    transform(image=image, mask=mask)
    # 100 of 3000 rows each; the kernel maps up to 2 MB around a page along with it, unread
    assert 0 < resident(kept) < 0.4 * kept.pixels.starts[-1]
    image.sum()
    assert resident(kept) > 0.7 * kept.pixels.starts[-1]
    del image, mask
    assert resident(kept) == 0


def resident(kept: CachedSource) -> int:
    """Bytes of the cache that this process has mapped and touched."""
    size, counts = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if not line.split()[0].endswith(":"):
            counts = line.endswith(kept.pixels.path.name)
        elif counts and line.startswith("Rss:"):
            size += 1024 * int(line.split()[1])
    return size
