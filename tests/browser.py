"""A real browser for the tests of pages: the system's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SECONDS = 10  # that a page may take for anything, on a machine that is busy
BAD = ("error", "warning")  # kinds of messages
LOCAL = ("file:", "data:", "blob:", "about:")
# Events that a browser sends in their own task are delayed here, so that a test that doesn't wait
# for them fails at every try.
LATE = """const listen = EventTarget.prototype.addEventListener;
const types = ["close", "hashchange", "scroll", "toggle"];
EventTarget.prototype.addEventListener = function (type, listener, ...options) {
  const late = (event) => setTimeout(() => listener.call(this, event), 150);
  return listen.call(this, type, types.includes(type) ? late : listener, ...options);
};
for (const name of ["requestAnimationFrame", "IntersectionObserver", "ResizeObserver"]) {
  const original = window[name];
  window[name] = function (callback, ...options) {
    const late = (...values) => setTimeout(() => callback(...values), 150);
    return new.target ? new original(late, ...options) : original(late);
  };
}"""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that opens a page in a browser is slow."""
    for item in items:
        if "open_page" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Return one browser for all tests of a process. Skip if Playwright or Chromium is absent."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="Playwright isn't installed (extra `dev`)"
    )
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is on the PATH")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=executable)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Return a function (path of a page, **options of Playwright's new_context) that opens a page.

    A "#fragment" may follow the path. The test fails if a page that it opened wrote an error or a
    warning to the console, raised an error, or requested anything except files. Wait by selectors
    and locators, since `wait_for_function` polls by an evaluation that the pages' policy refuses.
    """
    contexts = []
    problems = []

    def open_(path: Path | str, **options: Any) -> Page:
        context = browser.new_context(**options)
        context.set_default_timeout(SECONDS * 1000)
        contexts.append(context)
        page = context.new_page()
        page.add_init_script(LATE)
        page.on(
            "console",
            lambda message: message.type in BAD and problems.append(f"console: {message.text}"),
        )
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        page.on(
            "request",
            lambda request: (
                request.url.startswith(LOCAL) or problems.append(f"request: {request.url}")
            ),
        )
        name, _, fragment = str(path).partition("#")
        page.goto(Path(name).resolve().as_uri() + (f"#{fragment}" if fragment else ""))
        return page

    yield open_
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture
def barriers() -> Callable[[Page], list[str]]:
    """Return a function that lists a page's serious barriers according to axe-core. Skip if
    axe-core isn't installed.
    """
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-core isn't installed (extra `dev`)"
    )

    def find(page: Page) -> list[str]:
        found = axe.Axe().run(page).response["violations"]
        serious = [entry for entry in found if entry["impact"] in ("serious", "critical")]
        return [f"{entry['id']}: {entry['nodes'][0]['html'][:200]}" for entry in serious]

    return find
