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
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from fake_trees import NoiseSource, write_camvid, write_voc2012
from loaded import loaded
from PIL import Image
from processes import devices, succeed
from torch.utils.data import DataLoader
from trainings import QUICK, TRUSTED, matrix_of

from danet_lightning.data.camvid import TRAIN_IDS as CAMVID_IDS
from danet_lightning.data.camvid import CamVid
from danet_lightning.data.files import cache as cache_module
from danet_lightning.data.files.cache import CachedSource, cached
from danet_lightning.data.files.source import FileSource
from danet_lightning.data.folder import Folder
from danet_lightning.data.samples.dataset import SegmentationDataset
from danet_lightning.data.samples.transforms import Augmentation
from danet_lightning.data.voc2012 import Voc2012
from danet_lightning.disk.writing import write_atomically
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
    """The files of caches that are written in this process."""
    paths = []

    def write(path: Path, *rest: Any, **options: Any) -> None:
        paths.append(path)
        write_atomically(path, *rest, **options)

    monkeypatch.setattr(cache_module, "write_atomically", write)
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


def files_of(kept: CachedSource, index: int) -> tuple[Path, Path]:
    """Image and mask, as they lie in the cache."""
    return tuple(kept.folder / f"{kept.keys[index]}.{part}.npy" for part in ("image", "mask"))


@pytest.mark.parametrize("workers", [0, 2])
def test_samples_are_the_same_with_and_without(workers: int, root: Path, seed: int) -> None:
    options = {"seed": seed, "workers": workers, "color_jitter": 0.5, "photometric": True}
    reference = all_batches(camvid(root, **{**options, "workers": 0}))
    assert_same(all_batches(camvid(root, cache="memmap", **options)), reference)
    assert_same(all_batches(camvid(root, cache="memmap", **options)), reference)
    assert len(list((root / ".danet_cache").glob("CamVid-*/*.npy"))) == 2 * (5 + 3)


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


@pytest.mark.parametrize("start", ["fork", "forkserver"])
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
    assert "5/5" in capsys.readouterr().err
    camvid(root, cache="memmap").setup("fit")
    assert built == []  # what the workers wrote is all there
    camvid(root, cache="memmap").source("test")
    assert len(built) == 2 * 2
    assert not list((root / ".danet_cache").rglob("*.part"))


def test_lightning_builds_before_it_sets_up(root: Path, built: list[Path]) -> None:
    data = camvid(root, cache="memmap")
    data.prepare_data()
    assert built == []
    data.trainer = SimpleNamespace(
        state=SimpleNamespace(fn=lightning.pytorch.trainer.states.TrainerFn.VALIDATING)
    )
    data.prepare_data()
    assert len(built) == 2 * 3  # of val alone


def test_an_image_that_changes_is_decoded_anew_and_no_other(root: Path, built: list[Path]) -> None:
    source = source_of(root)
    cached(source, "train", [root / "cache"])
    cached(FileSource(source.files[:-1], CAMVID_IDS), "train", [root / "cache"])
    assert len(built) == 10  # a shorter list is served by the same files
    _, image, label = source.files[2]
    for path in (image, label):
        status = path.stat()
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
        built.clear()
        cached(source, "train", [root / "cache"])
        assert len(built) == 2
        path.write_bytes(path.read_bytes() + b" ")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
        built.clear()
        kept = cached(source, "train", [root / "cache"])
        assert len(built) == 2
    assert np.array_equal(kept.read(2)[0], source.read(2)[0])


def test_what_changes_labels_has_files_of_its_own(root: Path) -> None:
    source = source_of(root)
    table = {label: label for label in range(12)}
    sources = [
        FileSource(source.files, {**table, 11: 255}),
        FileSource(source.files, {**table, 11: 255, 12: 255}),
        FileSource(source.files, {**table, 11: 0}),
        FileSource(source.files, {**table, 11: 255}, variable="S"),
        Colors(source.files, {**table, 11: 255}, {"road": (1, 2, 3)}),
        Colors(source.files, {**table, 11: 255}, {"road": (1, 2, 4)}),
    ]
    folders = {cached(each, "train", [root / "cache"]).folder for each in sources}
    assert len(folders) == 6
    with pytest.raises(RequestError, match=r"Colors.colors is a object"):
        cached(Colors(source.files, table, object()), "train", [root / "cache"])


class Colors(FileSource):
    """A user's own source, with an option of its own."""

    def __init__(self, files, train_ids, colors) -> None:
        super().__init__(files, train_ids)
        self.colors = colors


