"""The charts in a real browser: drawn, switched, hovered, printed, on a phone and in the dark."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from axiom_bench.records import artefacts as manifest_file
from axiom_bench.records import sealed
from axiom_bench.statistics.run_folder import RunFolder

PHONE = {"viewport": {"width": 400, "height": 800}}
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


@pytest.fixture
def charts(rich_run: RunFolder, chart_page: Callable[[RunFolder], Path], open_page: Open) -> Open:
    """(**options) -> the open page, with all charts drawn."""
    path = chart_page(rich_run)

    def open_(**options: Any) -> Any:
        page = open_page(path, **options)
        draw_all(page)
        return page

    return open_


def draw_all(page: Any) -> None:
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    page.wait_for_function("[...document.querySelectorAll('.chart-plot')].every((plot) => plot.querySelector('svg'))")


def labels(page: Any, chart: str) -> list[str]:
    """The texts in the first panel of a chart."""
    return page.locator(f"#chart-{chart} .chart-panel").first.locator("svg text").all_text_contents()


def test_charts_are_drawn_when_they_come_into_sight(rich_run: RunFolder, chart_page: Any, open_page: Open) -> None:
    page = open_page(chart_page(rich_run))
    page.wait_for_selector("#chart-by-depth svg")
    assert page.locator("#chart-agreement svg").count() == 0
    page.locator("#chart-agreement").scroll_into_view_if_needed()
    page.wait_for_selector("#chart-agreement svg")


@pytest.mark.parametrize("width", [400, 1280])
def test_drawing_moves_nothing(rich_run: RunFolder, chart_page: Any, open_page: Open, width: int) -> None:
    page = open_page(chart_page(rich_run), viewport={"width": width, "height": 900})
    tops = "all => all.map((chart) => chart.getBoundingClientRect().top + scrollY)"
    before = page.locator(".chart").evaluate_all(tops)
    assert page.locator("#chart-agreement svg").count() == 0
    draw_all(page)
    assert page.locator(".chart").evaluate_all(tops) == pytest.approx(before, abs=2)


def test_titles_have_units_and_direction(charts: Open) -> None:
    page = charts()
    assert "Conservation error [ratio], lower is better" in labels(page, "by-method")
    assert "Mean sensitivity error [ratio], lower is better" in labels(page, "axiom-plane")
    assert "Mean probability, higher is better" in labels(page, "curves")
    assert "Milliseconds an image, with the trace" in labels(page, "costs")


def test_a_metric_is_chosen(charts: Open) -> None:
    page = charts()
    page.locator("#chart-by-method select").select_option("Confidence drop")
    page.locator("#chart-by-method svg text", has_text="Confidence drop").first.wait_for(state="attached")
    captions = page.locator("#chart-by-method .chart-caption")
    assert captions.locator("visible=true").count() == 1
    page.locator("#chart-by-method summary").click()
    negative = re.compile(r"^\u22120[.][0-9]+$")
    page.locator("#chart-by-method td", has_text=negative).first.wait_for(state="attached")


def test_one_switch_acts_on_all_charts_and_is_in_the_address(charts: Open) -> None:
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
    assert "hide=guided_xgrad_cam" in page.url
    page.reload()
    assert not page.get_by_role("checkbox", name="guided_xgrad_cam").is_checked()
    page.get_by_role("button", name="Show all").click()
    assert "hide" not in page.url


def test_hover_shows_the_numbers(charts: Open) -> None:
    page = charts()
    page.locator("#chart-axiom-plane .mark-symbol path").first.hover(force=True)
    tip = page.locator(".chart-tip")
    tip.wait_for(state="visible")
    assert "Mean sensitivity error [ratio], lower is better" in tip.inner_text()
    page.mouse.move(2, 2)
    tip.wait_for(state="hidden")


def test_names_stay_text(rich_folder: Path, chart_page: Any, open_page: Open) -> None:
    """In axes, hover values and the table of the data, a name that is a script tag is that text."""
    manifest = sealed.read_json(rich_folder / "manifest.json")
    manifest["methods"]["grad_cam"]["title"] = MARKUP
    manifest["metrics"]["box_iou"]["title"] = MARKUP + "metric"
    manifest_file.write(rich_folder, manifest)
    page = open_page(chart_page(RunFolder.read(rich_folder)))
    draw_all(page)
    assert MARKUP in labels(page, "by-method")
    page.locator("#chart-axiom-plane .mark-symbol path").first.hover(force=True)
    page.locator(".chart-tip").wait_for(state="visible")
    assert MARKUP in page.locator(".chart-tip").inner_text()
    page.locator("#chart-by-method summary").click()
    assert MARKUP in page.locator("#chart-by-method th").all_text_contents()


def test_each_drawing_has_a_text_alternative_and_its_data_as_a_table(charts: Open) -> None:
    page = charts()
    label = "nodes => nodes.map((node) => node.closest('[aria-label]')?.getAttribute('aria-label'))"
    names = page.locator(".chart-plot svg").evaluate_all(label)
    assert names
    assert all(names)
    page.locator("#chart-by-method summary").click()
    table = page.locator("#chart-by-method table").first
    assert table.locator("thead th").all_text_contents()[:4] == ["Name", "Rows", "Images", "Median"]
    assert table.locator("tbody tr").count() == 4
    assert re.fullmatch(r"[\d.,]+", table.locator("tbody td").nth(2).inner_text())


def test_on_a_phone_nothing_is_wider_than_the_page(charts: Open) -> None:
    page = charts(**PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    for width in page.locator(".chart-plot svg").evaluate_all("nodes => nodes.map((node) => node.clientWidth)"):
        assert 100 < width <= 400


def test_colours_follow_the_theme(charts: Open) -> None:
    page = charts(color_scheme="light")
    text = page.locator("#chart-by-method svg text").first
    fills = []
    for media in ({"color_scheme": "light"}, {"color_scheme": "dark"}, {"color_scheme": "dark", "media": "print"}):
        page.emulate_media(**media)
        fills.append(text.evaluate("node => getComputedStyle(node).fill"))
        assert fills[-1] == page.evaluate(SOFT)
    assert fills[1] not in (fills[0], fills[2])


def test_printing_draws_all_charts(rich_run: RunFolder, chart_page: Any, open_page: Open) -> None:
    page = open_page(chart_page(rich_run))
    page.pdf()
    drawn = "[...document.querySelectorAll('.chart')].map((chart) => chart.querySelectorAll('svg').length)"
    assert all(page.evaluate(drawn))


def test_a_saved_drawing_stands_alone(charts: Open) -> None:
    page = charts()
    with page.expect_download() as waiting:
        page.locator("#chart-axiom-plane .chart-save").first.click()
    assert waiting.value.suggested_filename == "scenes_fc_features.4.svg"
    text = Path(waiting.value.path()).read_text()
    assert text.startswith("<svg")
    assert 'xmlns="http://www.w3.org/2000/svg"' in text
    assert "var(" not in text


def test_axe_finds_nothing_serious(charts: Open, barriers: Any) -> None:
    page = charts()
    page.locator("#chart-by-method summary").click()
    assert barriers(page) == []
