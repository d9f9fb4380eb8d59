"""The charts of the page: their numbers against the records, axes, the schema, and what settings leave out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import altair as alt
import jsonschema
import numpy as np
import pandas as pd
import pytest

import axiom_bench.report.page
from axiom_bench.errors import BenchError
from axiom_bench.report.charts import boxes, by_depth, by_method, curves, scatter, vega
from axiom_bench.report.charts.drawing import Drawing, LeftOut, counts_by
from axiom_bench.report.charts.vega import COLOURS, Chart, at_same_spot, method_styles
from axiom_bench.report.options import options_of, read_run
from axiom_bench.report.writing import CHARTS, charts_section
from axiom_bench.statistics.labels import rows_at
from axiom_bench.statistics.run_folder import RunFolder

STATIC = Path(axiom_bench.report.page.__file__).parent / "static"


def drawn(draw: Callable[[RunFolder], Chart | None], run: RunFolder) -> Chart:
    chart = draw(run)
    assert chart is not None
    return chart


def by_name(table: Any, column: str, key: str = "method") -> dict[str, Any]:
    return dict(zip(table[key], table[column], strict=True))


def test_curves_are_means_with_their_bands(rich_run: RunFolder) -> None:
    """Method m's curve is p (1 + m) / 10 + i / 100 for image i of 8: the mean of i is 3.5, of its error sqrt(6 / 8)."""
    (choice,) = drawn(curves.chart, rich_run).choices
    (panel,) = choice.panels
    points = panel.tables["points"]
    assert panel.title == "scenes_fc features.9"
    assert points["method"] == [name for name in ("grad_cam", "xgrad_cam", "hires_cam") for _ in range(5)]
    assert points["mean"][5:10] == pytest.approx([0.2 * at + 0.035 for at in points["at"][5:10]])
    half = 1.96 * 0.01 * (6 / 8) ** 0.5
    assert points["high"][7] - points["mean"][7] == pytest.approx(half, rel=1e-3)
    assert points["also"][:2] == ["xgrad_cam, hires_cam", ""]  # all begin at one point


def test_costs_are_of_trace_and_method(rich_run: RunFolder) -> None:
    """The trace takes 10 ms; the methods beyond it 1, 2, 3, ... ms."""
    choice = drawn(scatter.costs_chart, rich_run).choices[0]
    points = next(panel for panel in choice.panels if panel.title == "scenes_residual").tables["points"]
    ms = by_name(points, "ms")
    assert (ms["grad_cam"], ms["xgrad_cam"], ms["hires_cam"]) == (11, 12, 13)
    rows = rich_run.summary.query("model == 'scenes_residual' and metric == 'conservation_error'")
    row = rows[rows["method"] == "xgrad_cam"].iloc[0]
    expected = [row["median"], row["median_low"], row["median_high"]]
    assert [by_name(points, end)["xgrad_cam"] for end in ("value", "low", "high")] == pytest.approx(expected, rel=1e-4)


def test_depth_follows_the_layers_order(rich_run: RunFolder, usual_run: Path) -> None:
    chart = drawn(by_depth.chart, rich_run)
    assert chart.choices[0].label == "Normalised zeta"
    (panel,) = chart.choices[0].panels  # one model has several layers
    points = panel.tables["points"]
    assert panel.params["layers"] == points["layer"] == ["features.4", "features.9"]
    selected = rich_run.records.frame(["zeta"]).query("layer == 'features.9'")["value"].quantile([0.25, 0.5, 0.75])
    assert [points[name][1] for name in ("q1", "median", "q3")] == pytest.approx(selected, rel=1e-4)
    assert by_depth.chart(RunFolder.read(usual_run)) is None


def test_methods_on_one_spot_are_rings(usual_run: Path) -> None:
    points = drawn(scatter.chart, RunFolder.read(usual_run)).choices[0].panels[0].tables["points"]
    names = ("xgrad_cam", "hires_cam", "grad_cam")
    assert [by_name(points, "ring")[name] for name in names] == [0, 1, 0]
    assert [by_name(points, "also")[name] for name in names] == ["hires_cam", "xgrad_cam", ""]
    assert at_same_spot(["A", "B", "C"], [0.1, 0.1000001, 0.2]) == ["B", "A", ""]