def test_a_data_set_that_is_moved_keeps_its_cache(root: Path, built: list[Path]) -> None:
    camvid(root, cache="memmap").setup("fit")
    moved = root.rename(root.with_name("moved"))
    camvid(moved, cache="memmap").setup("fit")
    assert len(built) == 2 * (5 + 3)


def test_images_of_one_name_size_and_time_are_told_apart(tmp_path: Path) -> None:
    """As an archive unpacks them: the folder is all that differs."""
    for split, color in {"train": 10, "val": 20}.items():
        for kind, value in {"images": color, "masks": color // 20}.items():
            (tmp_path / split / kind).mkdir(parents=True)
            path = tmp_path / split / kind / "0.bmp"
            Image.fromarray(np.full((4, 4), value, np.uint8)).save(path)
            os.utime(path, (1, 1))
    data = loaded(Folder, str(tmp_path), ["a", "b"], cache="memmap")
    read = {split: data.source(split).read(0) for split in ("train", "val")}
    assert (read["train"][0].max(), read["val"][0].max()) == (10, 20)
    assert (read["train"][1].max(), read["val"][1].max()) == (0, 1)


def cut_header(path: Path) -> None:
    os.truncate(path, 20)


def foreign_header(path: Path) -> None:
    path.write_bytes(b"nothing of NumPy's" * 9)


def cut_pixels(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def pickled_objects(path: Path) -> None:
    np.save(path, np.array([{"any": "thing"}]), allow_pickle=True)


def other_size(path: Path) -> None:
    np.save(path, np.zeros((3, 3), np.uint8))


@pytest.mark.parametrize(
    "damage", [cut_header, foreign_header, cut_pixels, pickled_objects, other_size, Path.unlink]
)
@pytest.mark.parametrize("part", [0, 1])
def test_a_damaged_file_is_built_again(
    damage: Callable[[Path], None], part: int, root: Path, caplog, built: list[Path]
) -> None:
    source, folder = source_of(root), root / "cache"
    kept = cached(source, "train", [folder])
    damage(files_of(kept, 2)[part])
    built.clear()
    again = cached(source, "train", [folder])
    assert built == list(files_of(kept, 2))
    for index in range(5):
        for one, other in zip(again.read(index), source.read(index), strict=True):
            assert np.array_equal(one, other)
    cached(source, "train", [folder])
    assert len(built) == 2


def test_a_cache_that_goes_while_it_is_used_is_a_request_error(root: Path) -> None:
    kept = cached(source_of(root), "train", [root / "cache"])
    kept.read(4)
    os.truncate(files_of(kept, 4)[1], 200)
    kept.read(0)
    with pytest.raises(RequestError, match="was changed while it was in use"):
        kept.read(4)
    files_of(kept, 0)[0].unlink()
    with pytest.raises(RequestError, match="Start again"):
        kept.read(0)


def build_in_process(root: Path, result: "multiprocessing.Queue[object]") -> None:
    kept = cached(source_of(root), "train", [root / "cache"])
    result.put((str(kept.folder), kept.read(4)[0].tobytes()))


def test_two_builders_at_once_both_get_it_whole(root: Path) -> None:
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
    assert len(list(Path(results[0][0]).iterdir())) == 2 * 5


@pytest.mark.parametrize("code", [errno.ENODEV, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_maps_is_read(root: Path, monkeypatch, code: int) -> None:
    source, folder = source_of(root), root / "cache"
    kept = cached(source, "train", [folder])

    def map_nothing(*_: object, **__: object) -> None:
        raise OSError(code, "No such device")

    monkeypatch.setattr(np.lib.format, "open_memmap", map_nothing)
    for index in range(len(source)):
        for one, other in zip(kept.read(index), source.read(index), strict=True):
            assert np.array_equal(one, other)
            assert not one.flags.writeable
    os.truncate(files_of(kept, 4)[0], 1000)
    with pytest.raises(RequestError, match=r"Start again"):
        kept.read(4)


def test_half_a_file_of_a_killed_builder_is_cleared_away(root: Path) -> None:
    source, folder = source_of(root), root / "cache"
    kept = cached(source, "train", [folder])
    old, new = (kept.folder / name for name in ("old.npy.1.part", "new.npy.2.part"))
    for part in (old, new, *files_of(kept, 3)):
        part.write_bytes(b"half")
    os.utime(old, (1, 1))
    again = cached(source, "train", [folder])
    assert np.array_equal(again.read(3)[0], source.read(3)[0])
    assert not old.exists()
    assert new.exists()  # another process may be writing it


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_build_goes_on(error, root: Path, monkeypatch, built) -> None:
    source, folder = source_of(root), root / "cache"
    read = FileSource.read

    def interrupted(self: FileSource, index: int) -> object:
        if index == 3:
            raise error
        return read(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(FileSource, "read", interrupted)
        expected = KeyboardInterrupt if error is KeyboardInterrupt else RunError
        with pytest.raises(expected):
            cached(source, "train", [folder])
    assert len(built) == 2 * 3
    cached(source, "train", [folder])
    assert len(built) == 2 * 5


def test_files_that_change_while_it_is_built_are_told(root: Path, monkeypatch) -> None:
    source, folder = source_of(root), root / "cache"
    read = FileSource.read

    def touching(self: FileSource, index: int) -> object:
        source.files[0][1].touch()
        return read(self, index)

    monkeypatch.setattr(FileSource, "read", touching)
    with pytest.raises(RequestError, match="was changed while"):
        cached(source, "train", [folder])
    assert not list(folder.rglob("*.npy"))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_is_named_as_without_a_cache(workers: int, root: Path) -> None:
    source = source_of(root)
    source.files[1][1].write_bytes(b"nothing")
    with pytest.raises(RequestError) as plain:
        source.read(1)
    with pytest.raises(RequestError) as raised:
        cached(source, "train", [root / "cache"], workers)
    assert str(raised.value) == str(plain.value)
    assert not list((root / "cache").rglob("*.part"))


def test_a_read_only_root_falls_back_to_the_home(
    root: Path, tmp_path: Path, monkeypatch, built: list[Path]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    # As a read-only disk is: permissions would not keep an administrator out.
    (root / ".danet_cache").write_text("a file is where the folder should be")
    data = camvid(root, cache="memmap")
    data.setup("fit")
    assert {path.parents[1] for path in built} == {tmp_path / "home/.cache/danet_lightning"}
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
        1, "evaluate", "ckpt_path=cached/best.ckpt", "run_dir=decoded",
        "trainer=cpu", TRUSTED, cwd=tmp_path,
    )  # fmt: skip
    assert matrix_of(tmp_path / "cached") == matrix_of(tmp_path / "decoded")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="an administrator may write")
def test_a_cache_in_a_read_only_root_is_used(root: Path, built: list[Path]) -> None:
    camvid(root, cache="memmap").setup("fit")
    written = len(built)
    (root / ".danet_cache").chmod(0o500)
    try:
        camvid(root, cache="memmap").setup("fit")
    finally:
        (root / ".danet_cache").chmod(0o700)
    assert len(built) == written


def test_cache_dir_chooses(root: Path, tmp_path: Path, built: list[Path]) -> None:
    camvid(root, cache="memmap", cache_dir=str(tmp_path / "fast disk")).setup("validate")
    assert {path.parents[1] for path in built} == {tmp_path / "fast disk"}
    assert not (root / ".danet_cache").exists()


def test_too_small_a_disk_is_told_before_anything_is_decoded(root: Path, monkeypatch) -> None:
    needed = 5 * 36 * 48 * 4
    usage = SimpleNamespace(free=needed - 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    source = source_of(root)
    with monkeypatch.context() as patch:
        patch.setattr(FileSource, "read", lambda *_: pytest.fail("was decoded"))
        with pytest.raises(RequestError) as raised:
            cached(source, "train", [root / "cache"])
    for part in ("needs 34.6 kB", "and 33.6 kB are free", "data.cache_dir"):
        assert part in str(raised.value)
    usage.free = needed
    cached(source_of(root), "train", [root / "cache"])


def test_a_source_without_files_is_refused() -> None:
    with pytest.raises(RequestError, match="NoiseSource reads none"):
        cached(NoiseSource(3), "train", [])


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells of a mapping")
def test_a_crop_reads_its_window_alone(tmp_path: Path) -> None:
    picture = np.zeros((6000, 4000, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png", compress_level=1)
    Image.fromarray(picture[..., 0]).save(tmp_path / "b.png")
    files = [("a", tmp_path / "a.png", tmp_path / "b.png")]
    kept = cached(FileSource(files, {0: 0}), "large", [tmp_path])
    image, mask = kept.read(0)
    assert resident(kept) == 0
    transform = Augmentation((100, 100), (1.0, 1.0)).transform()
    transform(image=image, mask=mask)
    # 1.6 MB; the kernel maps up to 2 MB around a page along with it, at both ends of both files
    assert 0 < resident(kept) < 12e6
    image.sum()
    assert resident(kept) > 0.7 * picture.size
    del image, mask
    assert resident(kept) == 0


def resident(kept: CachedSource) -> int:
    """Bytes of the cache that this process has mapped and touched."""
    size, counts = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if not line.split()[0].endswith(":"):
            counts = line.endswith((".image.npy", ".mask.npy"))
        elif counts and line.startswith("Rss:"):
            size += 1024 * int(line.split()[1])
    return size
