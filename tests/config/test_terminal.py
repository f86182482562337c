"""Output in any encoding, to nobody, and to a full disk."""

import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tqdm import tqdm
from trainings import QUICK

from danet_lightning.config.terminal import LastingFile, Terminal, protect_log

SAY = """
import sys
from pathlib import Path
from danet_lightning.config.terminal import protect_output
protect_output()
for number in range(20000):
    print("фон", "\\udcff", number)
print("дорога", file=sys.stderr)
kept = open(sys.argv[1], "w")  # must not become what is printed to
print("end")
kept.write("whole" if kept.fileno() > 2 else "mixed up")
"""


def say(
    tmp_path: Path, redirection: str, **environment: str
) -> "subprocess.CompletedProcess[bytes]":
    """Run it in a shell; the file says whether it went through."""
    (tmp_path / "say.py").write_text(SAY, encoding="utf-8")
    command = f"set -o pipefail; '{sys.executable}' say.py kept {redirection}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env=os.environ | environment, capture_output=True
    )
    assert (tmp_path / "kept").read_text() == "whole", done.stderr
    assert b"Traceback" not in done.stderr
    return done


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "ascii", "utf-8", "latin-1:strict"])
def test_what_an_encoding_lacks_is_escaped(tmp_path: Path, encoding: str) -> None:
    done = say(tmp_path, "", PYTHONIOENCODING=encoding)
    shown = "фон".encode() if encoding == "utf-8" else rb"\u0444\u043e\u043d"
    assert done.stdout.startswith(shown + rb" \udcff 0")
    assert done.returncode == 0


def test_the_posix_locale(tmp_path: Path) -> None:
    done = say(tmp_path, "", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert done.stdout.startswith(rb"\u0444\u043e\u043d")


@pytest.mark.parametrize("redirection", [">&-", ">&- 2>&-", "<&- >&- 2>&-", "2>&1 | head -1"])
def test_nobody_listens(tmp_path: Path, redirection: str) -> None:
    assert say(tmp_path, redirection).returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is always full")
def test_a_full_disk_is_told_of_and_outlasted(tmp_path: Path) -> None:
    done = say(tmp_path, "> /dev/full")
    assert done.returncode == 0
    assert done.stderr.count(b"stdout: No space left on device") == 1


def test_a_pipe_without_a_reader(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with LastingFile(writer, "w") as file:
        assert file.write(b"four") == 4


def test_the_log_has_what_the_terminal_said(tmp_path: Path) -> None:
    """Each whole line once, without bars that are drawn over and over, and not what it logs
    itself again.
    """
    log = tmp_path / "run.log"
    root, before = logging.getLogger(), logging.getLogger().handlers
    with (tmp_path / "terminal").open("wb") as file:
        terminal = Terminal(io.BufferedWriter(file.raw), "stdout", "utf-8", line_buffering=True)
        root.handlers = [logging.FileHandler(log), logging.StreamHandler(terminal)]
        try:
            protect_log()
            root.warning("a warning")
            print("mIoU", 0.5, "дорога", file=terminal)
            with tqdm(range(3), file=terminal, mininterval=0, desc="train") as bar:
                for epoch in bar:
                    bar.write(f"epoch {epoch}", file=terminal)
                    for _ in tqdm(range(2), file=terminal, mininterval=0, leave=False, position=1):
                        pass
            print("no end of a line", file=terminal, end="")
        finally:
            for handler in root.handlers[:1]:
                handler.close()
            root.handlers = before
    shown = (tmp_path / "terminal").read_text("utf-8")
    assert shown.count("a warning\n") == shown.count("mIoU 0.5 дорога\n") == 1
    assert "100%|" in shown
    lines = ["a warning", "mIoU 0.5 дорога", "epoch 0", "epoch 1", "epoch 2"]
    assert log.read_text("utf-8").splitlines() == lines


@pytest.mark.slow
def test_a_notebooks_backend_and_the_posix_locale(tmp_path: Path) -> None:
    """Both are read when Python starts: a fresh interpreter."""
    for split, count in {"train": 4, "val": 2}.items():
        for kind, shape in {"images": (32, 64, 3), "masks": (32, 64)}.items():
            (tmp_path / "data" / split / kind).mkdir(parents=True)
            for index in range(count):
                pixels = np.random.default_rng([index, count]).integers(0, 2, shape, np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / split / kind / f"{index}.png")
    foreign = {
        "MPLBACKEND": "module://matplotlib_inline.backend_inline", "LC_ALL": "C",
        "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0",
    }  # fmt: skip
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "streets.yaml").write_text(
        "# @package dataset\nclasses: [фон, дорога, редкий]\n", encoding="utf-8"
    )
    result = subprocess.run(
        [
            sys.executable, "-m", "danet_lightning.train", "--config-dir", ".", *QUICK[:-1],
            "dataset=folder", "+own=streets", "dataset.root=data", "augmentation.crop_size=[32,64]",
            "trainer.max_epochs=1", "logger=csv", "run_dir=run",
        ],
        cwd=tmp_path, env=os.environ | foreign, capture_output=True, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert rb"\u0444\u043e\u043d " in result.stdout
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert list(results["class_iou"]) == ["фон", "дорога", "редкий"]
    with Image.open(tmp_path / "run" / "curves.png") as picture:
        assert min(picture.size) > 100