def test_a_run_without_values_or_times_has_no_charts_of_them(make_run: Any, make_records: Any) -> None:
    records = make_records(6)
    assert scatter.costs_chart(RunFolder.read(make_run(records, "untimed", runtime=False, pictures=False))) is None
    records["status"], records["value"] = "no_annotation", float("nan")
    assert charts_section(RunFolder.read(make_run(records, pictures=False))) is None


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


def test_five_numbers() -> None:
    """Whiskers end at the last value within 1.5 interquartile ranges, not at the fence itself."""
    values = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9, 100])
    expected = {"low": 1, "q1": 3.25, "median": 5.5, "q3": 7.75, "high": 9, "mean": 14.5}
    assert boxes.five_numbers(values) == pytest.approx(expected)
    assert set(boxes.five_numbers(np.array([0.3])).values()) == {0.3}


def test_the_farthest_outside() -> None:
    values = np.concatenate([np.linspace(0, 1, 101), [5.0, -7, 3, 4]])
    places = boxes.farthest_outside(values, boxes.five_numbers(values))
    assert values[places].tolist() == [-7, 5, 4, 3]
    many = np.concatenate([np.linspace(0, 1, 1001), np.arange(10, 10 + 2 * boxes.MAX_OUTSIDE)])
    assert len(boxes.farthest_outside(many, boxes.five_numbers(many))) == boxes.MAX_OUTSIDE


def test_boxes_are_of_the_records_and_the_headline_comes_first(rich_run: RunFolder) -> None:
    choices = {choice.label: choice for choice in drawn(by_method.chart, rich_run).choices}
    assert list(choices)[:2] == ["Conservation error", "Box IoU"]
    table, values = (choices["Box IoU"].panels[0].tables[name] for name in ("boxes", "values"))
    selected = rows_at(rich_run.records.frame(["box_iou"]), rich_run.settings[0])
    selected = selected[(selected["method"] == "xgrad_cam") & (selected["status"] == "ok")]
    assert by_name(table, "n")["xgrad_cam"] == len(selected) > 0
    assert by_name(table, "median")["xgrad_cam"] == pytest.approx(selected["value"].median(), rel=1e-4)
    assert len(values["value"]) == sum(table["n"])
    first = values["method"].index("xgrad_cam")
    assert selected.set_index("image_id")["value"][values["image"][first]] == pytest.approx(
        values["value"][first], rel=1e-4
    )


