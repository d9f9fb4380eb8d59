"""The default command, as a user types it: another folder, nothing set; `slow` ones in another process."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from axiom_bench.environment import conf_folder

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


SMALL = ("data.size=2", "runtime.repeats=1", "pictures.rows=1", "pictures.gallery=1", "report.figures.formats=[png]")


NETWORKS = ["scenes_vgg", "scenes_resnet"]
IN_PROCESS = ("typed_here", ["scenes_vgg"], (*SMALL, "data.size=1", "runtime.repeats=0", "model=scenes_vgg"))


def test_the_networks_of_the_default_run():
    hydra = yaml.safe_load((conf_folder() / "experiment" / "quick.yaml").read_text())["hydra"]
    assert hydra["sweeper"]["params"]["model"].split(",") == NETWORKS


@pytest.mark.parametrize(
    ("process", "networks", "settings"),
    [
        pytest.param(*IN_PROCESS, id="in this process"),
        pytest.param("typed", NETWORKS, SMALL, id="a process", marks=pytest.mark.slow),
    ],
)
def test_quick(
    process: str, networks: list[str], settings: tuple[str, ...], tmp_path: Path, request: pytest.FixtureRequest
):
    typed: Callable = request.getfixturevalue(process)
    first = typed(tmp_path, *settings)
    assert first.returncode == 0, first.stderr
    assert "Traceback" not in first.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["results"]  # Hydra leaves nothing in the current folder
    folder = tmp_path / "results" / "quick" / "default"
    assert first.stdout.splitlines()[-1] == "report: results/quick/default/report.html"
    assert "images/s" in first.stdout
    manifest = json.loads((folder / "manifest.json").read_text())
    assert list(manifest["models"]) == networks
    assert set(manifest["methods"]) == PAPERS_METHODS
    assert {about["metric"] for about in manifest["metrics"].values()} == DEFAULT_METRICS

    again = typed(tmp_path, *settings)
    assert again.returncode == 0
    assert f"{len(networks)} of {len(networks)} shards were already there: nothing was computed" in again.stdout
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
