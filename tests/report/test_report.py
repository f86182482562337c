"""The report as a user asks for it: one page that asks for nothing, a table, a text."""

import base64
import csv
import json
import re
import shutil
import time
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from browser import browser, opened
from commands import danet
from omegaconf import OmegaConf
from playwright.sync_api import Browser
from trainings import TRUSTED
from written_runs import write_run

from danet_lightning.errors import RequestError
from danet_lightning.report.run import report

__all__ = ["browser"]  # a fixture

HOSTILE = (
    "<script>alert(1)</script>",
    "a|b`c$x_1$",
    "\x1b[31mred\x00",
    "Straße & 路",
    '"x" onload="y',
)


class Page(HTMLParser):
    """Elements of a page, the addresses of its pictures, and all of its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.names: set[str] = set()
        self.pictures: list[str] = []
        self.texts: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.names |= {name for name, _ in attrs}
        self.pictures += [str(value) for name, value in attrs if name == "src"]

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())

    def svgs(self) -> list[str]:
        """The SVGs among its pictures, which have to be well formed."""
        begin = "data:image/svg+xml;base64,"
        found = [each.removeprefix(begin) for each in self.pictures if each.startswith(begin)]
        texts = [base64.b64decode(each).decode() for each in found]
        for text in texts:
            ET.fromstring(text)
        return texts


def reported(runs: Any, output: Path, **options: Any) -> Page:
    given = {"runs": [str(each) for each in runs], "output": str(output), "baseline": None}
    given |= {"wandb": None, "images": 0, "device": "cpu", "trusted": [], "ignore": [], **options}
    report(OmegaConf.create(given), output)
    return Page(output / "report.html")


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """Two groups of two seeds, whose classes have names that would be markup."""
    for number, (pam, seed) in enumerate([(True, 0), (True, 1), (False, 0), (False, 1)]):
        write_run(
            tmp_path / "s" / str(number), 0.4 + number / 10, HOSTILE, model__pam=pam, seed=seed
        )
    return tmp_path / "s"


def test_names_are_text_and_nothing_is_asked_for(pair: Path, tmp_path: Path) -> None:
    page = reported([pair], tmp_path / "out")
    assert page.elements.count("script") == 1  # ours
    assert not {"link", "iframe", "object", "svg"} & set(page.elements)
    assert not {name for name in page.names if name.startswith("on")}
    assert page.pictures
    assert all(each.startswith("data:image/") for each in page.pictures)
    assert "<script>alert(1)</script>" in page.texts
    assert "Straße & 路" in page.texts
    assert "\ufffd[31mred\ufffd" in page.texts
    svgs = page.svgs()
    assert len(svgs) == 5  # scores, curves, differences, two matrices
    assert not any("<script" in svg or re.search(r'(href|src)="(?!#|data:)', svg) for svg in svgs)
    for name in ("report.html", "report.md"):
        assert "\x1b" not in (tmp_path / "out" / name).read_text(encoding="utf-8")
    assert "<script" not in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")


def test_the_numbers_are_those_of_the_runs(pair: Path, tmp_path: Path, capsys: Any) -> None:
    write_run(pair / "4", None, HOSTILE, model__pam=False, seed=2)
    page = reported([pair], tmp_path / "out", baseline=str(pair / "2"))
    assert "0.4500 ± 0.0707" in page.texts  # of 0.4 and 0.5
    assert "-0.2000 ± 0.0000 (2 seeds)" in page.texts
    assert "model.pam=false (baseline)" in page.texts
    assert "2 of 3" in page.texts
    assert any("5 runs (4 finished, 1 stopped) in 2 groups." in text for text in page.texts)
    with (tmp_path / "out" / "report.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["miou"] for row in rows] == ["0.4", "0.5", "0.6000000000000001", "0.7", ""]
    assert [row["config/model.pam"] for row in rows] == ["true"] * 2 + ["false"] * 3
    assert rows[0][f"iou/{HOSTILE[0]}"] == "0.4"
    told = capsys.readouterr().out
    assert "model.pam=true   0.4500  0.0707" in told
    assert "report.html" in told


def test_no_cell_is_a_formula_or_commands_a_terminal(tmp_path: Path) -> None:
    names = ("=1+1", "a\x1b[31m\x07b")
    write_run(tmp_path / "s" / "+a", 0.5, names, model__note="@sum(1)", optimizer__lr=-1)
    write_run(tmp_path / "s" / "b", 0.6, names, model__note="-x\x07", optimizer__lr=-2)
    reported([tmp_path / "s"], tmp_path / "out")
    text = (tmp_path / "out" / "report.csv").read_text()
    assert not {"\x1b", "\x07"} & set(text)
    one, other = csv.DictReader(text.splitlines())
    assert (one["config/model.note"], other["config/model.note"]) == ("'@sum(1)", "'-x\ufffd")
    assert (one["config/optimizer.lr"], one["iou/=1+1"]) == ("-1", "0.5")
    assert not [
        cell for cell in (*one, *one.values(), *other.values()) if cell.startswith(("=", "+", "@"))
    ]


def test_a_damaged_run_is_listed_and_compares_with_nothing(pair: Path, tmp_path: Path) -> None:
    (pair / "0" / "results.json").write_text("{")
    (pair / "1" / "config.yaml").write_text("a: [")
    (pair / "1" / ".hydra" / "overrides.yaml").write_text("a: [")
    page = reported([pair], tmp_path / "out")
    assert any("damaged: results.json: Expecting property name" in text for text in page.texts)
    assert any("damaged: config.yaml: " in text for text in page.texts)
    assert "0 of 1" in page.texts


def test_runs_of_other_classes_are_compared_where_they_can_be(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 0.5, ("road", "sky"), model__pam=True)
    write_run(tmp_path / "b", 0.6, ("road", "bus"), model__pam=False)
    page = reported([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert {"road", "sky", "bus"} <= set(page.texts)
    assert any("classes differ" in text for text in page.texts)


def test_a_hundred_runs_take_seconds(tmp_path: Path) -> None:
    for number in range(100):
        folder = tmp_path / "s" / str(number)
        write_run(folder, 0.2 + number / 200, optimizer__lr=0.001 * (number // 4), seed=number % 4)
    begin = time.process_time()
    page = reported([tmp_path / "s"], tmp_path / "out")
    assert time.process_time() - begin < 25
    assert any("100 runs (100 finished) in 25 groups." in text for text in page.texts)
    assert any("baseline and the best 11 of the groups" in text for text in page.texts)


def test_bad_runs_by_the_command(pair: Path, tmp_path: Path) -> None:
    """A link, a half-written run, one of another version, other classes: all are shown."""
    (pair / "0" / "results.json").write_text('{"miou": 0.4, "class_iou"')
    (pair / "1" / "results.json").write_text('{"miou": 0.5, "of": "another version"}')
    write_run(tmp_path / "elsewhere", 0.9, ("bus", "sky"), model__pam=True, seed=7)
    (pair / "link").symlink_to(tmp_path / "elsewhere")
    done = danet("report", "runs=s", "images=0", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "report  report/report.html, report.csv, report.md" in done.stdout
    assert "The classes differ, so means over them are not of the same thing" in done.stdout
    text = (tmp_path / "report" / "report.md").read_text()
    assert "damaged: results.json: Expecting ':' delimiter" in text
    assert "0.9000" in text
    assert not {"\x1b", "\x00"} & set(text)
    for words, told in (
        (("runs=s", "output=/proc/self/x"), 'output: "/proc/self/x": cannot be written'),
        (
            ("runs=elsewhere/.hydra",),
            "holds no run: neither it nor a folder below has results.json",
        ),
        (("runs=nowhere",), "runs: no folder at"),
    ):
        refused = danet("report", *words, "images=0", cwd=tmp_path)
        assert refused.returncode == 2
        assert told in refused.stderr
        assert "Traceback" not in refused.stderr


def test_runs_that_differ_in_what_is_ignored_are_one_group(tmp_path: Path) -> None:
    """As of two machines and two versions; the page says so."""
    write_run(tmp_path / "a", 0.4, dataset__root="/a", optimizer__lr=0.1)
    write_run(tmp_path / "b", 0.6, dataset__root="/b", optimizer__lr=0.2, new=1, seed=1)
    page = reported([tmp_path], tmp_path / "out", ignore=["dataset.root", "new", "optimizer"])
    assert "0.5000 ± 0.1414" in page.texts
    assert any("may differ in dataset.root, new, optimizer" in text for text in page.texts)


def test_wrong_requests(pair: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="baseline=nobody"):
        reported([pair], tmp_path / "out", baseline="nobody")
    with pytest.raises(RequestError, match=r"ignore=model\.pa: no .* did you mean model\.pam\?"):
        reported([pair], tmp_path / "out", ignore=["model.pa"])
    for number in range(4):
        (pair / str(number) / "config.yaml").unlink()
    with pytest.raises(RequestError, match="of none is the configuration known"):
        reported([pair], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_shows_what_a_training_has_learned(undisturbed: Path, tmp_path: Path) -> None:
    """By its name, on a run folder and a copy that has another seed and no checkpoint."""
    other = tmp_path / "mein Ordner" / "b"
    shutil.copytree(undisturbed, other, ignore=shutil.ignore_patterns("*.ckpt"))
    text = (other / "config.yaml").read_text()
    text = re.sub(r"head_lr_factor: [\d.]+", "head_lr_factor: 5", text)
    (other / "config.yaml").write_text(text)
    shutil.copytree(undisturbed, tmp_path / "mein Ordner" / "a")
    done = danet("report", "runs=mein Ordner", "images=2", TRUSTED, "device=cpu", cwd=tmp_path)
    assert (done.returncode, done.stdout.count("head_lr_factor=")) == (0, 2), done.stderr
    page = Page(tmp_path / "report" / "report.html")
    results = json.loads((undisturbed / "results.json").read_text())
    assert f"{results['miou']:.4f}" in page.texts
    assert results["cost"]["seconds_per_step"] > 0
    assert set(results["data"]) == {"train", "val"}
    raster = [each for each in page.pictures if not each.startswith("data:image/svg")]
    assert len(raster) == 2 * (2 + 2)  # of two images: itself and label, prediction and errors
    assert any("head_lr_factor=5: ckpt_path: no file at" in text for text in page.texts)
    empty = tmp_path / "empty"
    empty.mkdir()
    refused = danet("report", f"runs={empty}", cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"runs: {empty} holds no run")


@pytest.mark.slow
def test_the_page_in_a_browser(pair: Path, tmp_path: Path, browser: Browser) -> None:
    """Sorted on a click, both ways; no request, no complaint; printed with everything open."""
    reported([pair], tmp_path / "out")
    path = tmp_path / "out" / "report.html"
    with opened(browser, path) as (window, said):
        assert [it for it in said if not it.startswith("data:")] == [path.as_uri()]
        table = window.locator("table").first
        button = table.get_by_role("button", name="mIoU")
        button.click()
        assert "pam=false" in table.locator("tbody tr").first.inner_text()
        button.press("Enter")
        assert "pam=true" in table.locator("tbody tr").first.inner_text()
        assert table.locator("th[aria-sort=ascending]").inner_text().startswith("mIoU")
        sizes = window.evaluate("[...document.images].map(it => it.naturalWidth)")
        assert min(sizes) > 100
        for width in (1280, 400):
            window.set_viewport_size({"width": width, "height": 800})
            assert window.evaluate("document.documentElement.scrollWidth <= innerWidth")
        window.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert window.evaluate("[...document.querySelectorAll('details')].every(it => it.open)")
