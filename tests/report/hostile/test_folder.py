"""A stranger's run folder as files: links that lead out, pipes, a page of its own, texts that a terminal obeys."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from axiom_bench import report
from axiom_bench.cli.main import main
from axiom_bench.cli.terminal import printable
from axiom_bench.errors import BenchError
from axiom_bench.records import artefacts as manifest_file
from axiom_bench.records import reading, sealed
from axiom_bench.report import stamp
from tests.made_runs import RECORD

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture
def plain_run(make_run: Callable, make_records: Callable) -> Path:
    records = make_records(4, layers={"scenes_fc": ("features.9",)}, methods={"grad_cam": {}, "random": {}})
    return make_run(records[records["metric"] == "box_iou"], layers={"scenes_fc": ("features.9",)}, pictures=False)  # type: ignore[call-arg]


@pytest.mark.parametrize("name", ["tables", "figures", "report", "paper", "running"])
def test_nothing_is_written_or_removed_through_a_link(plain_run: Path, tmp_path: Path, name: str) -> None:
    """A stamp names the files that a report removes first: the link would have pointed them at a user's own."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "thesis.tex").write_text("mine")
    (plain_run / name).symlink_to(tmp_path / "own")
    sealed.write_json(plain_run / stamp.FILE, {"outputs": {f"{name}/thesis.tex": "0"}})
    for command in (["report"], ["judge"], ["gate", "--baseline", "quick"]):
        assert main([command[0], str(plain_run), *command[1:]]) == 2
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["thesis.tex"]
    with pytest.raises(BenchError, match=rf"run/{name} leads out of the run folder"):
        report.write(plain_run)


@pytest.mark.parametrize("name", [RECORD, "records", "manifest.json", "report_stamp.json"])
def test_nothing_is_read_through_a_link(plain_run: Path, tmp_path: Path, name: str) -> None:
    (plain_run / "report_stamp.json").write_text("{}")
    (plain_run / name).rename(tmp_path / "elsewhere")
    (plain_run / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BenchError, match="leads out of the run folder"):
        reading.read_manifest(plain_run)


def test_a_link_inside_the_folder_and_to_the_folder_may_be(plain_run: Path, tmp_path: Path) -> None:
    (plain_run / "records").rename(plain_run / "kept")
    (plain_run / "records").symlink_to("kept")
    (tmp_path / "link").symlink_to(plain_run)
    assert len(reading.read_records(tmp_path / "link", reading.read_manifest(tmp_path / "link"))) == 8


def test_a_job_names_no_file_outside(plain_run: Path, tmp_path: Path) -> None:
    (plain_run / "records").rename(tmp_path / "secret")
    manifest = sealed.read_json(plain_run / "manifest.json")
    manifest |= {"jobs": [{"job": "a", "values": {}, "records": ["../secret/a.parquet"]}], "records": []}
    manifest_file.write(plain_run, manifest)
    with pytest.raises(BenchError, match=r"names \"\.\./secret/a\.parquet\", which is no file of a run folder"):
        reading.read_manifest(plain_run)


@pytest.mark.parametrize("name", [RECORD, "manifest.json", "report_stamp.json", "tables"])
def test_a_pipe_is_not_waited_for(plain_run: Path, name: str) -> None:
    (plain_run / name).unlink(missing_ok=True)
    os.mkfifo(plain_run / name)
    with pytest.raises(BenchError, match=r"is no file"):
        report.write(plain_run)


def test_a_page_that_came_with_the_folder_is_written_anew(plain_run: Path) -> None:
    """Its stamp may be right in all: names, sizes, times and hashes of a folder can be made. When a file was made
    here can't."""
    page, before = plain_run / stamp.PAGE, stamp.begin(plain_run)
    page.write_text("made here")
    stamp.write(plain_run, "inputs", ["line"], before, 1.0)
    assert stamp.headline(plain_run, "inputs") == ["line"]
    page.unlink()
    page.write_text("made here")  # the same bytes, unpacked from an archive
    assert stamp.headline(plain_run, "inputs") is None


def test_a_terminal_has_nothing_to_obey(hostile_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Escapes, bells, changes of direction, whatever the command prints of the run."""
    run = hostile_run
    assert main(["judge", str(run)]) == 0
    assert main(["gate", str(run), "--baseline", "quick"]) == 2
    assert main(["report", str(run), "report.compare=x"]) == 2
    printed = "".join(capsys.readouterr())
    assert "attacked" in printed
    assert all(letter == "\n" or printable(letter) == letter for letter in printed)
    assert printable("a\x1b[31mb\r\u202e\x9b\udce9c d\u2009e é\n") == "a?[31mb????c d\u2009e é\n"
