"""The page of a run in a browser: tables, definitions, panels, print, accessibility, and that
nothing else runs.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from markupsafe import Markup

from axiom_bench.records import files
from axiom_bench.report import gallery
from axiom_bench.report.charts import points, ranking
from axiom_bench.report.charts.drawing import DPI, Figure
from axiom_bench.report.page import html
from axiom_bench.report.page import tables as page_tables
from axiom_bench.report.page.html import Header, Section, assemble
from axiom_bench.report.page.tables import Terms, columns_without_value, tables_block
from axiom_bench.report.tables.table import Cell, Group, Table
from axiom_bench.report.writing import all_tables, figures_section, save_figure
from axiom_bench.report.writing import page as page_of
from axiom_bench.statistics.labels import NOTHING
from axiom_bench.statistics.run_folder import RunFolder
from tests.made_runs import write_entries

CITED = {"text": "Doe 2031, arXiv:1", "title": "On Boxes", "url": "https://arxiv.org/abs/1"}
DEFINITIONS = (
    ("methods", "grad_cam", {"description": "w_k = mean(g_k) -> (B, K, 1, 1)"}),
    (
        "metrics",
        "box_iou",
        {"description": "The best IoU -> (B,)", "definition": "its own definition", "cited": CITED},
    ),
)


@pytest.fixture(scope="module")
def usual_page(usual_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two networks, six methods; one method and one metric with a definition. Of the figures one
    chart is drawn.
    """
    folder = shutil.copytree(usual_run, tmp_path_factory.mktemp("page") / "run")
    manifest = files.read_json(folder / "manifest.json")
    for kind, name, about in DEFINITIONS:
        manifest[kind][name] |= about
    write_entries(folder, manifest)
    run = RunFolder.read(folder)
    path = folder / "report.html"
    tables = all_tables(run)
    charts = [
        save_figure(run, figure, folder, ())
        for figure in points.draw_plane(run)
        if isinstance(figure, Figure)
    ]
    path.write_text(page_of(run, tables, charts, gallery.section(run)), encoding="utf-8")
    return path


@pytest.fixture
def overview(open_page, usual_page: Path) -> Any:
    """The section of the overview, with the clipboard allowed."""
    page = open_page(f"{usual_page}#overview", permissions=["clipboard-read", "clipboard-write"])
    return page.locator("#overview")


def column(section: Any, heading: str, group: int = 0) -> list[str]:
    """The texts of the visible cells below a heading, of one group."""
    heads = section.locator("thead th").all_inner_texts()
    place = next(i for i, text in enumerate(heads) if text.startswith(heading))
    rows = section.locator("tbody").nth(group).locator("tr:not(.page-group):visible")
    return [row.locator("th, td").nth(place).inner_text() for row in rows.all()]


def test_a_heading_sorts_the_best_first_and_by_a_third_click_not_at_all(overview):
    before = column(overview, "Box IoU")
    button = overview.get_by_role("button", name="Box IoU")
    button.focus()
    button.press("Enter")
    assert overview.locator("th[aria-sort=descending]").count() == 1  # higher is better
    best_first = column(overview, "Box IoU")
    assert best_first != before
    numbers = [float(text.split()[0]) for text in best_first]
    assert numbers == sorted(numbers, reverse=True)
    button.press("Enter")
    assert column(overview, "Box IoU") == best_first[::-1]
    button.press("Enter")
    assert column(overview, "Box IoU") == before
    assert (
        overview.locator("th[aria-sort=none]").count() == overview.locator("th[aria-sort]").count()
    )
    for _ in range(2):  # values that are missing stay last
        overview.get_by_role("button", name="Sensitivity error").first.click()
        assert column(overview, "Sensitivity error")[-2:] == [NOTHING, NOTHING]


