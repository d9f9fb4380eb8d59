"""Tests of a run's last lines, which answer for each chosen method and whatever the controls."""

import textwrap

import pytest

from axiom_bench.cli.benchmark import compute
from axiom_bench.cli.main import main
from axiom_bench.records.reading import read_manifest
from axiom_bench.records.store import read_gallery

OWN = textwrap.dedent("""
    import axiom_bench as ab

    def mirrored(trace):
        return ab.Map(trace.activations.sum(1).flip(1, 2))

    def nothing(trace):
        return ab.Map(0 * trace.activations[:, 0])
""")
SMALL = ("model=scenes_vgg", "data.size=12", "data.workers=0", "pictures.rows=0")
pytestmark = pytest.mark.slow


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """A function that runs the command and returns the run folder and the printed lines."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_cams.py").write_text(OWN)

    def run_command(*overrides):
        assert main([*SMALL, f"results={tmp_path}", *overrides]) == 0
        lines = capsys.readouterr().out.splitlines()
        return next(tmp_path.glob("quick/*/manifest.json")).parent, lines

    return run_command


@pytest.mark.parametrize("control", ["random", "equal_shares"])
def test_nobody_is_best_in_conservation_error_whatever_the_controls(run, control):
    metrics = "metric=[sensitivity_error,conservation_error]"
    folder, lines = run(f"method=[grad_cam,xgrad_cam,{control}]", metrics, "pictures.gallery=0")

    row = next(line for line in lines if line.strip().startswith("XGrad-CAM"))
    sensitivity, conservation = row.split()[-2:]
    assert sensitivity.startswith("*")
    assert not conservation.startswith("*")
    assert "Use XGrad-CAM on scenes_vgg: it has the lowest sensitivity error" in lines
    assert any(line.startswith("Nothing is marked * in Conservation error") for line in lines)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "<h1>Use XGrad-CAM on scenes_vgg: it has the lowest sensitivity error</h1>" in page
    assert "lowest conservation error" not in page
    (file,) = (folder / "tables").glob("places*.md")
    text = file.read_text(encoding="utf-8")
    section = text.partition("## Conservation error")[2].partition("\n## ")[0]
    table = section.partition("\nPlace")[0]
    assert "| XGrad-CAM |" in section
    assert "**" not in table  # no method is marked as best


def test_a_method_without_axiom_values_is_compared_by_what_it_has(run):
    folder, lines = run(
        "method=[grad_cam,random]",
        "+method.mirrored._target_=own_cams.mirrored",
        "+method.nothing._target_=own_cams.nothing",
        "metric=[sensitivity_error,box_iou]",
        "report.compare=mirrored",
    )

    rows = [line.split() for line in lines if line.startswith("  ")]
    last_value = {row[0]: row[-1] for row in rows}
    assert last_value["mirrored"] == "\N{EN DASH}"
    assert last_value["nothing"] == "\N{EN DASH}"
    assert last_value["Random"] == "\N{EN DASH}"
    reason = "mirrored, nothing have no value of Sensitivity error: no contributions at the layer."
    assert reason in lines
    comparison = "mirrored is significantly worse than Grad-CAM in box IoU"
    (title,) = [line for line in lines if line.startswith(comparison)]
    assert title in (folder / "report.html").read_text(encoding="utf-8")
    for entry in read_gallery(folder, read_manifest(folder)):
        map_by_method = dict(zip(entry["methods"], entry["maps"], strict=True))
        assert map_by_method["nothing"] == b""


@pytest.mark.parametrize(
    ("overrides", "is_timed"),
    [
        (["metric=[box_iou]"], False),
        (["metric=[box_iou]", "runtime.repeats=1"], True),
        (["method=[grad_cam]", "+metric.own._target_=axiom_bench.metrics.box_iou.box_iou"], True),
    ],
)
def test_run_times_are_measured_where_they_are_asked_for(tmp_path, overrides, is_timed):
    shared = [
        "method=[grad_cam]",
        "model=scenes_vgg",
        "data.size=1",
        "data.workers=0",
        "pictures.rows=0",
        "pictures.gallery=0",
        f"results={tmp_path}",
    ]
    code, _, folder = compute([*shared, *overrides])
    assert code == 0
    assert bool(read_manifest(folder).runtime) is is_timed
