from pathlib import Path

import numpy as np
import pytest
from attending import CLASSES, image, segmenter
from commands import danet
from omegaconf import OmegaConf
from PIL import Image
from trainings import TRUSTED

from danet_lightning.attention import run as command
from danet_lightning.errors import RequestError
from danet_lightning.models import dilated_resnet

SUFFIXES = (".html", "_attention.pdf", "_attention.png", "_branches.pdf", "_branches.png")


def relative(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))


def look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **options: object) -> None:
    """Run the command with the small network for a checkpoint."""
    content = {"danet_lightning": {"config": {}, "classes": list(CLASSES)}}
    pam = bool(options.pop("pam", True))
    monkeypatch.setattr("danet_lightning.checkpoints.loading.read", lambda _: content)
    monkeypatch.setattr(
        "danet_lightning.checkpoints.loading.segmenter",
        lambda *_: segmenter(pam=pam, cam=pam),
    )
    request = {
        "ckpt_path": "best.ckpt", "input": str(tmp_path / "in"), "output": str(tmp_path / "out"),
        "dataset": {}, "count": None, "points": None, "channels": None, "max_side": 2048,
        "page_megabytes": 24, "device": "cpu", "trusted": [],
    }  # fmt: skip
    command.attention(OmegaConf.create(request | options), tmp_path)


def draw(path: Path, **size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image(**size)).save(path)


def test_a_trained_checkpoint_and_a_split(undisturbed: Path, tmp_path: Path) -> None:
    done = danet(
        "attention", f"ckpt_path={undisturbed}/best.ckpt", TRUSTED, "dataset=scenes",
        "dataset.val_images=3", "count=1", "device=cpu", "points=[[0,0],[31,63]]", "channels=[3]",
        "dataset.size=[32,64]", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1 of 3 images looked at, see attention\n"
    assert relative(tmp_path) == [f"attention/val_00000{suffix}" for suffix in SUFFIXES]
    page = (tmp_path / "attention" / "val_00000.html").read_text()
    assert "64 × 32 pixels" in page
    assert "<option>label</option>" in page
    assert "glyph" not in done.stderr


def test_images_that_cannot_be_read_are_named_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path / "in" / "sub" / "b.png")
    (tmp_path / "in" / "a.png").touch()
    with pytest.raises(SystemExit) as ended:
        look(tmp_path, monkeypatch)
    assert ended.value.code == 1
    said = capsys.readouterr()
    assert "1 of 2 images looked at" in said.out
    assert "a.png cannot be read as an image" in said.err
    assert relative(tmp_path / "out") == [f"sub/b{suffix}" for suffix in SUFFIXES]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"points": [[1, 1], [64, 0]]},
            r"points: \[64,0\] lies outside of a\.png, which is 96 pix",
        ),
        ({"points": [[0, 96]]}, r"Give \[y,x\], from \[0,0\] to \[63,95\]"),
        (
            {"channels": [16]},
            r"channels: 16; branches\.channel\.attention has .* 0 to 15\.",
        ),
        ({"pam": False}, r"no attention to look at"),
        ({"input": "nowhere.jpg"}, "no such file or folder"),
        ({"device": "gpu"}, "device=gpu cannot be used"),
    ],
)
def test_wrong_requests(
    options: dict[str, object], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "in" / "a.png")
    with pytest.raises(RequestError, match=told):
        look(tmp_path, monkeypatch, **options)
    assert not (tmp_path / "out" / "a.html").exists()


def test_images_of_one_pixel_and_of_48_million(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By a network without position attention, whose class names are markup and commands."""
    draw(tmp_path / "in" / "one.png", height=1, width=1)
    Image.new("L", (8000, 6000), 90).save(tmp_path / "in" / "large.png")
    names = ("<script>alert(1)</script>", "\x1b[31m\x07$x_$", "路 & tree")
    net = segmenter(names, dilated_resnet("resnet18"), pam=False)
    monkeypatch.setattr(f"{__name__}.segmenter", lambda **_: net)
    look(tmp_path, monkeypatch, max_side=64)
    assert "2 of 2 images looked at" in capsys.readouterr().out
    assert relative(tmp_path / "out") == [f"{n}{s}" for n in ("large", "one") for s in SUFFIXES]
    for name, told in (("one", "1 × 1 pixels"), ("large", "(reduced from 8000 × 6000, max_side)")):
        page = (tmp_path / "out" / f"{name}.html").read_text()
        assert told in " ".join(page.split())
        assert "This network has no map of position attention." in page
        assert "<script>alert" not in page
        assert not {"\x1b", "\x07"} & set(page)


def test_a_large_image_is_reduced_and_the_page_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "in" / "a.png", height=640, width=960)
    look(tmp_path, monkeypatch, max_side=96, points=[[639, 959]])
    page = (tmp_path / "out" / "a.html").read_text()
    assert "96 × 64 pixels (reduced from 960 × 640, max_side)" in " ".join(page.split())
    with Image.open(tmp_path / "out" / "a_attention.png") as figure:
        assert np.asarray(figure.convert("RGB")).std() > 10


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["input=a.jpg", "dataset=scenes"], "input: give either your images or dataset="),
        (["input=a.jpg", "points=[[1,-1]]"], "points: [[1, -1]]: entry 0 entry 1 must be greater"),
        (["input=a.jpg", "points=[1,2]"], "points: [1, 2]: entry 0 must be"),
        (["input=a.jpg", "channels=4"], "channels: 4: must be"),
        (["input=a.jpg", "max_side=0"], "max_side: 0: must be greater than 0"),
    ],
)
def test_wrong_values_are_refused_before_anything_is_loaded(
    arguments: list[str], told: str, tmp_path: Path
) -> None:
    (tmp_path / "best.ckpt").touch()
    done = danet("attention", "ckpt_path=best.ckpt", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
