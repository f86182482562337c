"""What an archive unpacks to is whole or not there, and nothing is written outside of it."""

import errno
import io
import random
import shutil
import stat
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from danet_lightning.errors import RequestError, RunError
from danet_lightning.prepare import unpacking
from danet_lightning.prepare.unpacking import settle, unpack

FILES = {"images/a b.jpg": b"a" * 5000, "images/deep/ä.jpg": b"b" * 70_000, "lists/train.txt": b"x"}
ENTRIES = ("images", "lists/train.txt")


def write_archive(path: Path, files: dict[str, bytes], inside: str = "") -> Path:
    files = {inside + name: content for name, content in files.items()}
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
            for name, content in files.items():
                zipped.writestr(name, content)
    else:
        with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as tar:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


def tree(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file() or path.is_symlink()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "my data").mkdir()
    return tmp_path / "my data"


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ".tgz"])
@pytest.mark.parametrize("inside", ["", "./", "Repository-main/Data/"])
def test_the_entries_are_unpacked_and_nothing_else(tmp_path, target, suffix, inside) -> None:
    files = {**FILES, "README": b"", "images2/c.jpg": b"c", "lists/val.txt": b"v"}
    archive = write_archive(tmp_path / f"a{suffix}", files, inside)
    unpack(archive, ENTRIES, target)
    assert tree(target) == FILES
    assert {path.name for path in target.iterdir()} == {"images", "lists"}


def test_another_file_is_taken_as_it_is(tmp_path, target) -> None:
    (tmp_path / "list.json").write_bytes(b"{}")
    unpack(tmp_path / "list.json", ["list.json"], target)
    assert tree(target) == {"list.json": b"{}"}


def test_what_the_user_has_already_is_left_alone(tmp_path, target) -> None:
    (target / "images").mkdir()
    (target / "images" / "mine.jpg").write_bytes(b"mine")
    unpack(write_archive(tmp_path / "a.zip", FILES), ENTRIES, target)
    assert tree(target) == {"images/mine.jpg": b"mine", "lists/train.txt": b"x"}


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "images/../../evil",
        "/tmp/evil",
        "C:\\evil",
        "images\\..\\..\\evil",
        "\\\\host\\x",
    ],
)
def test_a_path_that_leads_out_is_refused(tmp_path, target, suffix, name) -> None:
    archive = write_archive(tmp_path / f"a{suffix}", {**FILES, name: b"evil"})
    before = set(tmp_path.rglob("*"))
    with pytest.raises(RequestError, match="leads out of the folder"):
        unpack(archive, ENTRIES, target)
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("kind", "link"),
    [
        (tarfile.SYMTYPE, "/etc/passwd"),
        (tarfile.SYMTYPE, "../../outside"),
        (tarfile.SYMTYPE, "a b.jpg"),
        (tarfile.LNKTYPE, "../outside"),
        (tarfile.FIFOTYPE, ""),
        (tarfile.CHRTYPE, ""),
    ],
)
def test_links_and_devices_are_refused(tmp_path, target, kind, link) -> None:
    archive = write_archive(tmp_path / "a.tar", FILES)
    info = tarfile.TarInfo("images/link")
    info.type, info.linkname = kind, link
    with tarfile.open(archive, "a") as tar:
        tar.addfile(info)
    with pytest.raises(RequestError, match="'images/link' is a link or a device"):
        unpack(archive, ENTRIES, target)
    assert list(target.iterdir()) == []


