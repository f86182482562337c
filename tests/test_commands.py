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
        exec(os.environ["DO"], globals())
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


def test_what_a_command_starts_itself_is_a_process_of_its_own(
    check: list[str], tmp_path: Path
) -> None:
    """Its end is told, a signal reaches it, and none outlives the process that stands for it."""
    (tmp_path / "other.py").write_text(
        "import os, signal, sys, time\n"
        "print(__name__, sys.argv[1], os.getpid(), os.getpgid(0), flush=True)\n"
        "if sys.argv[1] == 'ends': sys.exit(7)\n"
        "if sys.argv[1] == 'dies': os.kill(os.getpid(), 9)\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))\n"
        "open(sys.argv[1], 'w').close()\n"
        "time.sleep(60)\n"
    )
    deed = (
        "import signal, subprocess\n"
        "def begin(what): return subprocess.Popen([sys.executable, '-u', '-m', 'other', what])\n"
        "print([begin(what).wait() for what in ('ends', 'dies')], os.getpgid(0))\n"
        "for what, number in (('told', signal.SIGTERM), ('killed', signal.SIGKILL)):\n"
        "    other = begin(what)\n"
        "    while not os.path.exists(what): time.sleep(0.01)\n"
        "    other.send_signal(number)\n"
        "    print(other.wait(), flush=True)\n"
        "print(subprocess.run([sys.executable, '-c', 'print(3 + 4)']).returncode)\n"
    )
    done = danet(*check, cwd=tmp_path, DO=deed, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    others = {words[1]: words for words in lines if words[0] == "__main__"}
    assert [others[what][0] for what in ("ends", "dies", "told", "killed")] == ["__main__"] * 4
    rest = [words for words in lines if words[0] != "__main__"]
    assert rest[0][:2] == ["[7,", "-9]"]
    assert len({rest[0][2], *(words[3] for words in others.values())}) == 1  # one process group
    assert rest[1:] == [["9"], ["-9"], ["7"], ["0"]]
    until = time.monotonic() + 30
    while Path("/proc", others["killed"][2], "exe").exists() and time.monotonic() < until:
        time.sleep(0.01)
    assert not Path("/proc", others["killed"][2], "exe").exists()
