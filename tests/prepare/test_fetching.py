"""A download is whole and the published file, or not there, whatever server and machine do."""

import errno
import hashlib
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_server import FakeServer, serving

from danet_lightning.errors import RequestError, RunError
from danet_lightning.prepare import fetching
from danet_lightning.prepare.fetching import fetch, verify

NAME = "photos of Köln.tar"


@pytest.fixture
def host(monkeypatch):
    monkeypatch.setattr(fetching, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(fetching, "TIMEOUT", 5)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as server:
        yield server


@pytest.fixture
def body(host: FakeServer, seed: int) -> bytes:
    host.files["a.tar"] = random.Random(seed).randbytes(3_000_001)
    return host.files["a.tar"]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "my archives").mkdir()
    return tmp_path / "my archives" / NAME


def get(host: FakeServer, target: Path, checksum: str | None = None) -> None:
    fetch([f"{host.url}/a.tar"], target, checksum)


def is_whole(target: Path, body: bytes) -> bool:
    """The file with its record, and nothing else."""
    names = {path.name for path in target.parent.iterdir()}
    return target.read_bytes() == body and names == {NAME, f"{NAME}.sha256"}


def test_the_file_comes_with_the_record_of_what_was_seen(host, body, target) -> None:
    get(host, target)
    assert is_whole(target, body)
    seen = hashlib.sha256(body).hexdigest()
    assert (target.parent / f"{NAME}.sha256").read_text() == f"{seen}  {NAME}\n"
    verify(target, None)
    target.write_bytes(body[:-1])
    with pytest.raises(RequestError, match=f"and the published file has {seen}"):
        verify(target, None)


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256"])
def test_a_published_checksum_is_compared(host, body, target, algorithm) -> None:
    get(host, target, f"{algorithm}:{hashlib.new(algorithm, body).hexdigest()}")
    assert is_whole(target, body)
    with pytest.raises(RequestError, match=f"has the {algorithm}"):
        verify(target, f"{algorithm}:{'0' * 32}")


def test_after_a_cut_only_the_rest_is_asked_for(host, body, target) -> None:
    host.faults = [{"cut"}]
    get(host, target)
    assert is_whole(target, body)
    assert [wanted for _, wanted in host.requests] == ["", "bytes=1500001-"]


def test_a_server_that_always_cuts_is_worn_down_while_it_serves_something(
    host, body, target
) -> None:
    host.always = {"cut"}
    get(host, target)
    assert is_whole(target, body)
    assert len(host.requests) > fetching.ATTEMPTS


def test_a_server_that_always_cuts_and_cannot_resume_is_given_up(host, body, target) -> None:
    host.always = {"cut", "no range"}
    with pytest.raises(RequestError, match="broke off at 1500001 of 3000001 bytes") as raised:
        get(host, target)
    assert not target.exists()
    assert f"{host.url}/a.tar" in str(raised.value)
    assert str(target.parent) in str(raised.value)
    host.always = set()
    get(host, target)
    assert is_whole(target, body)


def test_a_server_without_ranges_starts_anew(host, body, target) -> None:
    host.faults = [{"cut", "no range"}, {"no range"}]
    get(host, target)
    assert is_whole(target, body)


def test_an_archive_that_is_made_while_it_is_sent_has_no_length(host, body, target) -> None:
    """As a repository's."""
    host.faults, host.always = [{"chunked", "cut"}], {"chunked"}
    get(host, target)
    assert is_whole(target, body)
    assert len(host.requests) == 2


@pytest.mark.parametrize("faults", [set(), {"no if-range"}])
@pytest.mark.parametrize("size", [3_000_001, 4_000_000, 1_500_001, 70_000])
def test_a_file_that_changes_in_between_is_not_mixed(
    host, body, target, monkeypatch, faults, size
) -> None:
    after = random.Random(1).randbytes(size)

    def change(_: float) -> None:
        host.files["a.tar"], host.versions["a.tar"] = after, "2"

    monkeypatch.setattr(fetching.time, "sleep", change)
    host.faults, host.always = [{"cut"}], faults
    get(host, target)
    assert is_whole(target, after)