def test_methods_networks_and_columns_can_be_hidden(overview):
    overview.get_by_text("Methods", exact=True).click()
    overview.get_by_role("checkbox", name="grad_cam", exact=True).uncheck()
    overview.page.keyboard.press("Escape")
    assert "grad_cam" not in column(overview, "Method")
    overview.get_by_text("Networks", exact=True).click()
    overview.get_by_role("checkbox", name="scenes_fc").uncheck()
    assert overview.locator("tbody:visible").count() == 1
    overview.get_by_text(re.compile("^Columns: ")).click()  # raw variants are off
    overview.get_by_role("button", name="Show all").click()
    assert overview.locator("thead th:visible").count() == overview.locator("thead th").count()
    overview.get_by_role("button", name="Show none").click()
    assert overview.locator("thead th:visible").count() == 1
    assert overview.get_by_text("Columns: 0 of").is_visible()


def test_a_copy_holds_what_is_shown(overview):
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


def test_a_definition_shows_on_focus_and_goes_with_escape(overview):
    page = overview.page
    overview.locator("a.page-term", has_text="grad_cam").first.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")
    tip = page.get_by_role("tooltip")
    tip.get_by_text("w_k = mean(g_k)").wait_for()
    assert "(B, K" not in tip.inner_text()
    page.keyboard.press("Escape")
    tip.wait_for(state="hidden")
    overview.get_by_role("button", name="Box IoU").hover()
    tip.get_by_text("its own definition").wait_for()
    assert (
        tip.get_by_role("link", name="Doe 2031").get_attribute("href") == "https://arxiv.org/abs/1"
    )


def test_one_network_at_a_time_but_in_print_every_one_of_what_is_open(open_page, usual_page):
    page = open_page(usual_page)
    tables = page.locator("main table").count()
    assert page.locator("main table:visible").count() < tables
    page.locator("#tables details", has=page.get_by_text("All metrics", exact=True)).locator(
        "summary"
    ).first.click()
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    printed = [
        caption.split(",")[0]
        for caption in page.locator("main table:visible caption").all_inner_texts()
    ]
    assert {"Overview", "Models"} <= set(printed)
    assert printed.count("All metrics") == 2
    assert "Places" not in printed
    assert page.locator("#tables summary", has_text="Places").is_visible()
    assert page.locator("#charts svg[role=img]").first.is_visible()
    assert page.get_by_text("In brackets: 95 % intervals").first.is_visible()  # a folded note
    assert not page.locator(".page-bar").is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    assert page.locator("main table:visible").count() < tables
    group = page.locator("#tables details", has=page.get_by_text("All metrics", exact=True))
    assert group.locator("table:visible").count() == 1
    group.get_by_role("radio", name="scenes_residual").check(force=True)
    assert "scenes_residual" in group.locator("table:visible caption").inner_text()


def test_without_javascript_text_and_tables_are_there_in_the_order_of_a_reader(
    open_page, usual_page
):
    page = open_page(usual_page, java_script_enabled=False)
    names = [section.get_attribute("id") for section in page.locator(".page-section").all()]
    assert names[:7] == [
        "overview",
        "findings",
        "charts",
        "judging",
        "gallery",
        "figures",
        "tables",
    ]
    for shown in (".page-noscript", "#overview table", "#charts svg[role=img]"):
        assert page.locator(shown).is_visible()
    # a reader opens them without a script
    for there in (
        "#tables details:not([open])",
        "#findings figure",
    ):
        assert page.locator(there).count() > 0


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(open_page, barriers, usual_page, width, theme):
    page = open_page(
        usual_page, viewport={"width": width, "height": 900}, color_scheme=theme, bypass_csp=True
    )
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert barriers(page) == []


