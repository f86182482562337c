"""The helper that runs our commands tells what a shell would."""

import signal
import subprocess
import time
from pathlib import Path

import pytest
from commands import danet, start

MINE = """
import os, sys, time, warnings
from danet_lightning.data.scenes import Scenes
class Mine(Scenes):
    def pairs(self, split):
        exec(os.environ["DO"])
        sys.exit(0)
"""


@pytest.fixture
def check(tmp_path: Path) -> list[str]:
    """A `check` that does what the variable DO says."""
    (tmp_path / "mine.py").write_text(MINE)
    return ["check", "dataset=scenes", "dataset._target_=mine.Mine", "workers=1", "run_dir=r"]


@pytest.mark.parametrize(
    ("deed", "code", "said"),
    [
        ("print('fine')", 0, ""),
        ("sys.exit(7)", 7, ""),
        ("sys.exit('no more')", 1, "no more\n"),
        ("1 // 0", 1, "ZeroDivisionError: integer division or modulo by zero\n"),
        ("warnings.warn('odd')", 1, "UserWarning: odd\n"),
        ("os.kill(os.getpid(), 9)", -9, ""),
    ],
)
def test_an_end_is_told_as_by_subprocess(
    check: list[str], tmp_path: Path, deed: str, code: int, said: str
) -> None:
    done = danet(*check, cwd=tmp_path, DO=deed)
    assert done.returncode == code, done.stderr
    assert done.stderr.endswith(said)


def test_a_wrong_request_ends_with_2(tmp_path: Path) -> None:
    refused = danet("check", "datset=scenes", cwd=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("datset: unknown key; did you mean dataset?")


def test_a_command_sees_its_own_environment(
    check: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import __main__

    deed = (
        "import __main__, tempfile; print([os.environ.get(name) for name in ('OURS', 'OWN')],"
        "__main__.__spec__.name, os.getcwd(), tempfile.gettempdir())"
    )
    monkeypatch.setenv("OURS", "1")
    first = danet(*check, cwd=tmp_path, DO=deed, OWN="2", TMPDIR=str(tmp_path))
    monkeypatch.delenv("OURS")
    second = danet(*check, cwd=tmp_path, DO=deed, TMPDIR=str(tmp_path))
    shared = f"danet_lightning.check {tmp_path} {tmp_path}\n"
    assert (first.stdout, second.stdout) == (f"['1', '2'] {shared}", f"[None, None] {shared}")
    assert __main__.__name__ != "danet_lightning.check"


def test_a_signal_and_a_time_limit(check: list[str], tmp_path: Path) -> None:
    deed = "open('here', 'w').close(); time.sleep(60)"
    with start(*check, cwd=tmp_path, DO=deed) as running:
        until = time.monotonic() + 60
        while not (tmp_path / "here").exists() and running.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.01)
        assert running.poll() is None
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=30).returncode == 130
    with pytest.raises(subprocess.TimeoutExpired):
        danet(*check, cwd=tmp_path, timeout=3, DO=deed)
