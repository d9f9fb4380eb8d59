"""The leaderboard: pages of a part, of methods and of metrics, their addresses, and how they look
in a browser.
"""

import json
import re
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

import axiom_bench as ab
from axiom_bench.cli import leaderboard as command
from axiom_bench.cli.main import main
from axiom_bench.cli.rank import published_folders
from axiom_bench.environment import conf_folder
from axiom_bench.errors import first_names
from axiom_bench.judging.standing import standing, standings
from axiom_bench.report.leaderboard import conclusions as leaderboard_conclusions
from axiom_bench.report.leaderboard import write
from axiom_bench.report.leaderboard.cards import MOST_TIED
from axiom_bench.report.leaderboard.conclusions import conclusions, conclusions_section
from axiom_bench.report.leaderboard.making import made_part, part_tasks
from axiom_bench.report.leaderboard.parts import Part
from axiom_bench.statistics.labels import number
from axiom_bench.statistics.run_folder import RunFolder
from tests.made_runs import entries_of
from tests.report.conftest import Structure

COSTS = {"grad_cam": 1, "xgrad_cam": 1, "random": 1, "guided_xgrad_cam": 41}
KINDS = (
    ("scenes-1", "scenes"),
    ("shapes-1", "signals"),
    ("shapes-1", "volumes"),
)  # the largest of each kind of images
PAGES = ("index", "suite-1-part", "method-grad_cam", "metrics", "submit", "limits")


def write_board(suites, output, costs=None):
    """Write the pages of these runs, and return their paths."""
    made = [made_part(task) for task in part_tasks(suites, costs)]
    return write(made, output, costs)


@pytest.fixture(scope="module")
def board(usual_run, tmp_path_factory):
    """The folder of a site of one part."""
    output = tmp_path_factory.mktemp("board")
    paths = write_board({"suite-1": {"part": usual_run}}, output, COSTS)
    assert [path.name for path in paths[:2]] == ["index.html", "suite-1-part.html"]
    return output


@pytest.fixture(scope="module")
def usual(usual_run):
    """The usual run, read as if its values were a suite's, as the board shows it."""
    return RunFolder.of_suite(usual_run)


def rows(page, metric):
    """{method: the texts of its row} of a metric's table."""
    section = re.search(rf'<section id="{metric}".*?</section>', page, re.DOTALL)[0]
    found = re.findall(r"<tr><th scope=\"row\".*?</tr>", section, re.DOTALL)
    texts = [
        [re.sub(r"<[^>]*>", "", cell) for cell in re.findall(r"<t[hd][^>]*>.*?</t[hd]>", row)]
        for row in found
    ]
    return {row[0]: row[1:] for row in texts}


@pytest.mark.slow
def test_a_table_has_each_method_s_places_and_its_value_on_each_network(board, usual):
    page = (board / "suite-1-part.html").read_text()
    for metric in ("box_iou", "conservation_error", "confidence_drop"):
        shown = rows(page, metric)
        for method in usual.methods:
            if (each := standings(usual, metric, method)) is None:
                assert usual.metadata.method_title(method) not in shown
                continue
            places, controls, answers, *values = shown[usual.metadata.method_title(method)]
            networks = each.networks.values()
            low = min(one.place_low for one in networks)
            high = max(one.place_high for one in networks)
            groups = max(one.groups for one in networks)
            if low == high or high - low + 1 <= groups / 2:
                assert places == f"{low} to {high} of {groups}"
            else:
                assert re.fullmatch(rf"differs from \d of {groups - 1}", places)
            assert controls == f"{sum(one.beats_controls for one in networks)} of 2"
            images = {"box_iou": 228, "conservation_error": 240, "confidence_drop": 240}[metric]
            is_silent = (method, metric) == ("grad_cam", "confidence_drop")
            assert answers == f"2 of 2, {images - 16 * is_silent} of {images}"
            share = " (93\N{NO-BREAK SPACE}%)" * is_silent
            assert values == [f"{number(one.value)}{share}" for one in networks]


@pytest.mark.slow
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


def test_the_list_of_suites_keeps_their_order_until_a_reader_sorts_by_date(board):
    page = (board / "index.html").read_text(encoding="utf-8")
    assert re.findall(r'<option value="(\w+)">', page) == ["given", "newest", "oldest"]


