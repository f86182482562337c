"""A page in a real browser, with all that it complains of and asks for."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")


def program() -> str:
    """The browser's path; skips the test without one, unless REQUIRE_BROWSER=1 forbids it."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        told = f"no browser on PATH: {', '.join(NAMES)}"
        (pytest.fail if os.environ.get("REQUIRE_BROWSER") == "1" else pytest.skip)(told)
    return found


@pytest.fixture(scope="module")  # it holds an event loop, in which no other test can have its own
def browser() -> Iterator[Browser]:
    """A real browser; import the fixture where it is used."""
    path = program()
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@contextmanager
def opened(browser: Browser, path: Path) -> Iterator[tuple[Page, list[str]]]:
    """Open a file; yields the page, and what it has complained of and asked for, itself first."""
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    events: list[str] = []
    page.on("request", lambda request: events.append(request.url))
    page.on("console", lambda message: events.append(message.text))
    page.on("pageerror", lambda error: events.append(str(error)))
    page.on("dialog", lambda dialog: (events.append(dialog.message), dialog.dismiss()))
    page.goto(path.as_uri())
    yield page, events
    page.close()
