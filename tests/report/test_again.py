"""Reports that are written again: the report's own files are replaced, and all others stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from axiom_bench import report
from axiom_bench.records import files, reading
from axiom_bench.report import summary, writing
from axiom_bench.statistics.run_folder import RunFolder
from tests.made_runs import RECORD, records_of, write_run

pytestmark = pytest.mark.usefixtures("undrawn")

FILES = ("figures/by_method_box_iou.png", "tables/overview.md", "tables/summary.csv", summary.PAGE)


def sketch(run: RunFolder, *_: Any) -> None:
    """Write files where a report has them, instead of `write_report`."""
    for name in FILES:
        files.write(run.path / name, b"a report")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder with a sketch of a report: every report of these tests is a sketch."""
    layers = {"scenes_fc": ("features.9",)}
    records = records_of(6, layers, {"grad_cam": {}, "random": {}})
    records = records[records["metric"] == "box_iou"]
    run = write_run(tmp_path / "run", records, layers=layers, pictures=False)
    monkeypatch.setattr(writing, "write_report", sketch)
    report.write(run)
    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", [lambda file: file.write_bytes(b"damaged"), Path.unlink], ids=["damaged", "absent"]
)
def test_a_report_is_written_again_with_the_same_bytes(folder, monkeypatch, change):
    monkeypatch.undo()
    report.write(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert {folder / name for name in FILES} < set(before)
    for name in (*FILES, summary.FILE):
        change(folder / name)
    assert report.write(folder) == folder / summary.PAGE
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_files_of_the_user_stay(folder):
    added = [
        folder / "figures/own.png",
        folder / "tables/notes.csv",
        folder / "figures/by_method_of_mine.png",
    ]
    for path in added:
        path.write_bytes(b"mine")
    for _ in range(2):
        report.write(folder)
        assert files.read_json(folder / summary.FILE)["files"] == sorted(FILES)
    assert [path.read_bytes() for path in added] == [b"mine"] * 3


def test_files_of_the_last_report_go(folder, monkeypatch):
    """Check that the figure of a removed metric doesn't stay next to the new ones."""
    monkeypatch.setattr(
        writing, "write_report", lambda run, *_: files.write(run.path / summary.PAGE, b"a report")
    )
    report.write(folder)
    assert [(folder / name).exists() for name in FILES] == [False, False, False, True]


def test_files_of_an_interrupted_report_go(folder, monkeypatch):
    (folder / "figures/own.png").write_bytes(b"mine")

    def interrupted(run: Any, *_: Any) -> None:
        sketch(run)
        (folder / "figures/half.png").write_bytes(b"half of the figures were written")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(writing, "write_report", interrupted)
        with pytest.raises(KeyboardInterrupt):
            report.write(folder)
    report.write(folder)
    assert (folder / "figures/own.png").read_bytes() == b"mine"
    assert not (folder / "figures/half.png").exists()


@pytest.mark.parametrize("name", ["../outside.png", "manifest.json", RECORD])
def test_a_summary_from_a_stranger_removes_nothing_else(folder, name):
    (folder / "../outside.png").write_bytes(b"mine")
    files.write_json(folder / summary.FILE, {"files": [name, 1, None]})
    report.write(folder)
    assert all((folder / file).is_file() for file in ("../outside.png", "manifest.json", RECORD))


def test_a_run_that_was_read_already_is_not_read_again(folder, monkeypatch):
    run = RunFolder.read(folder)
    monkeypatch.setattr(reading, "read_records", None)
    assert report.write(run).is_file()
    assert report.headline(run)