def test_the_first_section_counts_what_a_visitor_may_conclude(board, usual):
    part = Part("suite-1/part", "suite-1-part.html", usual)
    copy = Part("suite-2/part", "suite-2-part.html", usual)
    counts = conclusions([part, copy])  # the same tables in two suites
    assert counts == conclusions([part])
    leads = [part.lead(metric) for metric in part.standings]
    assert (counts.tables, counts.networks) == (len(leads), 2)
    assert counts.led_by_nobody == sum(not lead.methods for lead in leads)
    assert counts.of_several_networks == sum(bool(lead.methods) for lead in leads)
    assert counts.disagreeing == sum(lead.count == 1 for lead in leads)
    titles = [usual.metadata.method_title(name) for lead in leads for name in lead.methods]
    assert all(titles.count(title) == counts.best_count for title in counts.best_titles)
    assert max(map(titles.count, titles)) == counts.best_count
    page = re.sub(r"<[^>]+>", "", (board / "index.html").read_text())
    assert f"the most tables, alone or with others: {counts.best_count} of {counts.tables}." in page
    assert "No metric passes every test of its scorecard" in page
    assert page.index("You may conclude") < page.index("You may not conclude")
    assert page.index("You may not conclude") < page.index("95 % interval")


def test_the_first_section_names_the_metrics_that_pass_the_scorecard(usual, monkeypatch):
    monkeypatch.setattr(leaderboard_conclusions, "leaders", lambda card: ["gini", "box_iou"])
    body = conclusions_section([Part("suite-1/part", "suite-1-part.html", usual)]).body
    assert "Only these metrics pass every test of the scorecard: gini, box_iou." in body


@pytest.mark.slow
def test_parts_in_several_processes_are_those_of_one(usual_run):
    tasks = part_tasks({"suite-1": {"part": usual_run}, "suite-2": {"part": usual_run}}, COSTS)
    with ProcessPoolExecutor(2, get_context("spawn")) as processes:
        pages = [made.page for made in processes.map(made_part, tasks)]
    assert pages == [made_part(task).page for task in tasks]


@pytest.mark.slow
def test_two_suites_with_the_same_part_have_one_panel_on_the_first_page(usual_run, tmp_path):
    write_board({"suite-1": {"part": usual_run}, "suite-2": {"part": usual_run}}, tmp_path)
    index = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert index.count('href="suite-2-part.html#') == 1
    assert 'href="suite-1-part.html#' not in index
    assert 'href="suite-1-part.html"' in index  # in the list of suites


def test_suites_of_photographs_come_before_drawn_ones():
    suites = ["scenes-1", "photographs-1", "baselines-1", "photographs-2", "shapes-1"]
    shares = [command._share_of_photographs(published_folders(suite)) for suite in suites]
    assert shares == [0, 1, pytest.approx(1 / 3), 1, 0]


def broken_links(folder):
    """Return the links of all pages that lead to no page of the folder, or to no id in it."""
    pages = {path.name: Structure(path.read_text()) for path in folder.glob("*.html")}
    ids = {
        name: {about["id"] for _, about in page.elements if "id" in about}
        for name, page in pages.items()
    }
    links = {(name, link["href"]) for name, page in pages.items() for link in page.all("a")}
    broken = []
    for name, link in links:
        file, _, anchor = link.partition("#")
        is_here = (file or name) in pages and (not anchor or anchor in ids[file or name])
        broken += [] if is_here or file.startswith("https://") else [(name, link)]
    return broken


def test_each_method_has_a_page_with_its_cost_its_places_and_its_ties(board, usual):
    for method in usual.methods:
        page = (board / f"method-{method}.html").read_text()
        shown = {title.rstrip("↑↓ "): cells for title, cells in rows(page, "suite-1-part").items()}
        each = [standing(usual, setting, "box_iou", method) for setting in usual.settings]
        always = set.intersection(*(set(one.tied) for one in each))
        titles = [usual.metadata.method_title(name) for name in usual.methods if name in always]
        assert shown["Box IoU"][4] == (first_names(titles, MOST_TIED, "; ") or "none")
        assert (
            shown["Box IoU"][0]
            == rows((board / "suite-1-part.html").read_text(), "box_iou")[method][0]
        )
    guided = (board / "method-guided_xgrad_cam.html").read_text()
    assert (
        "41 passes of the whole network, with the trace's, for an image and a layer of 512 "
        "channels." in guided.replace("&#39;", "'")
    )
    assert "Cost" not in (board / "method-hires_cam.html").read_text()
    assert broken_links(board) == []


@pytest.fixture(scope="module")
def committed(tmp_path_factory):
    """The site of the committed values, as `make leaderboard` builds it, with a gallery of each
    kind of images.
    """
    site = tmp_path_factory.mktemp("committed")
    with pytest.MonkeyPatch.context() as patch:
        tasks_of = command._gallery_tasks

        def some_tasks(parts, methods):
            return [task for task in tasks_of(parts, methods) if (task.suite, task.part) in KINDS]

        patch.setattr(command, "_gallery_tasks", some_tasks)
        assert main(["leaderboard", "--output", str(site)]) == 0
    return site