def test_another_file_than_the_published_one_is_thrown_away(host, body, target) -> None:
    right = f"md5:{hashlib.md5(body).hexdigest()}"
    host.files["a.tar"] = body[::-1]
    with pytest.raises(RequestError, match="damaged, or another release"):
        get(host, target, right)
    assert list(target.parent.iterdir()) == []
    host.files["a.tar"] = body
    get(host, target, right)
    assert is_whole(target, body)


@pytest.mark.parametrize(("fault", "told"), [(404, "404"), (403, "403"), ("html", "web page")])
def test_what_will_not_change_is_told_at_once_and_the_next_address_tried(
    host, body, target, fault, told
) -> None:
    host.faults = [{fault}]
    with pytest.raises(RequestError, match=told):
        get(host, target)
    assert len(host.requests) == 1
    host.faults = [{fault}]
    fetch([f"{host.url}/elsewhere.tar", f"{host.url}/a.tar"], target, None)
    assert is_whole(target, body)


def test_a_busy_server_is_asked_again(host, body, target, monkeypatch, capsys) -> None:
    slept = []
    monkeypatch.setattr(fetching.time, "sleep", slept.append)
    host.faults, host.retry_after = [{503}, {503}], "7"
    get(host, target)
    assert is_whole(target, body)
    assert slept == [7, 7]
    assert "503" in capsys.readouterr().err


def test_without_a_network_it_says_so(monkeypatch, target) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(fetching.time, "sleep", lambda _: None)
    with pytest.raises(RequestError, match=r"no connection .*refused"):
        fetch(["http://127.0.0.1:1/a.tar"], target, None)
    assert list(target.parent.iterdir()) == []


def test_a_complete_part_is_not_fetched_again(host, body, target, monkeypatch) -> None:
    """As after a kill while it was verified."""
    monkeypatch.setattr(fetching, "_accept", lambda *_: None)
    get(host, target)
    monkeypatch.undo()
    get(host, target)
    assert is_whole(target, body)
    assert [wanted for _, wanted in host.requests] == ["", "bytes=3000001-"]


def test_what_does_not_fit_is_not_begun(host, body, target, monkeypatch) -> None:
    usage = shutil._ntuple_diskusage(10**9, 10**9 - 2_000_000, 2_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(RequestError, match=r"needs 3\.0 MB in .*, and 2\.0 MB are free"):
        get(host, target)
    assert not target.exists()


def test_a_disk_that_becomes_full_is_told_and_the_rest_comes_later(
    host, body, target, monkeypatch
) -> None:
    open_file, room = Path.open, [2_000_000]

    def open_on_a_full_disk(path: Path, mode: str = "r", *args, **options):
        file = open_file(path, mode, *args, **options)
        if "a" not in mode:
            return file

        class Full:
            def __enter__(self):
                return self

            def __exit__(self, *_):
                file.close()

            def write(self, chunk: bytes) -> int:
                room[0] -= len(chunk)
                if room[0] < 0:
                    raise OSError(errno.ENOSPC, "No space left on device")
                return file.write(chunk)

        return Full()

    monkeypatch.setattr(Path, "open", open_on_a_full_disk)
    with pytest.raises(RunError, match=r"is full\. Free some space"):
        get(host, target)
    assert not target.exists()
    monkeypatch.undo()
    get(host, target)
    assert is_whole(target, body)
    assert host.requests[-1][1].startswith("bytes=")


def test_a_kill_in_the_middle_costs_nothing_but_the_rest(host, body, target) -> None:
    host.always = {"slow"}
    script = "import sys; from pathlib import Path\n"
    script += "from danet_lightning.prepare.fetching import fetch\n"
    script += "fetch([sys.argv[1]], Path(sys.argv[2]), None)"
    command = [sys.executable, "-c", script, f"{host.url}/a.tar", str(target)]
    part = target.with_name(f"{NAME}.part")
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 60
        while not (part.exists() and part.stat().st_size) and time.monotonic() < until:
            time.sleep(0.005)
        process.kill()
    assert 0 < part.stat().st_size < len(body)
    assert not target.exists()
    host.always = set()
    get(host, target)
    assert is_whole(target, body)
    assert host.requests[-1][1].startswith("bytes=")
