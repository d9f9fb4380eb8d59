"""Run folders, and a real browser for the tests of pages: the system's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from axiom_bench.report.tables.table import Cell
from tests.made_runs import edit_manifest, make_records, make_run, undrawn, usual, usual_run  # noqa: F401

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SECONDS = 10  # that a page may take for anything, on a machine that is busy
BAD = ("error", "warning")  # kinds of messages
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
    Wait by selectors and locators: `wait_for_function` polls by an evaluation that the pages' policy refuses.
    """
    contexts, problems = [], []

    def open_(path: Path | str, **options: Any) -> Page:
        context = browser.new_context(**options)
        context.set_default_timeout(SECONDS * 1000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: message.type in BAD and problems.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        page.on("request", lambda request: request.url.startswith(LOCAL) or problems.append(f"request: {request.url}"))
        name, _, fragment = str(path).partition("#")
        page.goto(Path(name).resolve().as_uri() + (f"#{fragment}" if fragment else ""))
        return page

    yield open_
    for context in contexts:
        context.close()
    assert problems == []


def row(*texts: str, bold: Sequence[int] = ()) -> tuple[Cell, ...]:
    """A table's row of these texts; bold: the places of the bold ones."""
    return tuple(Cell(text, place in bold) for place, text in enumerate(texts))


@pytest.fixture
def barriers() -> Callable[[Page], list[str]]:
    """(page) -> the serious barriers that axe-core finds; skips where it isn't installed."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core isn't installed (extra `dev`)")

    def find(page: Page) -> list[str]:
        found = axe.Axe().run(page).response["violations"]
        serious = [entry for entry in found if entry["impact"] in ("serious", "critical")]
        return [f"{entry['id']}: {entry['nodes'][0]['html'][:200]}" for entry in serious]

    return find


class Structure(HTMLParser):
    """elements: each start tag with its attributes. words: of elements that aren't data or code; data: of those that
    are, by their ids. unclosed: tags; an end tag must be of the last that is open."""

    VOID = frozenset({"meta", "img", "br", "link", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.data: dict[str, str] = {}
        self.unclosed: list[str] = []
        self._code = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.elements.append((tag, values))
        self._code = values.get("id", tag) if tag in ("script", "style") else ""
        if tag not in self.VOID:
            self.unclosed.append(tag)

    def handle_endtag(self, tag: str) -> None:  # also of "<br/>"
        if tag not in self.VOID:
            self._code = ""
            assert self.unclosed.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._code:
            self.data[self._code] = self.data.get(self._code, "") + data
        else:
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        """The attributes of all elements of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]
