"""The choice of the axiom plane's errors and of its floor: two metrics, or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from axiom_bench.errors import BenchError
from axiom_bench.report.charts import scatter
from axiom_bench.report.charts.drawing import Drawing, LeftOut
from axiom_bench.report.options import options_of, read_run


@pytest.mark.parametrize("empty", ["plane", "floor"])
def test_an_empty_choice_leaves_plane_or_floor_out(usual_run: Path, empty: str) -> None:
    run = read_run(usual_run, {"figures": {empty: []}})
    (drawing,) = scatter.draw(run)
    if empty == "plane":
        assert isinstance(drawing, LeftOut)
        assert "report.figures.plane=[METRIC,METRIC]" in drawing.reason
    else:
        assert isinstance(drawing, Drawing)
        assert "Without the axiom floor" in drawing.caption
        drawing.draw()
    assert (scatter.chart(run) is None) == (empty == "plane")


@pytest.mark.parametrize("names", [["box_iou"], ["box_iou", "zeta", "epsilon"]])
def test_a_plane_needs_two_metrics(usual_run: Path, names: list[str]) -> None:
    with pytest.raises(BenchError, match=r"report\.figures\.plane needs two metrics"):
        options_of(read_run(usual_run, {"figures": {"plane": names}}))
