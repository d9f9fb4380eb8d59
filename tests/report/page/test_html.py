"""The page as a browser sees it: its sections, its theme, and that it loads and runs nothing but itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from markupsafe import Markup

from axiom_bench.report.page import html
from axiom_bench.report.page.html import Header, Section, assemble

HEADER = Header("above", "A title", {"Networks": "one"})
MARKUP = "</script><script>alert(1)</script><!--"


@pytest.fixture
def make_page(tmp_path: Path) -> Any:
    """(*sections) -> path of a page with them."""

    def make(*sections: Section) -> Path:
        path = tmp_path / "page.html"
        path.write_text(assemble(HEADER, sections), encoding="utf-8")
        return path

    return make


def test_sections_are_in_the_index(make_page: Any, open_page: Any) -> None:
    page = open_page(make_page(Section("a", "First", Markup("<p>1</p>")), Section("b", "Second", Markup("<p>2</p>"))))
    assert page.locator("nav a").all_inner_texts() == ["First", "Second"]
    assert page.locator("h2").all_inner_texts() == ["First", "Second"]
    page.get_by_role("link", name="Second").click()
    assert page.evaluate("location.hash") == "#b"


def test_two_sections_of_one_id_are_refused() -> None:
    with pytest.raises(ValueError, match="one id"):
        assemble(HEADER, [Section("a", "A", Markup("")), Section("b", "B", Markup(""), data={"a": 1})])


def test_the_theme_is_the_systems_until_a_reader_chooses(make_page: Any, open_page: Any) -> None:
    page = open_page(make_page(), color_scheme="dark")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.evaluate("addEventListener('themechange', () => { window.changes = (window.changes ?? 0) + 1; }, true)")
    page.get_by_label("Light").check(force=True)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)" != dark
    assert page.evaluate("window.changes") == 1
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "light"


def test_data_is_text_for_the_browser(make_page: Any, open_page: Any) -> None:
    data = {"names": [MARKUP, "\u2028\u2029", "a & b"]}
    page = open_page(make_page(Section("a", MARKUP, Markup("<p>1</p>"), data={"a-data": data})))
    assert page.evaluate("JSON.parse(document.getElementById('a-data').textContent)") == data
    assert page.locator("h2").inner_text() == MARKUP


def test_no_other_script_runs(make_page: Any, browser: Any) -> None:
    """Not even one that a mistake in a part's HTML lets through: the policy names the page's own."""
    path = make_page(Section("a", "A", Markup("<script>window.ran = 1</script><b onclick='window.ran = 2'>b</b>")))
    page = browser.new_page()
    page.goto(path.as_uri())
    page.locator("b").click()
    assert page.evaluate("window.ran") is None
    page.close()


def test_json_has_no_nan() -> None:
    with pytest.raises(ValueError, match="JSON"):
        html.as_json({"value": float("nan")})