def test_a_link_in_a_zip_is_refused(tmp_path, target) -> None:
    archive = write_archive(tmp_path / "a.zip", FILES)
    info = zipfile.ZipInfo("images/link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archive, "a") as zipped:
        zipped.writestr(info, "/etc/passwd")
    with pytest.raises(RequestError, match="is a link or a device"):
        unpack(archive, ENTRIES, target)
    assert list(target.iterdir()) == []


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tgz"])
def test_what_does_not_fit_is_not_begun(tmp_path, target, monkeypatch, suffix) -> None:
    archive = write_archive(tmp_path / f"a{suffix}", {"images/zeros": b"\0" * 3_000_000})
    usage = shutil._ntuple_diskusage(10**9, 10**9 - 2_000_000, 2_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(RequestError, match=r"unpacked, needs 3\.0 MB .* and 2\.0 MB are free"):
        unpack(archive, ["images"], target)
    assert list(target.iterdir()) == []


def interrupt(monkeypatch, error: BaseException, after: int = 1) -> None:
    """Let opening the file after so many fail."""
    open_file, opened = Path.open, []

    def failing(path: Path, mode: str = "r", *args, **options):
        if mode == "xb":
            opened.append(path)
            if len(opened) > after:
                raise error
        return open_file(path, mode, *args, **options)

    monkeypatch.setattr(Path, "open", failing)


@pytest.mark.parametrize(
    ("error", "raised", "text"),
    [
        (OSError(errno.ENOSPC, "No space"), RunError, "is full. Free some space"),
        (OSError(errno.EACCES, "Permission denied"), RequestError, "Permission denied"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
)
def test_nothing_is_left_of_what_could_not_be_finished(
    tmp_path, target, monkeypatch, error, raised, text
) -> None:
    archive = write_archive(tmp_path / "a.tgz", FILES)
    with monkeypatch.context() as patched:
        interrupt(patched, error)
        with pytest.raises(raised, match=text):
            unpack(archive, ENTRIES, target)
    assert list(target.iterdir()) == []
    unpack(archive, ENTRIES, target)
    assert tree(target) == FILES


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tgz"])
def test_an_archive_that_is_cut_anywhere_is_refused(tmp_path, target, suffix, seed) -> None:
    noise = {f"images/{number}.jpg": random.Random(number).randbytes(1000) for number in range(5)}
    whole = write_archive(tmp_path / f"a{suffix}", FILES | noise).read_bytes()
    # The end of a tar is padded with many zeros; a cut among them loses nothing.
    content = len(whole.rstrip(b"\0"))
    cuts = {0, 1, 512, 1024, *random.Random(seed).sample(range(content), 20)}
    cuts |= {cut // 512 * 512 for cut in cuts}  # where a tar's next file begins
    for cut in cuts:
        (tmp_path / f"a{suffix}").write_bytes(whole[:cut])
        with pytest.raises(RequestError, match="cannot be unpacked"):
            unpack(tmp_path / f"a{suffix}", ENTRIES, target)
        assert list(target.iterdir()) == []


def test_damage_inside_a_zip_is_found(tmp_path, target) -> None:
    archive = write_archive(tmp_path / "a.zip", FILES)
    content = bytearray(archive.read_bytes())
    content[60] ^= 255
    archive.write_bytes(content)
    with pytest.raises(RequestError, match="cannot be unpacked"):
        unpack(archive, ENTRIES, target)
    assert list(target.iterdir()) == []


def test_an_archive_of_something_else_is_told_apart(tmp_path, target) -> None:
    archive = write_archive(tmp_path / "a.zip", {"holiday/photo.jpg": b""})
    with pytest.raises(RequestError, match=r"holds no images, lists/train\.txt, but holiday"):
        unpack(archive, ENTRIES, target)
    assert list(target.iterdir()) == []


def test_a_kill_while_the_entries_are_moved_is_finished_by_the_next_run(
    tmp_path, target, monkeypatch
) -> None:
    archive = write_archive(tmp_path / "a.zip", FILES)
    rename = Path.rename

    def killed(path: Path, to: Path) -> Path:
        if "train.txt" in str(to):
            raise SystemExit
        return rename(path, to)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", killed)
        with pytest.raises(SystemExit):
            unpack(archive, ENTRIES, target)
    assert not (target / "lists" / "train.txt").exists()
    assert unpacking.pending(archive, target)
    settle(archive, ENTRIES, target)
    assert tree(target) == FILES
    assert {path.name for path in target.iterdir()} == {"images", "lists"}


def test_a_kill_in_the_middle_leaves_no_data_and_the_next_run_makes_it_whole(
    tmp_path, target
) -> None:
    files = {f"images/{number:03d}.jpg": bytes([number]) * 20_000 for number in range(200)}
    archive = write_archive(tmp_path / "a.tar", files)
    script = (
        "import sys, time; from pathlib import Path\n"
        "from danet_lightning.prepare import unpacking\n"
        "mkdir = Path.mkdir\n"
        "def slow(*args, **options): time.sleep(0.02); mkdir(*args, **options)\n"
        "Path.mkdir = slow\n"
        "unpacking.unpack(Path(sys.argv[1]), ['images'], Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", script, str(archive), str(target)]
    part = target / ".a.tar.part" / "images"
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 60
        while not (part / "010.jpg").exists() and time.monotonic() < until:
            time.sleep(0.005)
        process.kill()
    assert 10 < len(list(part.iterdir())) < 200
    assert not (target / "images").exists()
    unpack(archive, ["images"], target)
    assert tree(target) == files
