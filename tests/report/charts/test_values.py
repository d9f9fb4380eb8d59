"""The numbers behind the charts of curves, costs and depth, against the records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from axiom_bench.report.charts import by_depth, curves, scatter
from axiom_bench.report.charts.vega import Chart, beside
from axiom_bench.report.writing import charts_section
from axiom_bench.statistics.run_folder import RunFolder


def drawn(chart: Chart | None) -> Chart:
    assert chart is not None
    return chart


def test_curves_are_means_with_their_bands(rich_run: RunFolder) -> None:
    """Method m's curve is p (1 + m) / 10 + i / 100 for image i of 8: the mean of i is 3.5, of its error sqrt(6 / 8)."""
    (choice,) = drawn(curves.chart(rich_run)).choices
    (panel,) = choice.panels
    points = panel.tables["points"]
    assert panel.title == "scenes_fc features.9"
    assert points["method"] == [name for name in ("grad_cam", "xgrad_cam", "hires_cam") for _ in range(5)]
    assert points["mean"][5:10] == pytest.approx([0.2 * at + 0.035 for at in points["at"][5:10]])
    half = 1.96 * 0.01 * (6 / 8) ** 0.5
    assert points["high"][7] - points["mean"][7] == pytest.approx(half, rel=1e-3)
    assert points["also"][0] == "xgrad_cam, hires_cam"  # all begin at one point
    assert points["also"][1] == ""


def test_costs_are_of_trace_and_method(rich_run: RunFolder) -> None:
    """The trace takes 10 ms; the methods beyond it 1, 2, 3, ... ms."""
    choice = drawn(scatter.costs_chart(rich_run)).choices[0]
    points = next(panel for panel in choice.panels if panel.title == "scenes_residual").tables["points"]
    ms = dict(zip(points["method"], points["ms"], strict=True))
    assert (ms["grad_cam"], ms["xgrad_cam"], ms["hires_cam"]) == (11, 12, 13)
    summary = rich_run.summary
    rows = summary[(summary["model"] == "scenes_residual") & (summary["metric"] == "conservation_error")]
    row = rows[rows["method"] == "xgrad_cam"].iloc[0]
    place = points["method"].index("xgrad_cam")
    expected = [row["median"], row["median_low"], row["median_high"]]
    assert [points[name][place] for name in ("value", "low", "high")] == pytest.approx(expected, rel=1e-4)


def test_no_costs_where_nothing_was_timed(make_run: Any, make_records: Any) -> None:
    run = RunFolder.read(make_run(make_records(6), runtime=False, pictures=False))
    assert scatter.costs_chart(run) is None


def test_depth_follows_the_layers_order(rich_run: RunFolder) -> None:
    chart = drawn(by_depth.chart(rich_run))
    assert chart.choices[0].label == "Normalised zeta"
    (panel,) = chart.choices[0].panels  # one model has several layers
    assert panel.params["layers"] == ["features.4", "features.9"]
    points = panel.tables["points"]
    assert points["layer"] == ["features.4", "features.9"]
    rows = rich_run.records.frame()
    own = rows[(rows["metric"] == "zeta") & (rows["layer"] == "features.9")]["value"]
    assert [points[name][1] for name in ("q1", "median", "q3")] == pytest.approx(
        own.quantile([0.25, 0.5, 0.75]), rel=1e-4
    )


def test_no_depth_without_several_layers(usual_run: Path) -> None:
    assert by_depth.chart(RunFolder.read(usual_run)) is None


def test_methods_on_one_spot_are_rings(usual_run: Path) -> None:
    points = drawn(scatter.chart(RunFolder.read(usual_run))).choices[0].panels[0].tables["points"]
    ring = dict(zip(points["method"], points["ring"], strict=True))
    assert (ring["xgrad_cam"], ring["hires_cam"], ring["grad_cam"]) == (0, 1, 0)
    also = dict(zip(points["method"], points["also"], strict=True))
    assert (also["xgrad_cam"], also["hires_cam"], also["grad_cam"]) == ("hires_cam", "xgrad_cam", "")


def test_beside_names_those_that_print_alike() -> None:
    assert beside(["A", "B", "C"], [0.1, 0.1000001, 0.2]) == ["B", "A", ""]


def test_a_run_without_values_has_no_charts(make_run: Any, make_records: Any) -> None:
    records = make_records(6)
    records["status"], records["value"] = "no_annotation", float("nan")
    assert charts_section(RunFolder.read(make_run(records, pictures=False))) is None
