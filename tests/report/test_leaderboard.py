"""The leaderboard: places and values of a run's methods, addresses, and how it looks in a browser."""

import re

import pytest

from axiom_bench.judging.standing import standing
from axiom_bench.report.leaderboard import write
from axiom_bench.statistics.labels import number


@pytest.fixture(scope="module")
def board(usual_run, tmp_path_factory):
    """The folder of a site of one part."""
    output = tmp_path_factory.mktemp("board")
    assert [path.name for path in write({"suite-1": {"part": usual_run}}, output)] == [
        "index.html",
        "suite-1-part.html",
    ]
    return output


def rows(page, metric):
    """{method: the texts of its row} of a metric's table."""
    section = re.search(rf'<section id="{metric}".*?</section>', page, re.DOTALL)[0]
    found = re.findall(r"<tr><th scope=\"row\".*?</tr>", section, re.DOTALL)
    texts = [[re.sub(r"<[^>]*>", "", cell) for cell in re.findall(r"<t[hd][^>]*>.*?</t[hd]>", row)] for row in found]
    return {row[0]: row[1:] for row in texts}


def test_a_table_has_each_method_s_places_and_its_value_on_each_network(board, usual):
    page = (board / "suite-1-part.html").read_text()
    for metric in ("box_iou", "conservation_error"):
        shown = rows(page, metric)
        for method in usual.methods:
            each = [standing(usual, setting, metric, method) for setting in usual.settings]
            if None in each:
                assert usual.metadata.method_title(method) not in shown
                continue
            places, controls, *values = shown[usual.metadata.method_title(method)]
            low, high = min(one.place_low for one in each), max(one.place_high for one in each)
            assert places == f"{low} to {high} of {max(one.groups for one in each)}"
            assert controls == f"{sum(one.beats_controls for one in each)} of {len(each)}"
            assert values == [number(one.value) for one in each]


def test_the_best_stands_first_and_what_is_not_worse_is_bold(board, usual):
    page = (board / "suite-1-part.html").read_text()
    first = next(iter(rows(page, "box_iou")))
    best = usual.comparisons.of(usual.settings[0], "box_iou").ranked[0]
    assert first in {usual.metadata.method_title(name) for name in best}
    assert re.search(rf"{re.escape(first)}.*?<strong>", page, re.DOTALL)


def test_the_first_page_names_the_parts_their_origin_and_the_limits(board):
    page = (board / "index.html").read_text()
    assert '<a href="suite-1-part.html">suite-1/part</a>' in page
    assert "commit 01234567, torch 2.13.0" in page
    assert "There is no total" in page
    assert len(page) < 100_000


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_has_no_barrier_and_fits_a_phone(board, open_page, barriers, scheme):
    for name in ("index", "suite-1-part"):
        size = {"width": 400, "height": 800}
        page = open_page(board / f"{name}.html", viewport=size, color_scheme=scheme, bypass_csp=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        assert barriers(page) == []


def test_an_address_leads_to_a_metric_and_a_method_to_its_definition(board, open_page):
    page = open_page(f"{board / 'suite-1-part.html'}#box_iou")
    page.locator("#box_iou").wait_for()
    assert 0 <= page.locator("#box_iou").bounding_box()["y"] < 200
    page.locator("#box_iou tbody a").first.click()
    page.wait_for_url(lambda url: "#method-" in url)
    page.locator('a[href="index.html"]').click()
    page.get_by_role("heading", name="Which method explains a CNN faithfully?").wait_for()
