"""The page of a run in a browser: tables, definitions, panels, print, accessibility, and names that are markup."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from axiom_bench.records import artefacts as manifest_file
from axiom_bench.records import sealed
from axiom_bench.report import gallery
from axiom_bench.report.tables import all_tables
from axiom_bench.report.writing import page as page_of
from axiom_bench.statistics.labels import NOTHING
from axiom_bench.statistics.run_folder import RunFolder

DEFINITIONS = {
    "methods": {"grad_cam": {"description": "w_k = mean(g_k) -> (B, K, 1, 1)"}},
    "metrics": {
        "box_iou": {
            "description": "The best IoU -> (B,)",
            "definition": "its own definition",
            "cited": {"text": "Doe 2031, arXiv:1", "title": "On Boxes", "url": "https://arxiv.org/abs/1"},
        }
    },
}


def write_page(folder: Path) -> Path:
    """The page alone: no figure is drawn."""
    run = RunFolder.read(folder)
    path = folder / "report.html"
    tables = list(all_tables(run, run.summary, run.split_summary))
    path.write_text(page_of(run, tables, [], gallery.section(run)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def usual_page(usual_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two networks, six methods; one method and one metric with a definition."""
    folder = shutil.copytree(usual_run, tmp_path_factory.mktemp("page") / "run")
    manifest = sealed.read_json(folder / "manifest.json")
    for kind, entries in DEFINITIONS.items():
        for name, about in entries.items():
            manifest[kind][name] |= about
    manifest_file.write(folder, manifest)
    return write_page(folder)


@pytest.fixture
def overview(open_page: Any, usual_page: Path) -> Any:
    """The section of the overview, with the clipboard allowed."""
    page = open_page(f"{usual_page}#overview", permissions=["clipboard-read", "clipboard-write"])
    return page.locator("#overview")


def column(section: Any, heading: str, group: int = 0) -> list[str]:
    """The texts of the visible cells below a heading, of one group."""
    heads = section.locator("thead th").all_inner_texts()
    place = next(i for i, text in enumerate(heads) if text.startswith(heading))
    rows = section.locator("tbody").nth(group).locator("tr:not(.page-group):visible")
    return [row.locator("th, td").nth(place).inner_text() for row in rows.all()]


def test_a_heading_sorts_by_number_and_by_a_third_click_not_at_all(overview: Any) -> None:
    before = column(overview, "Box IoU")
    button = overview.get_by_role("button", name="Box IoU")
    button.focus()
    button.press("Enter")
    assert overview.locator("th[aria-sort=ascending]").count() == 1
    ascending = column(overview, "Box IoU")
    assert ascending != before
    assert [float(text.split()[0]) for text in ascending] == sorted(float(text.split()[0]) for text in ascending)
    button.press("Enter")
    assert column(overview, "Box IoU") == ascending[::-1]
    button.press("Enter")
    assert column(overview, "Box IoU") == before
    assert overview.locator("th[aria-sort=none]").count() == overview.locator("th[aria-sort]").count()
    for _ in range(2):  # values that are missing stay last
        overview.get_by_role("button", name="Sensitivity error").click()
        assert column(overview, "Sensitivity error")[-2:] == [NOTHING, NOTHING]


def test_methods_networks_and_columns_can_be_hidden(overview: Any) -> None:
    overview.get_by_text("Methods", exact=True).click()
    overview.get_by_role("checkbox", name="grad_cam", exact=True).uncheck()
    overview.page.keyboard.press("Escape")
    assert "grad_cam" not in column(overview, "Method")
    overview.get_by_text("Networks", exact=True).click()
    overview.get_by_role("checkbox", name="scenes_fc").uncheck()
    assert overview.locator("tbody:visible").count() == 1
    overview.get_by_text("Columns", exact=True).click()
    overview.get_by_role("button", name="Show none").click()
    assert overview.locator("thead th:visible").count() == 1
    assert overview.get_by_text("Columns: 0 of").is_visible()


def test_a_copy_holds_what_is_shown(overview: Any) -> None:
    overview.get_by_text("Networks", exact=True).click()
    overview.get_by_role("checkbox", name="scenes_residual").uncheck()
    copied = {}
    for name in ("CSV", "Markdown", "LaTeX"):
        overview.get_by_role("button", name=f"Copy the table as {name}").click()
        overview.page.locator(".page-status", has_text=f"as {name}").wait_for(state="attached")
        copied[name] = overview.page.evaluate("navigator.clipboard.readText()")
    header, first, *others = copied["CSV"].splitlines()
    assert header.startswith("Network,Method,")
    assert len(others) == 5
    assert "scenes_residual" not in copied["CSV"]
    shown = {cell for cell in column(overview, "Box IoU")[0].split() if cell[0].isdigit()}
    exact = [float(cell) for cell in first.split(",") if "." in cell]
    assert max(len(str(number)) for number in exact) > 12
    assert any(f"{number:.3f}" in shown for number in exact)
    assert copied["Markdown"].splitlines()[1].startswith("|:---|:---|---:|")
    assert copied["LaTeX"].startswith("\\begin{tabular}{l")
    assert "ablation\\_cam" in copied["LaTeX"]


