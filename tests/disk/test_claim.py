"""Who is at work in a place: one process, until it ends, however it ends."""

import errno
import json
import os
import signal
import time
from pathlib import Path

import pytest
from holding import hold, other

from danet_lightning.disk import claim
from danet_lightning.disk.claim import HeldError, claimed

LOCKS = pytest.mark.parametrize("locks", [True, False], ids=["locks", "no locks"])


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "SETTLING", 0.2)


def choose(locks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without locks: as NFS without its lock service, Lustre and some FUSE answer."""

    def lockf(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    if not locks:
        monkeypatch.setattr(claim.fcntl, "lockf", lockf)


@LOCKS
def test_a_second_process_is_told_who_is_there_and_gets_it_when_that_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locks: bool
) -> None:
    choose(locks, monkeypatch)
    path = tmp_path / "claim"
    with other(hold(path)) as pid:
        before = path.read_bytes()
        with pytest.raises(HeldError, match=rf"`.*`, process {pid} on .*, user .*, since 20"):
            claimed(path, patience=0).__enter__()
        assert path.read_bytes() == before
    with claimed(path, patience=0):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_second_claim_of_one_process_leaves_the_first_one_alone(tmp_path: Path) -> None:
    path = tmp_path / "claim"
    first = claimed(path, patience=0)

    def twice() -> None:
        first.__enter__()
        with claimed(path, patience=0):
            pass

    with other(twice), pytest.raises(HeldError):
        claimed(path, patience=0).__enter__()


def test_a_forked_worker_that_outlives_its_process_holds_nothing(tmp_path: Path) -> None:
    path, reading_writing = tmp_path / "claim", os.pipe()

    def with_a_worker() -> None:
        hold(path)()
        if (worker := os.fork()) == 0:
            time.sleep(600)
        os.write(reading_writing[1], f"{worker}\n".encode())

    with other(with_a_worker):
        worker = int(os.read(reading_writing[0], 20))
    try:
        with claimed(path, patience=0):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)


@LOCKS
def test_of_many_that_take_over_at_once_one_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locks: bool
) -> None:
    choose(locks, monkeypatch)
    path = tmp_path / "claim"
    with other(hold(path)):
        pass
    children, (reading, writing) = [], os.pipe()
    for _ in range(8):
        if (pid := os.fork()) == 0:
            try:
                with claimed(path, patience=0):
                    os.write(writing, b"1")
                    time.sleep(600)  # until all have asked, and it is killed
            except HeldError:
                os.write(writing, b"0")
            os._exit(0)
        children.append(pid)
    told = b""
    while len(told) < len(children):
        told += os.read(reading, 8)
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert sorted(told) == sorted(b"00000001")


def test_without_locks_another_host_is_believed_to_be_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(False, monkeypatch)
    path = tmp_path / "claim"
    with other(hold(path)):
        pass
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, "host": "elsewhere"}))
    with pytest.raises(HeldError, match=r"on elsewhere.*has ended there, remove /.*claim"):
        claimed(path, patience=0).__enter__()
    monkeypatch.setenv("SLURM_JOB_ID", "7")  # but not by the start that SLURM has taken its place
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    path.write_text(json.dumps({**facts, "host": "elsewhere", "slurm": ["7", 0]}))
    with claimed(path, patience=0):
        pass


def test_without_locks_a_number_that_is_another_process_now_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(False, monkeypatch)
    path = tmp_path / "claim"
    with other(hold(path)):
        pass
    path.write_text(json.dumps({**json.loads(path.read_text()), "pid": os.getppid()}))
    with claimed(path, patience=0):
        pass


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"pid": "x"}', b"\xff"])
def test_a_file_that_says_nothing_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    path = tmp_path / "claim"
    path.write_bytes(content)
    with claimed(path, patience=0):
        pass
    path.write_bytes(content)
    choose(False, monkeypatch)
    with pytest.raises(HeldError, match=r"another process .if there is none, remove /"):
        claimed(path, patience=0).__enter__()


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become somebody else")
def test_the_claim_of_another_user(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    for folder in tmp_path.parents[:3]:
        folder.chmod(0o755)
    path = tmp_path / "claim"

    def as_somebody_else() -> int:
        if (pid := os.fork()) == 0:
            code = 4
            try:
                os.setuid(12345)
                claimed(path, patience=0.3).__enter__()
                code = 0
            except HeldError as error:
                code = 1 if "since" in str(error) else 3
            finally:
                os._exit(code)  # whatever happened, or the tests would go on as somebody else
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    with other(hold(path)):
        assert as_somebody_else() == 1
    assert as_somebody_else() == 0