@pytest.mark.slow
def test_the_leaderboard_of_the_committed_values_is_whole(committed):
    folders = (conf_folder().with_name("reference")).glob("*/*/manifest.json")
    parts = {f"{path.parts[-3]}-{path.parts[-2]}.html" for path in folders}
    assert parts
    assert parts <= {path.name for path in committed.iterdir()}
    index = (committed / "index.html").read_text(encoding="utf-8")
    names = re.findall(r'<a href="([\w-]+)\.html#[^"]*">', index)
    # photographs-1 is a part of photographs-2, which shows its panels
    assert names.index("photographs-2-boxes") == 0
    assert "photographs-1-boxes" not in names
    assert names.index("photographs-2-boxes") < names.index("scenes-1-scenes")
    assert index.count('alt="Map of') > 20
    assert broken_links(committed) == []
    assert max(path.stat().st_size for path in committed.iterdir()) < 1_000_000
    found = (
        "104 or 105 or 111 or 114 of 120 annotated objects are found"  # networks find other objects
    )
    assert found in (committed / "dense-1-segmenter.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_no_page_of_the_committed_values_is_longer_than_ten_screens(committed, open_page):
    page = open_page(committed / "index.html", viewport={"width": 1280, "height": 800})
    for path in sorted(committed.glob("*.html")):
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollHeight") <= 8000, path.name


def test_the_first_screen_says_who_leads_on_how_much_and_how_sure(board, open_page):
    leads = re.compile(
        r"(on [12] of 2 networks, (places \d to \d of \d|differs from \d of \d methods)|Nobody: )"
        r"[^$]*95 % interval, n = \d+ images"
    )
    for name in ("index", "suite-1-part"):
        page = open_page(board / f"{name}.html", viewport={"width": 1280, "height": 800})
        panel = page.locator(".board-leads article", has_text=leads).first
        assert panel.locator("circle").count() == panel.locator(".findings-name").count() >= 2
        assert panel.evaluate("node => node.getBoundingClientRect().bottom") <= 800


def test_paper_has_all_columns_the_chart_and_what_is_folded(board, open_page):
    page = open_page(
        board / "suite-1-part.html", viewport={"width": 1030, "height": 720}, color_scheme="dark"
    )
    page.evaluate("for (const fold of document.querySelectorAll('.page-fold')) fold.open = false")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert all(page.locator(name).last.is_visible() for name in ("#box_iou td", "#board-chart svg"))
    assert page.evaluate("document.documentElement.scrollWidth") <= 1030


@pytest.mark.slow
def test_a_card_says_what_a_method_wins_by_construction_and_where_it_fails(
    make_run, make_records, edit_manifest, tmp_path
):
    run = make_run(make_records(30))
    about = {
        "wins_by_construction": ["sensitivity_error"],
        "exempt": {"a_check": "its weights are drawn"},
        "description": "w_k = 1 -> (B, K, 1, 1).",
    }
    manifest = entries_of(run)
    edit_manifest(run, methods=manifest["methods"] | {"grad_cam": about})
    write_board({"suite-1": {"part": run}}, tmp_path / "board")
    page = (tmp_path / "board/method-grad_cam.html").read_text()
    assert "Sensitivity error: best by the method&#39;s own formula" in page
    assert "Fails the check a_check: its weights are drawn." in page
    assert "Family</dt><dd>One weight a channel" in page
    assert "Sensitivity error ↓" not in rows(page, "suite-1-part")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_has_no_barrier_and_fits_a_phone(board, open_page, barriers, scheme):
    for name in PAGES:
        size = {"width": 400, "height": 800}
        page = open_page(
            board / f"{name}.html", viewport=size, color_scheme=scheme, bypass_csp=True
        )
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        assert barriers(page) == []


def test_an_address_leads_to_a_metric_and_a_method_to_its_page(board, open_page):
    page = open_page(f"{board / 'suite-1-part.html'}#box_iou")
    page.locator("#box_iou").wait_for()
    assert 0 <= page.locator("#box_iou").bounding_box()["y"] < 200
    page.locator("#box_iou tbody a").first.click()
    page.wait_for_url("**/method-*.html")
    page.locator('a[href="index.html"]').click()
    page.get_by_role("heading", name="Which method explains a CNN faithfully?").wait_for()


def test_the_filter_is_of_all_tables(board, open_page):
    page = open_page(board / "suite-1-part.html")
    page.get_by_label("Search").fill("hires")
    page.locator("#board-filter", has_text="1 of 6").wait_for()
    assert page.locator("#box_iou tbody tr:visible").all_inner_texts()[0].startswith("hires_cam")
    assert page.locator("#box_iou tbody tr:visible").count() == 1
    page.get_by_label("Search").fill("")
    assert page.locator("#box_iou tbody tr:visible").count() == 6


def test_the_front_has_what_none_is_as_cheap_and_better_than(board, usual, open_page):
    """Check which of the four methods with a cost are on the front, for both directions."""
    page = open_page(board / "suite-1-part.html")
    for metric, best in (("Box IoU", max), ("Conservation error", min)):
        name = next(name for name in usual.metrics if usual.metadata.value(name).title == metric)
        page.locator("#board-axes select").first.select_option(metric)
        page.locator("#board-chart svg .board-title", has_text=metric).wait_for()
        places = {method: standing(usual, usual.settings[0], name, method) for method in COSTS}
        values = {method: place.value for method, place in places.items() if place}
        front = {
            method
            for method, value in values.items()
            if value == best(values[other] for other in values if COSTS[other] <= COSTS[method])
        }
        page.locator("#cost summary").click()
        table = page.locator("#board-points tbody tr").all()
        cells = {
            row.locator("th").inner_text(): row.locator("td").all_inner_texts() for row in table
        }
        assert {method for method, texts in cells.items() if texts[2] == "yes"} == front
        assert cells.keys() == values.keys()
        page.locator("#cost summary").click()
        assert page.locator("#board-chart circle").count() == len(values)


def test_nothing_is_ranked_until_a_reader_sets_a_weight_which_the_address_keeps(board, open_page):
    page = open_page(board / "suite-1-part.html")
    assert page.locator("#board-ranked").is_hidden()
    page.get_by_role("spinbutton", name="Box IoU").fill("2")
    page.get_by_role("spinbutton", name="Confidence drop").fill("1")
    page.locator("#board-weighted", has_text="Your weighting").wait_for()
    data = json.loads(page.locator("#board").text_content())
    places = {metric["name"]: metric["places"] for metric in data["metrics"]}
    means = [
        (2 * box + drop) / 3
        for box, drop in zip(places["box_iou"], places["confidence_drop"], strict=True)
    ]
    titles = [method["title"] for method in data["methods"]]
    shown = [
        row.locator("td").last.inner_text() for row in page.locator("#board-ranked tbody tr").all()
    ]
    assert [float(text) for text in shown] == pytest.approx(sorted(means), abs=0.005)
    first = page.locator("#board-ranked tbody th").first.inner_text()
    assert means[titles.index(first)] == min(means)
    assert page.url.endswith("#weights=box_iou:2,confidence_drop:1")
    again = open_page(
        f"{board / 'suite-1-part.html'}#weights=box_iou:2,confidence_drop:1,other:3,box_iou:x"
    )
    again.locator("#board-weighted", has_text="Confidence drop 1").wait_for()
    page.get_by_role("button", name="All 0").click()
    page.locator("#board-weighted", has_text="Nothing is ranked").wait_for()
    assert "weights=" not in page.url


@pytest.mark.slow
def test_a_method_that_lacks_a_network_stands_where_it_applies_and_has_no_place_in_a_weighting(
    make_run, make_records, tmp_path
):
    records = make_records(30)
    lacks = (records["method"] == "hires_cam") & (records["model"] == "scenes_fc")
    write_board({"suite-1": {"part": make_run(records[~lacks])}}, tmp_path / "board")
    page = (tmp_path / "board/suite-1-part.html").read_text()
    *_, (title, cells) = rows(page, "box_iou").items()
    assert (title, cells[0][0], cells[2], cells[3]) == (
        "hires_cam",
        "(",
        "1 of 2, 29 of 58",
        "\N{EN DASH}",
    )
    data = json.loads(Structure(page).data["board"])
    row = [method["name"] for method in data["methods"]].index("hires_cam")
    places = {metric["name"]: metric["places"] for metric in data["metrics"]}["box_iou"]
    assert [place is None for place in places] == [number == row for number in range(len(places))]


@pytest.mark.slow
def test_a_gallery_shows_the_published_values(committed):
    suite, part = KINDS[0]
    page = (committed / f"{suite}-{part}-gallery.html").read_text(encoding="utf-8")
    data = json.loads(
        re.search(r'<script[^>]*id="gallery-data"[^>]*>(.*?)</script>', page, re.DOTALL)[1]
    )
    published = ab.read_run(conf_folder().with_name("reference") / suite / part)
    metrics = [metric["title"] for metric in data["metrics"]]
    titles = [method["title"] for method in data["methods"]]
    place = metrics.index("Sensitivity error")
    grad_cam = str(titles.index("Grad-CAM"))
    rows = published[(published.method == "grad_cam") & (published.metric == "sensitivity_error")]
    assert data["images"]
    for image in data["images"]:
        model = data["settings"][image["setting"]]["label"]
        row = rows[(rows.model == model) & (rows.image_id == image["id"])]
        row = row[row.target_class == image["target"][0]]
        assert image["values"][place][grad_cam][0] == pytest.approx(row.value.item(), rel=1e-5)
