"""Figures that several processes share: the same files as from one, and nothing left behind where one fails."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from axiom_bench import report as drawing
from axiom_bench.errors import BenchError
from axiom_bench.report import drawing_processes, writing
from axiom_bench.report.writing import SavedFigure, save_figures, save_share
from axiom_bench.statistics.run_folder import RunFolder


@pytest.fixture
def run(make_run: Any, make_records: Any, edit_manifest: Any) -> RunFolder:
    """One network, two methods and two metrics, with pictures: each of two processes has figures to draw."""
    layers = {"scenes_fc": ("features.9",)}
    records = make_records(12, layers=layers, methods={"grad_cam": {}, "xgrad_cam": {}})
    folder = make_run(records[records["metric"].isin(["box_iou", "confidence_drop"])], layers=layers)
    edit_manifest(folder, config={"report": {"figures": {"formats": ["png"], "pair": []}}})
    return RunFolder.read(folder)


@pytest.fixture
def two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "MIN_METRICS", 1)
    monkeypatch.setattr(drawing, "num_cores", lambda: 2)


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Any:
    """(code): other processes run this code."""
    return lambda code: monkeypatch.setattr(
        drawing, "_start", lambda *_: subprocess.Popen([sys.executable, "-c", code])
    )


def contents(run: RunFolder) -> dict[str, bytes]:
    """Of the figures, which are removed."""
    figures = run.path / "figures"
    files = {path.name: path.read_bytes() for path in sorted(figures.iterdir())}
    shutil.rmtree(figures)
    return files


@pytest.mark.usefixtures("two_processes")
def test_two_processes_write_the_files_of_one(run):
    run = replace(run, manifest={**run.manifest, "pictures": []})
    figures = save_figures(run)
    alone = contents(run)
    with drawing_processes(run) as processes:
        assert len(processes) == 1
        assert save_figures(run, processes) == figures
        assert processes[0].returncode == 0
    assert contents(run) == alone
    assert {figure.png.name for figure in figures if isinstance(figure, SavedFigure)} <= set(alone)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("is_large", [False, True])
def test_shares_are_disjoint_and_together_all(run, monkeypatch, is_large):
    monkeypatch.setattr(writing, "MANY", 1 if is_large else len(run.records) + 1)
    shares = []
    for index in range(2):
        save_share(run, index, 2)
        shares.append(set(contents(run)))
    save_figures(run)
    assert all(shares)
    assert not shares[0] & shares[1]
    assert shares[0] | shares[1] == set(contents(run))


@pytest.mark.usefixtures("two_processes", "undrawn")
def test_the_share_of_a_failed_process_is_drawn(run, start):
    start("raise SystemExit(1)")
    with drawing_processes(run) as processes:
        figures = save_figures(run, processes)
    assert all(figure.png.is_file() for figure in figures if isinstance(figure, SavedFigure))


@pytest.mark.usefixtures("two_processes")
def test_a_damaged_file_is_named_as_without_processes(run):
    pictures = run.path / run.manifest["pictures"][0]
    pictures.write_bytes(b"damaged")
    with drawing_processes(run) as processes, pytest.raises(BenchError, match=str(pictures.name)):
        save_figures(run, processes)
    assert processes[0].returncode not in (0, None)


def test_processes_are_stopped_with_the_block(run, start, monkeypatch):
    start("import time; time.sleep(600)")
    monkeypatch.setattr(drawing, "MIN_METRICS", 1)
    monkeypatch.setattr(drawing, "num_cores", lambda: 16)
    with pytest.raises(BenchError), drawing_processes(run) as processes:
        raise BenchError("something went wrong beside them")
    assert len(processes) == drawing.MAX_PROCESSES - 1
    assert all(process.returncode is not None for process in processes)


SLEEPS = """
import sys, time, types
writing = sys.modules["axiom_bench.report.writing"] = types.ModuleType("writing")
writing.save_share = lambda *_: time.sleep(60)
"""


@pytest.mark.parametrize("is_drawing", [False, True])
def test_a_process_ends_with_the_one_that_started_it(monkeypatch, is_drawing):
    monkeypatch.setattr(drawing, "DRAW", SLEEPS + drawing.DRAW)
    process = drawing._start(1, 4)
    if is_drawing:
        pickle.dump("a run", process.stdin)
    process.stdin.close()  # as the system does where that process is killed
    assert process.wait() == 1


def test_a_small_report_is_drawn_by_one_process(run, monkeypatch):
    monkeypatch.setattr(drawing, "num_cores", lambda: 2)
    monkeypatch.setattr(drawing, "MIN_METRICS", len(run.metrics) + 1)
    with drawing_processes(run) as processes:
        assert not processes


@pytest.mark.slow
def test_modules_beside_the_user_hide_no_library(run, tmp_path, monkeypatch):
    (tmp_path / "pandas.py").write_text("raise RuntimeError('not the library')")
    monkeypatch.chdir(tmp_path)
    process = drawing._start(1, 4)
    drawing._send(run, process)
    assert process.wait(timeout=300) == 0