@pytest.mark.parametrize("name", ["MAX_VALUES", "MAX_OF_BOX"])
def test_a_long_run_sends_few_single_values(rich_run: RunFolder, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The page of 50,000 images must stay small: boxes hold all values, dots are the farthest outside."""
    every = drawn(by_method.chart, rich_run)
    monkeypatch.setattr(boxes, name, 10)
    few = drawn(by_method.chart, rich_run)
    for all_of, choice in zip(every.choices, few.choices, strict=True):
        assert "farthest" in choice.caption
        for panel, other in zip(all_of.panels, choice.panels, strict=True):
            assert json.dumps(panel.tables["boxes"]) == json.dumps(other.tables["boxes"])
            assert len(other.tables["values"]["value"]) <= boxes.MAX_OUTSIDE * len(other.tables["boxes"]["n"])


def test_values_that_spread_little_lie_on_a_linear_axis_and_others_on_one_that_shows_zero() -> None:
    params = vega.symlog_params("x", np.array([0.2, 0.5, 1.0]))
    assert (params["x_linear"], params["x_ticks"]) == (vega.LINEAR, [0.2, 0.4, 0.6, 0.8, 1.0])
    assert params["x_low"] < 0.2 < 1.0 < params["x_high"]
    params = vega.symlog_params("x", np.array([0.0, 0.01, 2.0]))
    assert (params["x_linear"], params["x_ticks"]) == (0.01, [0, 0.01, 0.1, 1])
    assert params["x_low"] < 0
    assert vega.symlog_params("y", np.array([-0.5, 0.001, 100]))["y_linear"] == vega.LINEAR


def test_an_axis_has_an_extent_and_never_spans_rounding_alone() -> None:
    """Methods that coincide but for rounding would seem ranked."""
    for values in (np.zeros(3), np.full(3, 1e-9)):
        params = vega.symlog_params("y", values, from_zero=True)
        assert params["y_low"] < 0 < params["y_high"]
        assert params["y_ticks"][0] == 0
    params = vega.symlog_params("y", np.array([5e-8, 9e-8, -2e-9]))
    assert params["y_high"] >= vega.SMALLEST
    assert params["y_ticks"][0] == 0
    for value in (0.0, 3.0):
        limits = vega.limits(value, value, log=False)
        assert limits["low"] < value < limits["high"]


def test_logarithmic_ticks() -> None:
    assert vega.log_ticks(0.05, 700) == [0.1, 1, 10, 100]
    assert vega.log_ticks(0.4, 3) == [0.5, 1, 2]


def test_a_captions_counts_tell_images_from_rows() -> None:
    rows = pd.DataFrame({"image_id": list("aaabcc"), "method": ["x", "x", "y", "x", "x", "y"]})
    assert counts_by(rows, ["method"]) == "n = 2 to 3 images, 2 to 4 rows"


def test_each_method_has_a_title_and_a_look_of_its_own(make_records: Any, make_run: Any, usual_run: Path) -> None:
    names = [f"cam_{i:02d}" for i in range(2 * len(COLOURS))]
    methods = {name: {"on_score_scale": True} for name in names} | {"grad_cam": {"title": "Grad-CAM"}}
    records = make_records(2).query("metric == 'box_iou' and model == 'scenes_fc' and method == 'grad_cam'")
    rows = pd.concat([records.assign(method=name) for name in methods])
    styles = method_styles(RunFolder.read(make_run(rows, methods=methods, pictures=False)))
    assert list(styles) == list(methods)
    assert [styles[name].title for name in ("grad_cam", names[0])] == ["Grad-CAM", names[0]]
    assert len({(style.colour, style.marker, style.dash) for style in styles.values()}) == len(methods)
    assert "-" not in method_styles(RunFolder.read(usual_run))


def test_every_spec_follows_the_schema(rich_run: RunFolder) -> None:
    """The report builds specs without validation, which takes half of the time."""
    specs = {name: build() for draw in CHARTS for name, build in drawn(draw, rich_run).specs.items()}
    assert {"boxes", "boxes-log", "plane", "costs", "agreement", "by-depth-log", "curve-insertion"} <= set(specs)
    for spec in specs.values():
        alt.LayerChart.from_dict(dict(spec), validate=True)
        with pytest.raises(jsonschema.ValidationError):
            alt.LayerChart.from_dict({**spec, "autosize": {"type": "no such type"}}, validate=True)


def test_a_panel_sets_parameters_and_tables_of_its_spec(rich_run: RunFolder) -> None:
    for chart in (drawn(draw, rich_run) for draw in CHARTS):
        for panel in (panel for choice in chart.choices for panel in choice.panels):
            spec = chart.specs[panel.spec]()
            assert {*panel.params, vega.HIDDEN} == {param["name"] for param in spec["params"]}, chart.id
            assert set(spec["usermeta"]["hover"]) <= set(panel.tables)
            for name, titles in spec["usermeta"]["hover"].items():
                assert set(titles) - {"title"} <= set(panel.tables[name]), (chart.id, name)
                assert {"title", "method", "row"} & set(panel.tables[name]), (chart.id, name)


def test_the_bundle_draws_the_version_that_altair_writes_and_names_no_other_host() -> None:
    """Another major version of Altair writes specs that this bundle doesn't draw: `scripts/write_vega_bundle.py`. Of
    hosts it names those of namespaces, schemas, and the editor, which the page doesn't offer."""
    text = (STATIC / "vega_bundle.js").read_text(encoding="utf-8")
    bundled = re.search(r"Vega-Lite (\d+)\.", text[:200])
    assert bundled is not None
    assert vega.SCHEMA.endswith(f"/v{bundled[1]}.json")
    assert alt.SCHEMA_VERSION.startswith(f"v{bundled[1]}.")
    project = Path(__file__).parents[3] / "pyproject.toml"
    assert f'"altair>={bundled[1]},<{int(bundled[1]) + 1}"' in project.read_text()
    assert set(re.findall(r"https?://([\w.-]+)", text)) == {"www.w3.org", "github.com", "vega.github.io"}


def test_the_licences_are_beside_the_bundle() -> None:
    text = (STATIC / "vega_bundle.licences.txt").read_text(encoding="utf-8")
    for name in ("vega", "vega-lite", "vega-embed", "vega-interpreter", "d3-array", "topojson-client"):
        assert re.search(rf"(^|, ){name}(,|$)", text, flags=re.MULTILINE), name
    assert "Redistribution and use in source and binary forms" in text
