"""A report that is up to date is left as it is; whatever changed, or is damaged, is written again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from axiom_bench import report
from axiom_bench.records import files, sealed, store
from axiom_bench.report import stamp, writing
from axiom_bench.statistics.run_folder import RunFolder
from tests.made_runs import RECORD, records_of, write_run

pytestmark = pytest.mark.usefixtures("undrawn")


FILES = ("figures/by_method_box_iou.png", "figures/by_method_box_iou.pdf", "tables/overview.md", "tables/summary.csv")


def sketch(run: RunFolder, *_: Any) -> None:
    """Files where a report has them, in place of `write_report`."""
    for name in (*FILES, stamp.PAGE):
        files.write(run.path / name, b"a report")


def without_report(folder: Path) -> Path:
    """A run folder of one model and two methods."""
    layers = {"scenes_fc": ("features.9",)}
    records = records_of(6, layers, {"grad_cam": {}, "random": {}})
    return write_run(folder, records[records["metric"] == "box_iou"], layers=layers, pictures=False)


def with_sketch(folder: Path) -> Path:
    """A run folder with a sketch of a report."""
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


@pytest.fixture
def written(folder: Path, writes: Callable[[Path], bool]) -> Callable[[], bool]:
    """() -> does `report.write` write the report of `folder` again?"""
    return partial(writes, folder)


def test_a_current_report_is_left_as_it_is(tmp_path: Path) -> None:
    """With all files of a report."""
    folder = without_report(tmp_path / "run")
    page = report.write(folder)
    before = page.stat().st_mtime_ns
    assert {*FILES, stamp.PAGE} < set(sealed.read_json(folder / stamp.FILE)["outputs"])
    assert report.write(folder) == page
    assert page.stat().st_mtime_ns == before
    (folder / FILES[0]).unlink()
    report.write(folder)
    assert page.stat().st_mtime_ns > before


def damage(name: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(b"damaged")


def remove(name: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).unlink()


def other_value(folder: Path) -> None:
    notes = store.metadata_of((folder / RECORD).read_bytes())
    rows = store.read_table(folder / RECORD, store.SCHEMA).to_pandas()
    store.write(folder / RECORD, rows.assign(value=rows["value"] / 2), metadata=notes)


CHANGES = {
    **{f"damaged {name}": damage(name) for name in (FILES[0], "tables/overview.md", "report.html", stamp.FILE)},
    **{f"without {name}": remove(name) for name in ("report.html", "tables/summary.csv", stamp.FILE)},
    "another value": other_value,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_or_damage_writes_it_again(
    mended: Path, writes: Callable[[Path], bool], change: Callable[[Path], Any]
) -> None:
    assert not writes(mended)
    change(mended)
    assert writes(mended)
    assert not writes(mended)


def test_files_of_the_user_stay_and_do_not_count(folder: Path, written: Callable[[], bool], edit_manifest: Any) -> None:
    """A user keeps a figure of their own beside the report's; it is neither removed nor a reason to write again."""
    edit_manifest(folder, created="2027-01-01T00:00:00+00:00")  # the time of the run alone changes nothing
    own = [folder / "figures/own.png", folder / "tables/notes.csv", folder / "figures/by_method_of_mine.png"]
    for path in own:
        path.write_bytes(b"mine")
    assert not written()
    edit_manifest(folder, config={"target": "label", "report": {"headline": ["box_iou"]}})
    assert written()
    assert not written()
    assert [path.read_bytes() for path in own] == [b"mine"] * 3


def test_what_the_last_report_wrote_goes(folder: Path, written: Callable[[], bool]) -> None:
    """A figure of a metric that is gone does not stay beside the new ones."""
    content = sealed.read_json(folder / stamp.FILE)
    gone = folder / "figures/by_method_gone.png"
    gone.write_bytes(b"of the last report")
    content["outputs"]["figures/by_method_gone.png"] = "0"
    sealed.write_json(folder / stamp.FILE, content)
    assert written()
    assert not gone.exists()


def test_files_of_an_interrupted_report_go(
    folder: Path, written: Callable[[], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = folder / "figures/own.png"
    own.write_bytes(b"mine")
    (folder / "report.html").unlink()
    write = writing.write_report

    def interrupted(run: Any, *others: Any) -> None:
        write(run, *others)
        (folder / "figures/half.png").write_bytes(b"half of the figures were written")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(writing, "write_report", interrupted)
        with pytest.raises(KeyboardInterrupt):
            report.write(folder)
    assert written()
    assert own.read_bytes() == b"mine"
    assert not (folder / "figures/half.png").exists()


@pytest.mark.parametrize("name", ["../outside.png", "manifest.json", RECORD])
def test_a_stamp_from_a_stranger_removes_nothing_else(folder: Path, written: Callable[[], bool], name: str) -> None:
    outside = folder / "../outside.png"
    outside.write_bytes(b"mine")
    sealed.write_json(folder / stamp.FILE, {"inputs": "0", "outputs": {name: "0"}, "headline": []})
    assert written()
    assert outside.is_file()
    assert (folder / "manifest.json").is_file()
    assert (folder / RECORD).is_file()


def test_the_seconds_of_a_report_are_kept_and_the_next_one_shows_them(folder: Path, edit_manifest: Any) -> None:
    seconds = stamp.seconds(folder)
    assert seconds is not None
    assert seconds > 0
    edit_manifest(folder, report_seconds=12.34)  # as the next command writes it
    assert report.write(folder).read_bytes() == b"a report"  # still the sketch
    edit_manifest(folder, config={"target": "label", "report": {"headline": ["box_iou"]}})
    report.write(folder)
    assert "The report before this one took 12.3 s." in (folder / "report.html").read_text()


def test_the_code_that_reads_records_counts_too() -> None:
    """It decides which methods are compared, and on which images."""
    names = {f"{path.parent.name}/{path.name}" for path in stamp.source_files()}
    assert {"records/by_metric.py", "records/reading.py", "tables/summaries.py", "templates/page.html.j2"} <= names
    assert {"static/page.css", "static/page.js", "explanation/overlay.py"} <= names


def test_another_version_writes_it_again(
    folder: Path, written: Callable[[], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stamp, "version", lambda name: "0.0")
    assert written()


def test_a_run_that_was_read_already_is_not_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from axiom_bench.records import reading

    run = RunFolder.read(folder)
    (folder / "report.html").unlink()

    def refuse(*_: Any) -> pd.DataFrame:
        raise AssertionError("records were read twice")

    monkeypatch.setattr(reading, "read_records", refuse)
    assert report.write(run).is_file()
    assert report.headline(run)
