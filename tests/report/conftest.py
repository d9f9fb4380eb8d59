"""Run folders, and a real browser for the tests of pages: the system's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.made_runs import edit_manifest, make_records, make_run, undrawn, usual_run  # noqa: F401

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SECONDS = 10  # that a page may take for anything, on a machine that is busy
LOCAL = ("file:", "data:", "blob:", "about:")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that opens a page in a browser is slow."""
    for item in items:
        if "open_page" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One for all tests of a process; skips where Playwright or Chromium is absent."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright isn't installed (extra `dev`)")
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is on the PATH")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=executable)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """(path of a page, **options of Playwright's new_context) -> the open page.

    A "#fragment" may follow the path. The test fails where any page that it opened wrote an error or a warning to the
    console, raised one, or asked for anything beyond files.
    """
    contexts, problems = [], []

    def open_(path: Path | str, **options: Any) -> Page:
        context = browser.new_context(**options)
        context.set_default_timeout(SECONDS * 1000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: _is_bad(message.type) and problems.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        page.on("request", lambda request: request.url.startswith(LOCAL) or problems.append(f"request: {request.url}"))
        name, _, fragment = str(path).partition("#")
        page.goto(Path(name).resolve().as_uri() + (f"#{fragment}" if fragment else ""))
        return page

    yield open_
    for context in contexts:
        context.close()
    assert problems == []


def _is_bad(kind: str) -> bool:
    return kind in ("error", "warning")
