"""The page in a real browser: what one clicks is what torch computes, and nobody is asked."""

import base64
import io
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from attending import CLASSES, PALETTE, image, naive, segmenter
from browser import browser, opened
from PIL import Image
from playwright.sync_api import Browser, Page

from danet_lightning.attention.observation import Observation, at_positions, observe
from danet_lightning.attention.page import color_ramp, page, pooling
from danet_lightning.models.maps import PositionMap

__all__ = ["browser"]  # a fixture

ROWS, COLUMNS = 8, 12
N = ROWS * COLUMNS


class Opened(NamedTuple):
    page: Page
    events: list[str]
    seen: Observation
    position: np.ndarray  # (N, N)
    channel: np.ndarray  # (C, C)


@pytest.fixture(scope="module")
def shown(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    path = tmp_path_factory.mktemp("page") / "a page.html"
    seg, pixels = segmenter(), image()
    label = np.full(pixels.shape[:2], 255, np.uint8)
    label[:32] = 1
    seen = observe(seg, pixels, label)
    path.write_text(page(seen, "a.jpg", CLASSES, PALETTE, (0, 0), channel=9), encoding="utf-8")
    with opened(browser, path) as (opened_page, events):
        yield Opened(opened_page, events, seen, *(each.numpy() for each in naive(seg, pixels)))
        assert events == [path.as_uri()]  # no complaint, and no request but the first


def painted(tab: Page, selector: str) -> np.ndarray:
    """(h, w): what a canvas shows, as places in the ramp of colors."""
    uri: str = tab.eval_on_selector(selector, "canvas => canvas.toDataURL()")
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as picture:
        pixels = np.asarray(picture.convert("RGB"))[:, :, None]
    distances = np.abs(pixels - color_ramp().astype(int)).sum(-1)  # (h, w, 256)
    assert distances.min(-1).max() == 0, "a color that no map has"
    return distances.argmin(-1)


def shade(values: np.ndarray, percentile: float = 99) -> np.ndarray:
    """The places in the ramp for values, clipped and on a square-root scale."""
    most = np.sort(values, axis=None)[round((values.size - 1) * percentile / 100)]
    most = max(most, 1 / values.shape[-1])
    return np.rint(255 * np.sqrt(np.minimum(1, values / most)))


def click(tab: Page, selector: str, row: int, column: int, rows: int, columns: int) -> None:
    box = tab.locator(selector).bounding_box()
    assert box is not None
    place: Any = {
        "x": (column + 0.5) / columns * box["width"],
        "y": (row + 0.5) / rows * box["height"],
    }
    tab.locator(selector).click(position=place)


def test_a_clicked_pixel_shows_its_row_and_its_column(shown: Opened) -> None:
    tab = shown.page
    for row, column in ((5, 9), (0, 0), (7, 11)):
        index = row * COLUMNS + column
        click(tab, ".position .pick", row, column, ROWS, COLUMNS)
        values = np.array(tab.evaluate("[...views[0].values]"))
        assert values.sum() == pytest.approx(1, abs=1e-9)
        np.testing.assert_allclose(values, shown.position[index], rtol=1e-4, atol=1e-7)
        expected = shade(shown.position[index]).reshape(ROWS, COLUMNS)
        assert np.abs(painted(tab, ".position .heat") - expected).max() <= 1
    tab.get_by_label("who looks at it").check()
    values = np.array(tab.evaluate("[...views[0].values]"))
    np.testing.assert_allclose(values, shown.position[:, -1], rtol=1e-4, atol=1e-7)
    tab.get_by_label("what it looks at").check()


def test_shares_of_classes_and_the_value_under_the_cursor(shown: Opened) -> None:
    tab = shown.page
    click(tab, ".position .pick", 2, 3, ROWS, COLUMNS)
    row = shown.position[2 * COLUMNS + 3]
    classes = at_positions(shown.seen.prediction, (ROWS, COLUMNS)).ravel()
    shares = [row[classes == index].sum() for index in range(len(CLASSES))]
    np.testing.assert_allclose(tab.evaluate("views[0].shares"), shares, rtol=1e-4)
    bars = tab.locator(".bars li").all_inner_texts()
    order = [index for index in np.argsort(shares)[::-1] if (classes == index).any()]
    assert [text.split()[0] for text in bars] == [CLASSES[index] for index in order]
    assert f"{100 * max(shares):.3g} %" in bars[0]
    chosen = tab.locator(".position .chosen").inner_text()
    predicted = CLASSES[classes[2 * COLUMNS + 3]]
    assert re.fullmatch(f"pixel y (19|20), x (27|28): predicted {predicted}, label sky", chosen)
    box = tab.locator(".position .map").bounding_box()
    assert box is not None
    tab.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] - 2)
    told = tab.locator(".position .under").inner_text()
    (value,) = re.findall(r"([\d.e+-]+)× 1/N", told)
    assert float(value) == pytest.approx(N * row[-1], rel=6e-3)