def test_a_definition_shows_on_focus_and_goes_with_escape(overview: Any) -> None:
    page = overview.page
    overview.locator("a.page-term", has_text="grad_cam").first.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")
    tip = page.get_by_role("tooltip")
    assert "w_k = mean(g_k)" in tip.inner_text()
    assert "(B, K" not in tip.inner_text()
    page.keyboard.press("Escape")
    assert not tip.is_visible()
    overview.get_by_role("button", name="Box IoU").hover()
    assert "its own definition" in tip.inner_text()
    assert tip.get_by_role("link", name="Doe 2031").get_attribute("href") == "https://arxiv.org/abs/1"


def test_a_definition_shows_on_tap(open_page: Any, usual_page: Path) -> None:
    page = open_page(usual_page, viewport={"width": 400, "height": 800}, has_touch=True, is_mobile=True)
    page.locator("#overview a.page-term", has_text="grad_cam").first.tap()
    assert "w_k = mean(g_k)" in page.get_by_role("tooltip").inner_text()
    assert page.evaluate("location.hash") == ""


@pytest.mark.parametrize("name", ["gallery", "tables"])
def test_a_jump_over_the_charts_lands_on_its_section(open_page: Any, usual_page: Path, name: str) -> None:
    """Also after the charts that the jump brought into sight are drawn."""
    page = open_page(usual_page)
    page.locator(f'.page-bar a[href="#{name}"]').click()
    section = page.locator(f"#{name}")
    before = section.bounding_box()["y"]
    page.evaluate("dispatchEvent(new Event('beforeprint')); dispatchEvent(new Event('afterprint'))")
    page.wait_for_function("[...document.querySelectorAll('.chart-plot')].every((plot) => plot.querySelector('svg'))")
    assert 0 <= before < 100
    assert section.bounding_box()["y"] == pytest.approx(before, abs=2)


def test_one_network_at_a_time(open_page: Any, usual_page: Path) -> None:
    page = open_page(usual_page)
    tables = page.locator("#tables details", has=page.get_by_text("All metrics", exact=True))
    tables.locator("summary").first.click()
    assert tables.locator("table:visible").count() == 1
    tables.get_by_role("radio", name="scenes_residual").check(force=True)
    assert "scenes_residual" in tables.locator("table:visible caption").inner_text()


def test_print_has_every_table(open_page: Any, usual_page: Path) -> None:
    page = open_page(usual_page)
    tables = page.locator("main table").count()
    assert page.locator("main table:visible").count() < tables
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    hidden = page.locator("main section:not(#charts) table").evaluate_all(
        "all => all.filter((table) => !table.getClientRects().length).map((table) => table.caption?.textContent)"
    )
    assert hidden == []
    assert not page.locator(".page-bar").is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    assert page.locator("main table:visible").count() < tables


def test_without_javascript_all_text_and_tables_are_there_in_the_order_of_a_reader(
    open_page: Any, usual_page: Path
) -> None:
    page = open_page(usual_page, java_script_enabled=False)
    names = [section.get_attribute("id") for section in page.locator(".page-section").all()]
    assert names[:7] == ["findings", "overview", "charts", "judging", "gallery", "figures", "tables"]
    assert page.locator(".page-noscript").is_visible()
    assert page.locator("#overview table").is_visible()
    assert page.locator("#tables details:not([open])").count() > 0  # a reader opens them without a script
    assert page.locator("#findings figure").count() > 0


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(open_page: Any, barriers: Any, usual_page: Path, width: int, theme: str) -> None:
    page = open_page(usual_page, viewport={"width": width, "height": 900}, color_scheme=theme, bypass_csp=True)
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert barriers(page) == []


def test_a_phone_scrolls_tables_and_not_the_page(open_page: Any, usual_page: Path) -> None:
    page = open_page(usual_page, viewport={"width": 400, "height": 800})
    page.locator("#overview").get_by_text("Columns", exact=True).click()
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    wide = page.locator("#overview .page-wide")
    assert wide.evaluate("(region) => region.scrollWidth > region.clientWidth")
    wide.evaluate("(region) => { region.scrollLeft = 200; }")
    first = page.locator("#overview tbody tr:not(.page-group) th").first
    assert first.bounding_box()["x"] == wide.bounding_box()["x"]
