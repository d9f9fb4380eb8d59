"""Tests of commands that add methods and metrics to the page of the previous command."""

from pathlib import Path

import pytest

from axiom_bench.cli.main import main
from axiom_bench.records import artefacts, files, reading
from axiom_bench.records.entries import parse
from axiom_bench.run.composing.composition import composed
from axiom_bench.run.composing.earlier import joined_command
from tests.made_runs import undraw

SHARED = ["model=scenes_vgg", "data.size=3"]


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    undraw(monkeypatch)


def write_previous(overrides, methods, metrics, repeats=0):
    entries = {
        "experiment": "quick",
        "run": "scenes_vgg",
        "records": [],
        "models": {},
        "methods": {name: {} for name in methods},
        "metrics": {name: {} for name in metrics},
        "overrides": overrides,
        "config": {
            "method": {name: {} for name in methods},
            "metric": {name: {} for name in metrics},
            "runtime": {"repeats": repeats},
        },
    }
    folder = Path("results/quick/scenes_vgg")
    folder.mkdir(parents=True, exist_ok=True)
    artefacts.write(folder, parse(entries))


def joined(words):
    with composed(words) as composition:
        return joined_command(words, composition)


def test_methods_of_the_previous_command_come_first():
    previous = [*SHARED, "method=[hires_cam,fd_cam]", "metric=[box_iou]", "report.level=0.01"]
    previous.append("method.fd_cam.params.quantile=0.9")
    write_previous(previous, ["hires_cam", "fd_cam"], ["box_iou"])
    command = joined([*SHARED, "method=[grad_cam,hires_cam]", "metric=box_iou"])
    assert command.words == (
        *SHARED,
        "method=[hires_cam,fd_cam,grad_cam]",
        "method.fd_cam.params.quantile=0.9",
        "metric=[box_iou]",
    )
    assert command.sentence == (
        "This run also has method fd_cam, which the last command in results/quick/scenes_vgg had. "
        "To show only your own afterwards: axiom-bench report results/quick/scenes_vgg "
        "'report.methods=[grad_cam,hires_cam]'. For a run without them, add run=NAME."
    )


def test_metrics_are_added_and_run_times_are_still_measured():
    write_previous([*SHARED, "method=[grad_cam]"], ["grad_cam"], ["box_iou", "zeta"], repeats=5)
    command = joined(["data.size=3", "model=scenes_vgg", "method=[grad_cam]", "metric=[epsilon]"])
    assert "metric=[box_iou,zeta,epsilon]" in command.words
    assert "method=[grad_cam]" in command.words
    assert "runtime.repeats=5" in command.words
    assert "'report.columns=[epsilon]'" in command.sentence


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        [*SHARED, "method=[grad_cam]", "run=scenes_vgg"],  # has a name of its own
        ["model=scenes_vgg", "method=[grad_cam]", "data.size=4"],  # has other images
        SHARED,  # names no method and no metric
        [*SHARED, "method=[xgrad_cam,grad_cam]"],  # lacks nothing
    ],
)
def test_nothing_is_added(words):
    with composed(words) as composition:
        metrics = list(composition.plain()["metric"])
    write_previous([*SHARED, "method=[xgrad_cam]"], ["xgrad_cam"], metrics)
    assert joined(words) is None


def test_own_plug_ins_are_named_by_each_command():
    own = "+method.mine._target_=my_module.my_cam"
    write_previous([*SHARED, "method=[grad_cam]", own], ["grad_cam", "mine"], ["box_iou"])
    command = joined([*SHARED, "method=[hires_cam]", "metric=[box_iou]"])
    assert "method=[grad_cam,hires_cam]" in command.words
    assert not any("mine" in word for word in command.words)

    # and a new one is added to the others
    write_previous([*SHARED, "method=[grad_cam]"], ["grad_cam"], ["box_iou"])
    command = joined([*SHARED, own, "method=[hires_cam]", "metric=[box_iou]"])
    assert {own, "method=[grad_cam,hires_cam]"} <= {*command.words}


def test_the_level_of_a_run_is_a_number():
    with composed([*SHARED, "report.level=0.1", "report.sort=box_iou"]) as composition:
        report = composition.plain()["report"]
    assert (report["level"], report["sort"]) == (0.1, "box_iou")


def test_a_damaged_manifest_adds_nothing():
    write_previous([*SHARED, "method=[grad_cam]"], ["grad_cam"], ["box_iou"])
    Path("results/quick/scenes_vgg/manifest.json").write_text("{")
    assert joined([*SHARED, "method=[hires_cam]", "metric=[box_iou]"]) is None


@pytest.mark.slow
def test_a_second_command_adds_to_the_page(capsys):
    run = [*SHARED, "metric=[confidence_drop]", "pictures.rows=0", "device=cpu"]
    folder = Path("results/quick/scenes_vgg")
    assert main([*run, "method=[xgrad_cam]"]) == 0
    first = reading.read_run(folder)
    capsys.readouterr()

    assert main([*run, "method=[grad_cam]"]) == 0
    output = capsys.readouterr().out
    assert "This run also has method xgrad_cam" in output
    assert "no longer shows" not in output
    both = reading.read_run(folder)
    assert list(reading.read_manifest(folder).methods) == ["xgrad_cam", "grad_cam"]
    kept = both[both["method"] == "xgrad_cam"]
    assert kept["value"].tolist() == first["value"].tolist()
    assert "method=[xgrad_cam,grad_cam]" in files.read_json(folder / "manifest.json")["overrides"]

    # a name of its own: exactly what was asked for, and the same values
    assert main([*run, "method=[xgrad_cam,grad_cam]", "run=named"]) == 0
    assert "This run also has" not in capsys.readouterr().out
    named = Path("results/quick/named")
    assert main(["compare", str(folder), str(named)]) == 0
    assert "the same settings" in capsys.readouterr().out
    baseline = ["--baseline", "baseline.csv"]
    assert main(["gate", str(named), *baseline, "--write", "--reason", "first"]) == 0
    assert main(["gate", str(folder), *baseline]) == 0

    # a command that names no method and no metric
    assert main([*SHARED, "pictures.rows=0", "device=cpu", "report.methods=[grad_cam]"]) == 0
    assert "This run also has" not in capsys.readouterr().out