def test_a_phone_scrolls_tables_and_not_the_page_and_shows_a_definition_on_tap(
    open_page, usual_page
):
    page = open_page(
        usual_page, viewport={"width": 400, "height": 800}, has_touch=True, is_mobile=True
    )
    page.locator("#overview a.page-term", has_text="grad_cam").first.tap()
    page.get_by_role("tooltip").get_by_text("w_k = mean(g_k)").wait_for()
    assert page.evaluate("location.hash") == ""
    page.locator("#overview").get_by_text("Methods", exact=True).tap()
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    wide = page.locator("#overview .page-wide")
    assert wide.evaluate("(region) => region.scrollWidth > region.clientWidth")
    wide.evaluate("(region) => { region.scrollLeft = 200; }")
    first = page.locator("#overview tbody tr:not(.page-group) th").first
    assert first.bounding_box()["x"] == wide.bounding_box()["x"]


def test_a_table_is_as_wide_as_a_wide_screen(open_page, usual_page):
    page = open_page(usual_page, viewport={"width": 1280, "height": 800})
    table = page.locator("#overview table").bounding_box()
    region = page.locator("#overview .page-wide").bounding_box()
    assert table["width"] > 0.9 * region["width"] > 1000
    note = page.locator("#overview .tables-block > .page-note").first.bounding_box()
    assert note["width"] > 900


def test_paper_repeats_the_headings_of_a_table_and_has_even_rows(open_page, usual_page):
    page = open_page(usual_page, viewport={"width": 688, "height": 1000})
    page.emulate_media(media="print")
    # Chromium leaves the boxes of buttons out of the headings that it repeats.
    heads = page.locator("#overview thead .tables-sort").evaluate_all(
        "buttons => buttons.map((button) => getComputedStyle(button).display)"
    )
    assert set(heads) == {"contents"}
    cells = page.locator("#overview tbody tr:not(.page-group) > *").evaluate_all(
        "cells => cells.map((cell) => getComputedStyle(cell)).map((style) => "
        "[style.verticalAlign, style.paddingTop, style.fontSize].join())"
    )
    assert len(set(cells)) == 1


def test_paper_has_intervals_no_larger_than_values_and_whole_words(open_page, usual_page):
    page = open_page(usual_page, viewport={"width": 688, "height": 1000})
    page.emulate_media(media="print")
    sizes = page.evaluate(
        """() => [...document.querySelectorAll("#overview td .tables-interval")].map((part) => [
          parseFloat(getComputedStyle(part).fontSize),
          parseFloat(getComputedStyle(part.closest("td")).fontSize),
        ])"""
    )
    assert sizes
    for interval, value in sizes:
        assert interval < value
    selector = "#overview thead th, #overview .maps-row figcaption"
    breaks = page.locator(selector).evaluate_all(
        "nodes => nodes.map((node) => getComputedStyle(node).overflowWrap)"
    )
    assert "anywhere" not in breaks


def test_a_phone_shows_the_text_of_figures_in_a_box_that_scrolls(
    usual_run, make_page, open_page, tmp_path
):
    run = RunFolder.read(usual_run)
    figure = next(item for item in ranking.draw(run) if isinstance(item, Figure))
    saved = save_figure(run, figure, tmp_path, ("png",))
    path = make_page(figures_section(run, [saved], ()))
    page = open_page(path, viewport={"width": 390, "height": 800})
    size = page.locator("#figures img").evaluate("image => [image.width, image.naturalWidth]")
    pixels_per_point = DPI / 72 * size[0] / size[1]
    assert 6 * pixels_per_point > 10.9
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_a_phone_shows_the_whole_index_above_the_switch_of_the_theme(usual_page, open_page):
    page = open_page(usual_page, viewport={"width": 390, "height": 800})
    theme = page.locator(".page-theme").bounding_box()
    links = page.locator(".page-bar a").all()
    assert len(links) >= 6
    for link in links:
        box = link.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
        assert box["y"] + box["height"] <= theme["y"]
    nav = page.locator(".page-bar nav ul")
    assert nav.evaluate("node => node.scrollWidth <= node.clientWidth")


VALUE = Cell("0.5", numbers=(0.5,))
EMPTY = Cell(NOTHING)


