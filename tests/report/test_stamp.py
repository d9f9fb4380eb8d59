"""A report that is up to date is left as it is; whatever changed, or is damaged, is written again."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from axiom_bench import report
from axiom_bench.records import files, reading, store
from axiom_bench.report import stamp, writing
from axiom_bench.statistics.run_folder import RunFolder
from tests.made_runs import RECORD, records_of, write_run

pytestmark = pytest.mark.usefixtures("undrawn")

FILES = ("figures/by_method_box_iou.png", "tables/overview.md", "tables/summary.csv")
OTHER_CONFIG = {"target": "label", "report": {"headline": ["box_iou"]}}


def sketch(run: RunFolder, *_: Any) -> None:
    """Files where a report has them, in place of `write_report`."""
    for name in (*FILES, stamp.PAGE):
        files.write(run.path / name, b"a report")


def without_report(folder: Path) -> Path:
    layers = {"scenes_fc": ("features.9",)}
    records = records_of(6, layers, {"grad_cam": {}, "random": {}})
    return write_run(folder, records[records["metric"] == "box_iou"], layers=layers, pictures=False)


def with_sketch(folder: Path) -> Path:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(writing, "write_report", sketch)
        report.write(without_report(folder))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return with_sketch(tmp_path / "run")


@pytest.fixture(scope="module")
def mended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for tests that leave it with a current sketch."""
    return with_sketch(tmp_path_factory.mktemp("mended") / "run")


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], bool]:
    """(folder) -> does `report.write` write the report again? A sketch of it."""
    calls: list[Path] = []
    monkeypatch.setattr(writing, "write_report", lambda run, *_: (calls.append(run.path), sketch(run)))

    def again(folder: Path) -> bool:
        calls.clear()
        assert report.write(folder) == folder / "report.html"
        return bool(calls)

    return again


@pytest.mark.slow
def test_a_current_report_is_left_as_it_is(tmp_path):
    folder = without_report(tmp_path / "run")
    page = report.write(folder)
    before = page.stat().st_mtime_ns
    assert {*FILES, stamp.PAGE} < set(files.read_json(folder / stamp.FILE)["outputs"])
    assert report.write(folder) == page
    assert page.stat().st_mtime_ns == before
    (folder / FILES[0]).unlink()
    report.write(folder)
    assert page.stat().st_mtime_ns > before


@pytest.mark.parametrize("name", [FILES[0], "tables/overview.md", "tables/summary.csv", "report.html", stamp.FILE])
@pytest.mark.parametrize("change", [lambda file: file.write_bytes(b"damaged"), Path.unlink], ids=["damaged", "absent"])
def test_a_damaged_or_absent_file_writes_it_again(mended, writes, name, change):
    change(mended / name)
    assert writes(mended)
    assert not writes(mended)


def test_another_value_or_version_writes_it_again(mended, writes, edit_manifest, monkeypatch):
    rows = store.read_table(mended / RECORD, store.SCHEMA).to_pandas()
    notes = store.metadata_of((mended / RECORD).read_bytes())
    store.write(mended / RECORD, rows.assign(value=rows["value"] / 2), metadata=notes)
    edit_manifest(mended, sha256={})
    assert writes(mended)
    with monkeypatch.context() as patched:
        patched.setattr(stamp, "version", lambda name: "0.0")
        assert writes(mended)
    assert writes(mended)


def test_files_of_the_user_stay_and_do_not_count(folder, writes, edit_manifest):
    edit_manifest(folder, created="2027-01-01T00:00:00+00:00")  # the time of the run alone changes nothing
    added = [folder / "figures/own.png", folder / "tables/notes.csv", folder / "figures/by_method_of_mine.png"]
    for path in added:
        path.write_bytes(b"mine")
    assert not writes(folder)
    edit_manifest(folder, config=OTHER_CONFIG)
    assert writes(folder)
    assert not writes(folder)
    assert [path.read_bytes() for path in added] == [b"mine"] * 3


def test_what_the_last_report_wrote_goes(folder, writes):
    """A figure of a metric that is gone does not stay beside the new ones."""
    content = files.read_json(folder / stamp.FILE)
    gone = folder / "figures/by_method_gone.png"
    gone.write_bytes(b"of the last report")
    content["outputs"]["figures/by_method_gone.png"] = "0"
    files.write_json(folder / stamp.FILE, content)
    assert writes(folder)
    assert not gone.exists()


def test_files_of_an_interrupted_report_go(folder, writes, monkeypatch):
    (folder / "figures/own.png").write_bytes(b"mine")
    (folder / "report.html").unlink()

    def interrupted(run: Any, *_: Any) -> None:
        sketch(run)
        (folder / "figures/half.png").write_bytes(b"half of the figures were written")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(writing, "write_report", interrupted)
        with pytest.raises(KeyboardInterrupt):
            report.write(folder)
    assert writes(folder)
    assert (folder / "figures/own.png").read_bytes() == b"mine"
    assert not (folder / "figures/half.png").exists()


@pytest.mark.parametrize("name", ["../outside.png", "manifest.json", RECORD])
def test_a_stamp_from_a_stranger_removes_nothing_else(mended, writes, name):
    (mended / "../outside.png").write_bytes(b"mine")
    files.write_json(mended / stamp.FILE, {"inputs": "0", "outputs": {name: "0"}, "headline": []})
    assert writes(mended)
    assert all((mended / file).is_file() for file in ("../outside.png", "manifest.json", RECORD))


def test_the_seconds_of_a_report_are_kept_and_the_next_one_shows_them(folder, edit_manifest):
    assert stamp.seconds(folder) > 0
    edit_manifest(folder, report_seconds=12.34)  # as the next command writes it
    assert report.write(folder).read_bytes() == b"a report"  # still the sketch
    edit_manifest(folder, config=OTHER_CONFIG)
    assert "The report before this one took 12.3 s." in report.write(folder).read_text()


def test_the_order_in_which_a_manifest_says_it_decides_nothing(folder):
    manifest = reading.read_manifest(folder)
    turned = dict(reversed(manifest.items()))
    assert list(turned) != list(manifest)
    assert stamp.inputs(folder, turned) == stamp.inputs(folder, manifest)


def test_the_source_of_all_that_decides_a_page_counts():
    """Of other rooms those from which a counted file imports: statistics and judging were missing for a while."""
    counted = stamp.source_files()
    names = {f"{path.parent.name}/{path.name}" for path in counted}
    assert {"records/by_metric.py", "records/reading.py", "tables/summaries.py", "templates/page.html.j2"} <= names
    assert {"static/page.css", "static/page.js", "explanation/overlay.py", "statistics/run_folder.py"} <= names
    bench = Path(stamp.__file__).parents[1]
    sources = [path.read_text() for path in counted if path.suffix == ".py"]
    imported = {name for text in sources for name in re.findall(r"\b(?:from|import) axiom_bench\.(\w+)", text)}
    rooms = {name for name in imported if (bench / name).is_dir()}  # not the top's modules of names and errors
    assert rooms == {"explanation", *stamp.PACKAGES}  # of explanation the overlay alone
    assert set(re.findall(r"axiom_bench\.explanation\.\w+", "".join(sources))) == {"axiom_bench.explanation.overlay"}


def test_a_run_that_was_read_already_is_not_read_again(folder, monkeypatch):
    run = RunFolder.read(folder)
    (folder / "report.html").unlink()
    monkeypatch.setattr(reading, "read_records", None)
    assert report.write(run).is_file()
    assert report.headline(run)
