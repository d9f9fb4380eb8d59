"""The index of all runs: what it lists, in which order, what it leaves out, and how it is
searched.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from axiom_bench import report
from axiom_bench.errors import BenchError
from axiom_bench.records import artefacts
from axiom_bench.report import index
from tests.made_runs import METHODS, MODELS, records_of

pytestmark = pytest.mark.usefixtures("undrawn")
FIRST, SECOND = "2026-01-02T03:04:05+00:00", "2026-01-02T05:04:05+01:00"
MARKUP = "<i>run"


@pytest.fixture
def results(tmp_path: Path, make_run, edit_manifest) -> Path:
    """Two runs, the second without a report, and folders that are none."""
    records = records_of(12, {"net": ("last",)}, {"good_cam": {}, "bad_cam": {}})
    for name, created in (("quick/default", FIRST), (f"voc/{MARKUP}", SECOND)):
        folder = make_run(records, f"results/{name}", layers={"net": ("last",)}, pictures=False)
        edit_manifest(folder, experiment=name.partition("/")[0], run=folder.name, created=created)
    (tmp_path / "results/notes").mkdir()
    return tmp_path / "results"


def named(page: str) -> list[str]:
    return re.findall(r"<h3>(.*?)</h3>", page)


def left_out(page: str) -> dict[str, str]:
    return dict(re.findall(r"<li><code>(.*?)</code>: (.*?)</li>", page))


@pytest.mark.slow
def test_a_report_writes_the_index_of_all_runs_beside_it(results):
    report.write(results / "quick/default")
    page = (results / index.NAME).read_text()
    assert named(page) == [
        "voc/&lt;i&gt;run",
        '<a href="quick/default/report.html">quick/default</a>',
    ]
    assert "no report yet" in page
    assert "2026-01-02 04:04 UTC" in page
    assert "<dd>scenes (n = 12)</dd>" in page
    assert left_out(page) == {}
    (results / index.NAME).unlink()
    report.write(results / "quick/default")  # the same again
    assert (results / index.NAME).read_text() == page
    report.write(results / "voc" / MARKUP)
    assert named((results / index.NAME).read_text())[0].startswith(
        '<a href="voc/%3Ci%3Erun/report.html">'
    )


@pytest.mark.slow
def test_the_conclusion_is_the_report_s_title(results, make_run, edit_manifest):
    folder = make_run(records_of(120, MODELS, METHODS), "results/quick/more")
    edit_manifest(folder, experiment="quick", run="more")
    page = report.write(folder).read_text()
    title = re.search(r"<h1>(.*?)</h1>", page)
    assert title is not None
    start = "Use grad_cam on scenes_fc and scenes_residual: it has the lowest conservation error"
    assert title[1].startswith(start)
    assert f'<p class="index-conclusion">{title[1]}</p>' in (results / index.NAME).read_text()


def test_what_is_broken_foreign_or_half_written_is_named(results):
    for name, text in (
        ("broken", "{"),
        ("foreign", '{"a": 1}'),
        ("older", '{"experiment": "a", "run": "b"}'),
    ):
        (results / "voc" / name).mkdir()
        (results / "voc" / name / artefacts.NAME).write_text(text)
    (results / "voc/begun/running").mkdir(parents=True)
    (results / "voc/pipe" / artefacts.NAME).mkdir(parents=True)
    for path in results.rglob("*.parquet"):  # no records are read
        path.unlink()
    page = index.page(results)
    assert len(named(page)) == 2
    reasons = left_out(page)
    assert list(reasons) == [
        f"voc/{name}" for name in ("begun", "broken", "foreign", "older", "pipe")
    ]
    assert "hasn&#39;t ended" in reasons["voc/begun"]
    assert "can&#39;t be read" in reasons["voc/broken"]
    assert "isn&#39;t a run&#39;s manifest" in reasons["voc/foreign"]
    assert "another version" in reasons["voc/older"]


@pytest.mark.slow
def test_a_folder_elsewhere_and_a_page_of_a_user_s_own_are_left_alone(results, tmp_path, capsys):
    moved = (results / "quick/default").rename(tmp_path / "elsewhere")
    report.write(moved)
    assert not list(tmp_path.glob("*.html"))
    (results / "quick").mkdir(exist_ok=True)
    moved.rename(results / "quick/default")
    (results / index.NAME).write_text("mine")
    assert report.write(results / "quick/default").exists()
    assert (results / index.NAME).read_text() == "mine"
    assert "is another page, and stays" in capsys.readouterr().err


@pytest.mark.slow
def test_where_it_cannot_be_written_the_report_is_there(results, capsys, monkeypatch):
    write = index.files.write

    def refuse(path: Path, content: bytes) -> None:
        if path.name == index.NAME:
            raise BenchError(f"Can't write {path}.")
        write(path, content)

    report.write(results / "quick/default")
    (results / index.NAME).unlink()
    with monkeypatch.context() as patch:
        patch.setattr(index.files, "write", refuse)
        assert report.write(results / "quick/default").exists()
    assert capsys.readouterr().err.startswith("axiom-bench: no index of all runs: Can't write")


def test_the_page_is_searched_and_sorted(results, open_page):
    report.write(results / "quick/default")
    page = open_page(
        results / index.NAME, viewport={"width": 400, "height": 800}, color_scheme="dark"
    )
    names = page.locator("h3:visible")
    assert names.all_inner_texts() == [f"voc/{MARKUP}", "quick/default"]
    page.get_by_label("Sort").select_option("oldest")
    assert names.all_inner_texts() == ["quick/default", f"voc/{MARKUP}"]
    page.get_by_label("Search").fill("NET quick")
    assert names.all_inner_texts() == ["quick/default"]
    assert page.get_by_role("status").last.inner_text() == "1 of 2"
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    names.first.get_by_role("link").click()
    page.wait_for_url("**/report.html")
    assert "experiment quick" in page.title()


def test_two_that_write_at_once_leave_a_whole_file(results):
    folder = results / "quick/default"
    manifest = artefacts.read(folder)
    with ThreadPoolExecutor(2) as threads:
        written = [threads.submit(index.update, folder, manifest) for _ in range(10)]
        while not all(each.done() for each in written):
            if (results / index.NAME).exists():
                assert (results / index.NAME).read_text().endswith("</html>")
    assert [path.name for path in results.iterdir() if path.is_file()] == [index.NAME]
