"""The charts in a real browser: drawn, switched, hovered, printed, on a phone and in the dark."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from axiom_bench.records import files
from axiom_bench.statistics.run_folder import RunFolder

MARKUP = "<script>alert(1)</script>"
Open = Callable[..., Any]
# The colour of secondary text, as the browser computes it.
SOFT = """() => {
  const probe = document.body.appendChild(document.createElement("i"));
  probe.style.color = "var(--soft)";
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}"""
TOPS = "all => all.map((chart) => chart.getBoundingClientRect().top + scrollY)"


@pytest.fixture
def undrawn_charts(rich_run: RunFolder, chart_page: Callable[[RunFolder], Path], open_page: Open) -> Open:
    """(**options) -> the open page, whose charts are drawn when they come into sight."""
    path = chart_page(rich_run)
    return lambda **options: open_page(path, **options)


@pytest.fixture
def charts(undrawn_charts: Open) -> Open:
    """(**options) -> the open page, with all charts drawn."""
    return lambda **options: draw_all(undrawn_charts(**options))


def draw_all(page: Any) -> Any:
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    page.wait_for_selector(".chart-plot:not(:has(svg))", state="detached")
    return page


def labels(page: Any, chart: str) -> list[str]:
    """The texts in the first panel of a chart."""
    return page.locator(f"#chart-{chart} .chart-panel").first.locator("svg text").all_text_contents()


def hover(page: Any) -> Any:
    """The tip of the first mark of the plane."""
    page.locator("#chart-axiom-plane .mark-symbol path").first.hover(force=True)
    tip = page.locator(".chart-tip")
    tip.wait_for(state="visible")
    return tip


def test_charts_are_drawn_when_they_come_into_sight(undrawn_charts):
    page = undrawn_charts()
    page.wait_for_selector("#chart-by-depth svg")
    assert page.locator("#chart-agreement svg").count() == 0
    page.locator("#chart-agreement").scroll_into_view_if_needed()
    page.wait_for_selector("#chart-agreement svg")


@pytest.mark.parametrize("width", [400, 1280])
def test_drawing_moves_nothing_and_nothing_is_wider_than_a_phone(undrawn_charts, width):
    page = undrawn_charts(viewport={"width": width, "height": 900})
    before = page.locator(".chart").evaluate_all(TOPS)
    assert page.locator("#chart-agreement svg").count() == 0
    draw_all(page)
    assert page.locator(".chart").evaluate_all(TOPS) == pytest.approx(before, abs=2)
    if width == 400:
        assert page.evaluate("document.documentElement.scrollWidth") == 400
        widths = page.locator(".chart-plot svg").evaluate_all("nodes => nodes.map((node) => node.clientWidth)")
        assert all(100 < width <= 400 for width in widths)


def test_titles_units_text_alternatives_tables_and_numbers(charts, barriers):
    page = charts()
    assert "Conservation error [ratio], lower is better" in labels(page, "by-method")
    assert "Mean sensitivity error [ratio], lower is better" in labels(page, "axiom-plane")
    assert "Mean probability, higher is better" in labels(page, "curves")
    assert "Milliseconds an image, with the trace" in labels(page, "costs")
    label = "nodes => nodes.map((node) => node.closest('[aria-label]')?.getAttribute('aria-label'))"
    names = page.locator(".chart-plot svg").evaluate_all(label)
    assert names
    assert all(names)
    tip = hover(page)
    assert "Mean sensitivity error [ratio], lower is better" in tip.inner_text()
    page.mouse.move(2, 2)
    tip.wait_for(state="hidden")
    page.locator("#chart-by-method summary").click()
    table = page.locator("#chart-by-method table").first
    table.locator("tbody tr").nth(3).wait_for()  # it is filled when the browser tells that it was opened: a task later
    assert table.locator("thead th").all_text_contents()[:4] == ["Name", "Rows", "Images", "Median"]
    assert table.locator("tbody tr").count() == 4
    assert re.fullmatch(r"[\d.,]+", table.locator("tbody td").nth(2).inner_text())
    assert barriers(page) == []


def test_a_metric_is_chosen(charts):
    page = charts()
    page.locator("#chart-by-method select").select_option("Confidence drop")
    page.locator("#chart-by-method svg text", has_text="Confidence drop").first.wait_for(state="attached")
    captions = page.locator("#chart-by-method .chart-caption")
    assert captions.locator("visible=true").count() == 1
    page.locator("#chart-by-method summary").click()
    negative = re.compile(r"^\u22120[.][0-9]+$")
    page.locator("#chart-by-method td", has_text=negative).first.wait_for(state="attached")


def test_one_switch_acts_on_all_charts_and_is_in_the_address(charts):
    page = charts()
    box = page.get_by_role("checkbox", name="guided_xgrad_cam")
    page.locator("#chart-by-method select").select_option("Box IoU")
    label = page.locator("#chart-by-method svg text", has_text="guided_xgrad_cam").first
    label.wait_for(state="attached")
    page.locator("#chart-costs select").select_option("Box IoU")
    marks = page.locator("#chart-costs .chart-panel").first.locator(".mark-symbol path")
    marks.nth(5).wait_for(state="attached")
    box.uncheck(force=True)
    label.wait_for(state="detached")
    marks.nth(5).wait_for(state="detached")
    assert marks.count() == 5
    page.wait_for_url(lambda url: "hide=guided_xgrad_cam" in url)
    page.reload()
    assert not page.get_by_role("checkbox", name="guided_xgrad_cam").is_checked()
    page.get_by_role("button", name="Show all").click()
    page.wait_for_url(lambda url: "hide" not in url)


def test_names_stay_text(rich_folder, chart_page, open_page, edit_manifest):
    """In axes, hover values and the table of the data, a name that is a script tag is that text."""
    manifest = files.read_json(rich_folder / "manifest.json")
    manifest["methods"]["grad_cam"]["title"] = MARKUP
    manifest["metrics"]["box_iou"]["title"] = MARKUP + "metric"
    edit_manifest(rich_folder, **manifest)
    page = draw_all(open_page(chart_page(RunFolder.read(rich_folder))))
    assert MARKUP in labels(page, "by-method")
    assert MARKUP in hover(page).inner_text()
    page.locator("#chart-by-method summary").click()
    page.locator("#chart-by-method th", has_text=MARKUP).first.wait_for()
    assert MARKUP in page.locator("#chart-by-method th").all_text_contents()


def test_colours_follow_the_theme(charts):
    page = charts(color_scheme="light")
    text = page.locator("#chart-by-method svg text").first
    fills = []
    for media in ({"color_scheme": "light"}, {"color_scheme": "dark"}, {"color_scheme": "dark", "media": "print"}):
        page.emulate_media(**media)
        fills.append(text.evaluate("node => getComputedStyle(node).fill"))
        assert fills[-1] == page.evaluate(SOFT)
    assert fills[1] not in (fills[0], fills[2])


def test_printing_draws_all_charts(undrawn_charts):
    page = undrawn_charts()
    page.pdf()
    drawn = "[...document.querySelectorAll('.chart')].map((chart) => chart.querySelectorAll('svg').length)"
    assert all(page.evaluate(drawn))


def test_a_saved_drawing_stands_alone(charts):
    page = charts()
    with page.expect_download() as waiting:
        page.locator("#chart-axiom-plane .chart-save").first.click()
    assert waiting.value.suggested_filename == "scenes_fc_features.4.svg"
    text = Path(waiting.value.path()).read_text()
    assert text.startswith("<svg")
    assert 'xmlns="http://www.w3.org/2000/svg"' in text
    assert "var(" not in text