def test_scales_entropy_and_the_keyboard(shown: Opened) -> None:
    tab = shown.page
    click(tab, ".position .pick", 2, 3, ROWS, COLUMNS)
    tab.locator(".position .clip").fill("90")
    row = shown.position[2 * COLUMNS + 3]
    expected = shade(row, 90).reshape(ROWS, COLUMNS)
    assert np.abs(painted(tab, ".position .heat") - expected).max() <= 1
    tab.locator(".position .clip").fill("99")
    for keys, index in (("ArrowDown", 3 * COLUMNS + 3), ("Shift+ArrowRight", 4 * COLUMNS - 1)):
        tab.locator(".position .pick").press(keys)
        assert tab.evaluate("views[0].index") == index
    tab.get_by_label("how widely each looks").check()
    entropy = torch.distributions.Categorical(torch.from_numpy(shown.position)).entropy().numpy()
    expected = np.rint(255 * entropy / np.log(N)).reshape(ROWS, COLUMNS)
    assert np.abs(painted(tab, ".position .heat") - expected).max() <= 1
    tab.get_by_label("what it looks at").check()


def test_channels_are_sorted_and_a_clicked_one_tells_what_it_mixes(shown: Opened) -> None:
    tab, weights = shown.page, shown.channel
    order = np.argsort(-weights.sum(0), kind="stable")
    assert tab.locator("input.channel").input_value() == "9"  # as it was asked for
    assert tab.evaluate("views[1].part.order") == order.tolist()
    expected = shade(weights[order][:, order], 99.5)
    assert np.abs(painted(tab, ".channel .heat") - expected).max() <= 1
    click(tab, ".channel .square", 4, 0, 16, 16)
    channel = order[4]
    assert tab.evaluate("views[1].channel") == channel
    strongest = np.argsort(-weights[channel], kind="stable")[:8]
    mixed = tab.locator(".mixed button").all_inner_texts()
    assert [int(text.split(":")[0]) for text in mixed] == strongest.tolist()
    for text, weight in zip(mixed, weights[channel][strongest].astype(np.float32), strict=True):
        told = text.split(": ")[1]
        assert told == "<0.01 %" if 0 < weight < 1e-4 else abs(float(told[:-2]) - 100 * weight) < 1
    branch = shown.seen.branches[1]
    both = torch.stack([branch.before[channel], branch.after[channel]])
    low, high = both.aminmax()
    for selector, values in zip(("canvas.before", "canvas.after"), both, strict=True):
        expected = ((values - low) / (high - low) * 255).round().numpy()
        assert np.abs(painted(tab, selector) - expected).max() <= 1
    tab.locator(".channel .square").press("ArrowUp")
    assert tab.evaluate("views[1].channel") == order[3]
    tab.locator("input.channel").fill("15")
    assert tab.evaluate("views[1].channel") == 15


def test_what_is_switched_off_is_told(shown: Opened) -> None:
    told = shown.page.locator(".switched").inner_text()
    for branch in shown.seen.branches:
        changed = (branch.without != shown.seen.prediction).sum()
        assert f"{changed:,} pixels change" in told
    assert shown.page.locator(".gammas strong").all_inner_texts() == ["γ = 3", "γ = 3"]


def test_no_name_becomes_a_part_of_the_page(browser: Browser, tmp_path: Path) -> None:
    evil = ("<img src=x onerror=alert(1)>", "</script><script>alert(2)</script>", "a\0\x1b[2J‮$x$")
    seen = observe(segmenter(evil), image())
    path = tmp_path / "a.html"
    path.write_text(page(seen, f"{evil[1]}\udcfc.jpg", evil, PALETTE, (0, 0)), encoding="utf-8")
    with opened(browser, path) as (tab, events):
        legend = tab.locator(".legend li").all_inner_texts()
        assert {each.strip() for each in legend} <= {*evil[:2], "a\ufffd\ufffd[2J\ufffd$x$"}
        assert tab.title() == f"Attention in {evil[1]}\ufffd.jpg"
        assert events == [path.as_uri()]


def test_where_all_attention_goes_to_one_position_the_rest_is_dark(
    browser: Browser, tmp_path: Path
) -> None:
    seg = segmenter(cam=False)
    with torch.no_grad():
        seg.net.position_attention.query.weight.mul_(1e4)
    path = tmp_path / "a.html"
    path.write_text(page(observe(seg, image()), "a", CLASSES, PALETTE, (0, 0)), encoding="utf-8")
    with opened(browser, path) as (tab, _):
        assert (painted(tab, ".position .heat") > 0).sum() == 1
        assert tab.locator(".position .most").inner_text() == "1× 1/N and more"


@pytest.mark.parametrize("criss_cross", [False, True])
def test_a_map_too_large_for_the_page_is_pooled(
    criss_cross: bool, browser: Browser, tmp_path: Path
) -> None:
    seen = observe(segmenter(cam=False), image())
    map_ = seen.branches[0].map
    assert isinstance(map_, PositionMap)
    whole = replace(map_, criss_cross=criss_cross)
    seen = replace(seen, branches=[replace(seen.branches[0], map=whole)])
    each = 8 * 2 * 4  # bytes of a query and a key of 8 channels in float32
    limits = (N * each, N * each - 1, N * each / 4, 1)
    assert [pooling(whole.size, each, limit) for limit in limits] == [1, 2, 2, 12]
    text = page(seen, "a", CLASSES, PALETTE, (0, 0), megabytes=N * each / 4e6)
    assert "averages over 2 × 2 of the network's" in " ".join(text.split())
    assert "This network has no map of channel attention." in text
    assert ("its own row and column alone" in text) is criss_cross
    path = tmp_path / "a.html"
    path.write_text(text, encoding="utf-8")
    with opened(browser, path) as (tab, events):
        values = np.array(tab.evaluate("[...views[0].values]"))
        assert events == [path.as_uri()]
    np.testing.assert_allclose(values, whole.pooled(2).rows(torch.tensor([0]))[0], rtol=1e-5)
