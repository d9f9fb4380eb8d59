"""The default command, as a user types it: another process, another folder, nothing set."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

PAPERS_METHODS = {
    *("ablation_cam", "ablation_cam_axiomatic", "cam", "centered", "grad_cam", "grad_cam_pp", "guided_xgrad_cam"),
    *("hires_cam", "random", "uniform", "xgrad_cam"),
}

DEFAULT_METRICS = {
    *("average_drop", "axiom_floor", "axiom_floor_distance", "box_iou", "confidence_drop", "conservation_error"),
    *("conservation_error_raw", "epsilon", "guarded_channels", "pointing_game"),
    *("pointing_game_strict", "sensitivity_error", "sensitivity_error_raw", "sensitivity_error_scaled"),
    *("single_deletion", "zeta"),
}


SMALL = ("data.size=3", "runtime.repeats=1", "pictures.rows=1", "pictures.gallery=1", "report.figures.formats=[png]")


def test_quick(tmp_path: Path, typed: Callable):
    first = typed(tmp_path, *SMALL)
    assert first.returncode == 0, first.stderr
    assert "Traceback" not in first.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["results"]  # Hydra leaves nothing in the current folder
    folder = tmp_path / "results" / "quick" / "default"
    assert first.stdout.splitlines()[-1] == "report: results/quick/default/report.html"
    assert "images/s" in first.stdout
    manifest = json.loads((folder / "manifest.json").read_text())
    assert list(manifest["models"]) == ["scenes_vgg", "scenes_resnet"]
    assert set(manifest["methods"]) == PAPERS_METHODS
    assert {about["metric"] for about in manifest["metrics"].values()} == DEFAULT_METRICS

    again = typed(tmp_path, *SMALL)
    assert again.returncode == 0
    assert "2 of 2 shards were already there: nothing was computed" in again.stdout
    assert "images/s" not in again.stdout

    wrong = typed(tmp_path, "method=[xgradcam]")
    assert wrong.returncode == 2
    *progress, sentence = wrong.stderr.splitlines()
    assert sentence.startswith("axiom-bench: There is no method 'xgradcam'; did you mean")
    assert all(line.startswith("methods and metrics: ") for line in progress)  # on a slow machine


def test_a_reader_that_stops_early_is_no_defect(tmp_path: Path, typed: Callable):
    """`axiom-bench list | head -1`, where head has gone before anything is written."""
    reader, writer = os.pipe()
    os.close(reader)
    stopped = typed(tmp_path, "list", stdout=writer)
    os.close(writer)
    assert stopped.stderr == ""
    assert stopped.returncode == 141  # 128 + SIGPIPE, as a shell has it