def table_of(*rows: tuple[Cell, ...], name: str = "table") -> Table:
    """Return a table of a method, an error, a drop and words."""
    header = ("Method", "Error\nmean", "Drop\nmean", "Reason")
    return Table(name, "Table", header, (Group("", rows),), text_last=True)


def test_a_column_without_any_value_is_hidden_until_asked_for(make_page, open_page):
    table = table_of(
        (Cell("one"), EMPTY, VALUE, EMPTY),
        (Cell("two"), EMPTY, EMPTY, EMPTY),
    )
    body = tables_block([table], Terms(), (), {"Error": "no box"})
    section = Section("a", "A", body, page_tables.STYLES, page_tables.SCRIPTS)
    page = open_page(make_page(section))
    assert page.locator("thead th:visible").count() == 3
    note = page.locator(".tables-empty").inner_text()
    assert note.startswith("Without any value, so hidden: Error (no box).")
    page.get_by_text("Columns: 2 of 3").click()
    page.get_by_role("checkbox", name="Error").check()
    assert page.locator("thead th:visible").count() == 4


def test_a_column_is_without_a_value_only_if_it_is_so_in_all_tables():
    without = table_of((Cell("one"), EMPTY, VALUE, EMPTY))
    with_value = table_of((Cell("one"), VALUE, VALUE, EMPTY))
    assert columns_without_value([without]) == ["Error"]
    assert columns_without_value([without, with_value]) == []
    assert columns_without_value([table_of()]) == []


HEADER = Header("above", "A title", {"Networks": "one"})


@pytest.fixture
def make_page(tmp_path: Path) -> Any:
    """(*sections) -> path of a page with them."""
    path = tmp_path / "page.html"

    def make(*sections: Section) -> Path:
        path.write_text(assemble(HEADER, sections), encoding="utf-8")
        return path

    return make


def test_sections_are_in_the_index(make_page, open_page):
    page = open_page(
        make_page(
            Section("a", "First", Markup("<p>1</p>")), Section("b", "Second", Markup("<p>2</p>"))
        )
    )
    assert page.locator("nav a").all_inner_texts() == ["First", "Second"]
    assert page.locator("h2").all_inner_texts() == ["First", "Second"]
    page.get_by_role("link", name="Second").click()
    page.wait_for_url("**#b")


def test_two_sections_of_one_id_and_nan_in_json_are_refused():
    with pytest.raises(ValueError, match="one id"):
        assemble(
            HEADER, [Section("a", "A", Markup("")), Section("b", "B", Markup(""), data={"a": 1})]
        )
    with pytest.raises(ValueError, match="JSON"):
        html.as_json({"value": float("nan")})


def test_the_theme_is_the_systems_until_a_reader_chooses(make_page, open_page):
    page = open_page(make_page(), color_scheme="dark")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.evaluate(
        "addEventListener('themechange', () => { window.changes = (window.changes ?? 0) + 1; }, "
        "true)"
    )
    page.get_by_label("Light").check(force=True)
    assert (
        page.evaluate("getComputedStyle(document.body).backgroundColor")
        == "rgb(255, 255, 255)"
        != dark
    )
    assert page.evaluate("window.changes") == 1
    for _ in range(3):  # Chromium's store is another process, which a reload at once may overtake
        page.reload()
        if (theme := page.evaluate("document.documentElement.dataset.theme")) == "light":
            break
    assert theme == "light"


def test_no_other_script_runs(make_page, browser):
    """Not even one that a mistake in a part's HTML lets through: the policy names the page's
    own.
    """
    path = make_page(
        Section(
            "a", "A", Markup("<script>window.ran = 1</script><b onclick='window.ran = 2'>b</b>")
        )
    )
    page = browser.new_page()
    page.goto(path.as_uri())
    page.locator("b").click()
    assert page.evaluate("window.ran") is None
    page.close()
