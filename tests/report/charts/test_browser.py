"""The charts in a real browser: chosen from a list, on a phone, in dark mode, and saved."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from axiom_bench.statistics.run_folder import RunFolder

Open = Callable[..., Any]
# The colours of text and of rules, as the browser computes them.
THEME = """() => ["--ink", "--line"].map((name) => {
  const probe = document.body.appendChild(document.createElement("i"));
  probe.style.color = `var(${name})`;
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
})"""


@pytest.fixture(scope="module")
def rich_page(rich_run: RunFolder, tmp_path_factory: pytest.TempPathFactory, write_charts) -> Path:
    return write_charts(rich_run, tmp_path_factory.mktemp("charts"))


@pytest.fixture
def charts(rich_page: Path, open_page: Open) -> Open:
    """A function (**options of open_page) -> the open page of charts."""

    def open_charts(**options: Any) -> Any:
        return open_page(rich_page, **options)

    return open_charts


def texts(page: Any, chart: str) -> list[str]:
    """Return the labels in the visible drawing of a chart."""
    return page.locator(f"#chart-{chart} figure:visible svg text").all_text_contents()


@pytest.mark.parametrize("width", [400, 1280])
def test_every_chart_is_drawn_and_nothing_is_wider_than_a_phone(charts, barriers, width):
    page = charts(viewport={"width": width, "height": 900})
    ids = page.locator(".chart").evaluate_all("charts => charts.map((chart) => chart.id.slice(6))")
    assert sorted(ids) == [
        "agreement",
        "axiom-plane",
        "by-depth",
        "by-method",
        "by-network",
        "costs",
        "curves",
    ]
    for chart in ids:
        svg = page.locator(f"#chart-{chart} figure:visible svg[role=img]")
        for attribute in ("aria-labelledby", "aria-describedby"):
            assert page.locator(f"#{svg.get_attribute(attribute)}").text_content()
        assert svg.bounding_box()["width"] > 100
        overflow = svg.evaluate("node => node.parentNode.scrollWidth - node.parentNode.clientWidth")
        if width > 1000:
            assert overflow <= 0  # no label is cut
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert barriers(page) == []


# The smallest text of each drawing in CSS pixels. Exponents of powers are smaller by design.
SMALLEST = """() => {
  const shown = [...document.querySelectorAll(".chart-plot svg")].filter((svg) => svg.clientWidth);
  const size = (text) => parseFloat(getComputedStyle(text).fontSize);
  return shown.map((svg) => {
    const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
    return scale * Math.min(...[...svg.querySelectorAll("text")].map(size));
  });
}"""


def test_a_phone_shows_text_that_can_be_read_in_a_box_that_scrolls(charts):
    page = charts(viewport={"width": 390, "height": 800})
    sizes = page.evaluate(SMALLEST)
    assert len(sizes) == 7
    assert min(sizes) > 10.9  # a drawing's width is whole pixels
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    plot = page.locator("#chart-by-method .chart-plot:visible")
    assert plot.evaluate("node => node.scrollWidth > node.clientWidth")
    plot.click()
    assert plot.evaluate("node => node.scrollWidth <= node.clientWidth")


def test_a_wide_screen_has_the_caption_next_to_the_drawing(charts):
    page = charts(viewport={"width": 1280, "height": 800})
    for chart in ("by-method", "axiom-plane", "costs"):
        drawing = page.locator(f"#chart-{chart} .chart-plot:visible").bounding_box()
        caption = page.locator(f"#chart-{chart} figcaption:visible").bounding_box()
        assert caption["x"] >= drawing["x"] + drawing["width"]
        assert abs(caption["y"] - drawing["y"]) < 2
        assert caption["width"] >= 200


def test_titles_units_numbers_and_tables(charts):
    page = charts()
    assert "Box IoU, higher is better" in texts(page, "by-method")
    assert "Median sensitivity error [ratio], lower is better" in texts(page, "axiom-plane")
    assert "Mean probability, higher is better" in " ".join(texts(page, "curves"))
    assert "Milliseconds per image, without the shared trace" in texts(page, "costs")
    page.locator("#chart-by-method figure:visible summary").click()
    table = page.locator("#chart-by-method table:visible")
    assert table.locator("thead th").all_text_contents()[:5] == [
        "Network",
        "Name",
        "Rows",
        "Images",
        "Median",
    ]
    assert re.fullmatch(r"[\d.,]+", table.locator("tbody td").nth(3).inner_text())


def test_a_metric_is_chosen(charts):
    page = charts()
    figure = page.locator("#chart-by-method figure:visible")
    assert figure.get_attribute("data-label") == "Box IoU"  # the metric of the most methods
    page.locator("#chart-by-method").get_by_text("Conservation error", exact=True).first.click()
    assert "Conservation error [ratio], lower is better" in texts(page, "by-method")
    assert page.locator("#chart-by-method figcaption:visible").count() == 1


def test_colours_follow_the_theme(charts):
    page = charts(color_scheme="light")
    figure = page.locator("#chart-by-method figure:not([hidden])")

    def colours_in(**media: str) -> list[str]:
        page.emulate_media(**media)
        text = figure.locator("svg text").first
        rule = figure.locator("svg path[style*=line]").first
        colours = [
            text.evaluate("node => getComputedStyle(node).fill"),
            rule.evaluate("node => getComputedStyle(node).stroke"),
        ]
        assert colours == page.evaluate(THEME)
        return colours

    light = colours_in(color_scheme="light")
    dark = colours_in(color_scheme="dark")
    printed = colours_in(color_scheme="dark", media="print")
    assert dark not in (light, printed)


def test_a_saved_drawing_stands_alone(charts):
    page = charts()
    with page.expect_download() as download:
        page.locator("#chart-axiom-plane .chart-save").first.click()
    assert download.value.suggested_filename == "axiom_plane.svg"
    text = Path(download.value.path()).read_text()
    assert text.startswith("<svg")
    assert 'xmlns="http://www.w3.org/2000/svg"' in text
    assert "var(" not in text
