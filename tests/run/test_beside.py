"""Two commands on one run folder: with the same settings they share the work, with others the first to end says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from axiom_bench.cli import finish
from axiom_bench.records import artefacts as manifest_file
from axiom_bench.records import claims, running
from axiom_bench.run import same_folder
from axiom_bench.run.sweep import sweep
from axiom_bench.statistics.run_folder import RunFolder

CONFIG: dict[str, Any] = {"method": {"cam": {}}, "data": {"size": 5}, "device": {"name": "cpu"}}
OTHER = {**CONFIG, "method": {"grad_cam": {}}}
TYPED = ("method=[cam]", "model=a,b")


def begin(folder: Path, config: Mapping[str, Any], typed: Sequence[str], others: Sequence[Any] = ()) -> None:
    running.begin(folder, {"about": same_folder.about(config, typed), "others": others})


def sentence(folder: Path, config: Mapping[str, Any] = CONFIG, typed: Sequence[str] = TYPED) -> str | None:
    return same_folder.still_running(folder, same_folder.about(config, typed))


def test_another_command_that_began_later(tmp_path: Path):
    with claims.running(tmp_path):
        begin(tmp_path, OTHER, ["method=[grad_cam]", "run=a b"])
        line = sentence(tmp_path)
    assert line is not None
    assert line.startswith(f"another command with other settings still runs on {tmp_path}: axiom-bench ")
    assert "'method=[grad_cam]' 'run=a b'" in line
    assert "run=NAME" in line


def test_another_command_that_began_earlier_and_is_still_there(tmp_path: Path):
    with claims.running(tmp_path):
        begin(tmp_path, OTHER, ["method=[grad_cam]"])
        others = same_folder.other_commands(tmp_path)
        begin(tmp_path, CONFIG, TYPED, others)
        assert sentence(tmp_path) is not None


@pytest.mark.parametrize(
    ("config", "typed"),
    [
        (CONFIG, TYPED),
        ({**CONFIG, "device": {"name": "cuda"}}, [*TYPED, "device=cuda"]),  # another machine
        (CONFIG, [*reversed(TYPED), "data.size=5"]),  # the default, spelt out
    ],
)
def test_the_same_settings_share_the_work_without_a_word(tmp_path: Path, config: Mapping[str, Any], typed: list[str]):
    with claims.running(tmp_path):
        begin(tmp_path, config, typed)
        assert sentence(tmp_path) is None


def test_other_models_are_other_settings(tmp_path: Path):
    """Of what is swept over, the configuration holds one value."""
    with claims.running(tmp_path):
        begin(tmp_path, CONFIG, ["method=[cam]", "model=c,d"])
        assert sentence(tmp_path) is not None


@pytest.mark.parametrize("damaged", [None, "", "5", "[]", '{"about": 5, "others": [3]}'])
def test_a_command_that_was_killed_is_no_other(tmp_path: Path, damaged: str | None):
    """And what it left may be damaged."""
    begin(tmp_path, OTHER, [])
    assert sentence(tmp_path) is None
    if damaged is not None:
        (tmp_path / running.FOLDER / running.COMMAND).write_text(damaged)
        with claims.running(tmp_path):
            assert sentence(tmp_path) is None


def test_the_last_lines_are_of_this_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Another command that writes its manifest meanwhile had its methods named by the one that ended first."""
    typed = (
        *("model=scenes_vgg", "model.weights=null", "data.size=2", "device=cpu", "runtime.repeats=0"),
        *("pictures.rows=0", "pictures.gallery=0", "method=[cam]", "metric=[box_iou]", f"results={tmp_path}"),
    )
    config, outcomes = sweep(typed)
    folder = tmp_path / "quick" / "default"
    shown: list[list[str]] = []

    def write(run: RunFolder, **_: object) -> Path:
        shown.append(list(run.manifest["methods"]))
        return run.path / "report.html"

    def end(of: Path) -> None:
        before = manifest_file.read(of)
        manifest_file.write(of, {**before, "methods": {"grad_cam": {}}, "created": "later"})

    monkeypatch.setattr("axiom_bench.report.write", write)
    monkeypatch.setattr("axiom_bench.report.headline", lambda run: [f"best: {', '.join(run.manifest['methods'])}"])
    with claims.running(folder):
        begin(folder, {**config, "method": {"grad_cam": {}}}, ["method=[grad_cam]"])
        monkeypatch.setattr("axiom_bench.records.running.end", end)
        code, lines = finish.finish(config, outcomes, typed)
    assert code == 0
    assert shown == [["cam"]]
    assert lines[-3:-1] == ["best: cam", f"report: {folder}/report.html"]
    assert lines[-1].startswith("another command with other settings still runs on")
