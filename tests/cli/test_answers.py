"""The last lines of a run answer what was asked: whichever controls are chosen, and for each chosen
method.
"""

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
    """The overrides -> the run folder and the lines that the command prints."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_cams.py").write_text(OWN)

    def ran(*overrides):
        assert main([*SMALL, f"results={tmp_path}", *overrides]) == 0
        lines = capsys.readouterr().out.splitlines()
        return next(tmp_path.glob("quick/*/manifest.json")).parent, lines

    return ran


@pytest.mark.parametrize("control", ["random", "equal_shares"])
def test_nobody_is_best_in_conservation_error_whatever_the_controls(run, control):
    metrics = "metric=[sensitivity_error,conservation_error]"
    folder, lines = run(f"method=[grad_cam,xgrad_cam,{control}]", metrics, "pictures.gallery=0")
    row = next(line for line in lines if line.strip().startswith("XGrad-CAM"))
    sensitivity, conservation = row.split()[-2:]
    assert sensitivity.startswith("*")
    assert not conservation.startswith("*")
    assert "XGrad-CAM has the lowest sensitivity error on scenes_vgg" in lines
    assert any(line.startswith("Nothing is marked * in Conservation error") for line in lines)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "lowest sensitivity error on scenes_vgg" in page
    assert "lowest conservation error" not in page
    (places,) = (folder / "tables").glob("places*.md")
    part = (
        places.read_text(encoding="utf-8")
        .partition("## Conservation error")[2]
        .partition("\n## ")[0]
    )
    assert "| XGrad-CAM |" in part
    assert "**" not in part.partition("\nPlace")[0]


def test_a_method_without_axiom_values_is_compared_by_what_it_has(run):
    own = [f"+method.{name}._target_=own_cams.{name}" for name in ("mirrored", "nothing")]
    folder, lines = run(
        "method=[grad_cam,random]",
        *own,
        "metric=[sensitivity_error,box_iou]",
        "report.compare=mirrored",
    )
    shown = {line.split()[0]: line.split()[-1] for line in lines if line.startswith("  ")}
    assert shown["mirrored"] == shown["nothing"] == shown["Random"] == "\N{EN DASH}"
    assert any(
        "no contributions at the layer: Sensitivity error of mirrored, nothing" in line
        for line in lines
    )
    (title,) = (
        line
        for line in lines
        if line.startswith("mirrored is significantly worse than Grad-CAM in box IoU")
    )
    assert title in (folder / "report.html").read_text(encoding="utf-8")
    for entry in read_gallery(folder, read_manifest(folder)):
        assert dict(zip(entry["methods"], entry["maps"], strict=True))["nothing"] == b""


@pytest.mark.parametrize(
    ("overrides", "is_timed"),
    [
        (["metric=[box_iou]"], False),
        (["metric=[box_iou]", "runtime.repeats=1"], True),
        (["method=[grad_cam]", "+metric.own._target_=axiom_bench.metrics.box_iou.box_iou"], True),
    ],
)
def test_run_times_are_measured_where_they_are_asked_for(tmp_path, overrides, is_timed):
    small = (
        "model=scenes_vgg",
        "data.size=1",
        "data.workers=0",
        "pictures.rows=0",
        "pictures.gallery=0",
    )
    code, _, folder = compute(["method=[grad_cam]", *small, f"results={tmp_path}", *overrides])
    assert code == 0
    assert bool(read_manifest(folder).runtime) is is_timed
