"""Figures that several processes share: the same files as from one, and nothing left behind where one fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from axiom_bench import report as drawing
from axiom_bench.errors import BenchError
from axiom_bench.report import drawing_processes, writing
from axiom_bench.report.writing import SavedFigure, save_figures, save_share
from axiom_bench.statistics.run_folder import RunFolder


@pytest.fixture
def run(make_run: Any, make_records: Any) -> RunFolder:
    """One network, two methods and two metrics, with pictures: each of two processes has figures to draw."""
    layers = {"scenes_fc": ("features.9",)}
    records = make_records(12, layers=layers, methods={"grad_cam": {}, "xgrad_cam": {}})
    return RunFolder.read(make_run(records[records["metric"].isin(["box_iou", "confidence_drop"])], layers=layers))


@pytest.fixture
def two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "MIN_METRICS", 1)
    monkeypatch.setattr(drawing, "num_cores", lambda: 2)


def contents(run: RunFolder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((run.path / "figures").iterdir())}


def remove_figures(run: RunFolder) -> None:
    for path in (run.path / "figures").iterdir():
        path.unlink()


@pytest.mark.usefixtures("two_processes")
def test_two_processes_write_the_files_of_one(run: RunFolder) -> None:
    figures = save_figures(run)
    alone = contents(run)
    remove_figures(run)
    with drawing_processes(run) as processes:
        assert len(processes) == 1
        assert save_figures(run, processes) == figures
        assert processes[0].returncode == 0
    assert contents(run) == alone
    assert {figure.png.name for figure in figures if isinstance(figure, SavedFigure)} <= set(alone)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("is_large", [False, True])
def test_shares_are_disjoint_and_together_all(run: RunFolder, monkeypatch: pytest.MonkeyPatch, is_large: bool) -> None:
    monkeypatch.setattr(writing, "MANY", 1 if is_large else len(run.records) + 1)
    save_share(run, 0, 2)
    first = set(contents(run))
    remove_figures(run)
    save_share(run, 1, 2)
    second = set(contents(run))
    save_figures(run)
    assert first
    assert second
    assert not first & second
    assert first | second == set(contents(run))


@pytest.mark.usefixtures("two_processes", "undrawn")
def test_the_share_of_a_failed_process_is_drawn(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"])

    monkeypatch.setattr(drawing, "_start", fails)
    with drawing_processes(run) as processes:
        figures = save_figures(run, processes)
    assert all(figure.png.is_file() for figure in figures if isinstance(figure, SavedFigure))


@pytest.mark.usefixtures("two_processes")
def test_a_damaged_file_is_named_as_without_processes(run: RunFolder) -> None:
    pictures = run.path / run.manifest["pictures"][0]
    pictures.write_bytes(b"damaged")
    with drawing_processes(run) as processes, pytest.raises(BenchError, match=str(pictures.name)):
        save_figures(run, processes)
    assert processes[0].returncode not in (0, None)


def test_processes_are_stopped_with_the_block(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def waits(*_: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])

    monkeypatch.setattr(drawing, "_start", waits)
    monkeypatch.setattr(drawing, "MIN_METRICS", 1)
    monkeypatch.setattr(drawing, "num_cores", lambda: 16)
    with pytest.raises(BenchError), drawing_processes(run) as processes:
        raise BenchError("something went wrong beside them")
    assert len(processes) == drawing.MAX_PROCESSES - 1
    assert all(process.returncode is not None for process in processes)


def test_a_process_ends_with_the_one_that_started_it(run: RunFolder) -> None:
    process = drawing._start(1, 4)
    process.stdin.close()  # as the system does where that process is killed
    assert process.wait() == 1
    assert not (run.path / "figures").exists()


def test_a_small_report_is_drawn_by_one_process(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "num_cores", lambda: 2)
    monkeypatch.setattr(drawing, "MIN_METRICS", len(run.metrics) + 1)
    with drawing_processes(run) as processes:
        assert not processes


@pytest.mark.slow
def test_modules_beside_the_user_hide_no_library(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pandas.py").write_text("raise RuntimeError('not the library')")
    monkeypatch.chdir(tmp_path)
    process = drawing._start(1, 4)
    drawing._send(run, process)
    assert process.wait(timeout=300) == 0
