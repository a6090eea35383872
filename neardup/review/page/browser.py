"""Drive the review page in Chromium by a script, for measurements and for answers from a ground truth."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from neardup.errors import ConfigError
from neardup.review.texts import KEYS

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
"""Names of the browser's program, the first that is found being taken."""
WIDTH = 1280
"""Pixels of the window's width: a small laptop's."""
HEIGHT = 900
"""Pixels of the window's height, as of a small laptop's screen."""
PATIENCE_MS = 60_000
"""Most milliseconds that a script waits for the next pair."""
NEXT = """before => document.getElementById("empty")?.hidden === false
                    || document.body.dataset.shown && document.body.dataset.shown !== before"""
"""Whether the page shows another pair than before, or that there is none."""


@contextmanager
def served(out: Path) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """Context that serves the review page of a folder of results: yields its address and its server."""
    command = [sys.executable, "-m", "neardup", "review", "--out", str(out), "--port", "0", "--who", "script"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603 - our own command
        try:
            assert server.stdout  # noqa: S101 - our own mistake only
            yield server.stdout.readline().strip(), server
        finally:
            server.terminate()


@contextmanager
def chromium_page() -> Iterator["Page"]:
    """Context that opens a page of Chromium without a window.

    Raises:
        ConfigError: there is no Chromium.
    """
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - only what measures the page needs it

    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        raise ConfigError("there is no Chromium to open the review page in: apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.set_default_timeout(PATIENCE_MS)
        yield page
        browser.close()


def pairs_asked(page: "Page") -> Iterator[tuple[str, str]]:
    """The pairs that the page puts before a person, each answered before the next is asked for, until none is left."""
    shown = ""
    while True:
        page.wait_for_function(NEXT, arg=shown)
        if page.locator("#empty").is_visible():
            return
        shown = str(page.evaluate("document.body.dataset.shown"))
        photo, partner = shown.split("/")
        yield photo, partner


def press(page: "Page", answer: str) -> None:
    """Give an answer by its key, and wait until the server has stored it."""
    with page.expect_response("**/api/verdict"):
        page.keyboard.press(next(key.key for key in KEYS if key.action == answer))
