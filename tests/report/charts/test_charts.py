"""The charts of the page: their numbers against the records, curves, axes, the schema, and what settings leave out."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import altair as alt
import jsonschema
import numpy as np
import pandas as pd
import pytest

import axiom_bench.report.page
from axiom_bench import methods as all_methods
from axiom_bench.errors import BenchError
from axiom_bench.report.charts import boxes, by_depth, by_method, curves, scatter, vega
from axiom_bench.report.charts.curves import mean_curves
from axiom_bench.report.charts.drawing import Drawing, counts_by
from axiom_bench.report.charts.vega import COLOURS, GREY, Chart, at_same_spot, method_styles
from axiom_bench.report.options import options_of, read_run
from axiom_bench.report.writing import CHARTS, charts_section
from axiom_bench.statistics.labels import Setting, Value, rows_at
from axiom_bench.statistics.run_folder import RunFolder
from axiom_bench.statistics.summary import summarise
from tests.made_runs import write_curves
from tests.report.charts.conftest import left_out

STATIC = Path(axiom_bench.report.page.__file__).parent / "static"


def drawn(draw: Callable[[RunFolder], Chart | None], run: RunFolder) -> Chart:
    chart = draw(run)
    assert chart is not None
    return chart


@pytest.fixture(scope="module")
def charts(rich_run: RunFolder) -> list[Chart]:
    return [drawn(draw, rich_run) for draw in CHARTS]


def by_name(table: Any, column: str, key: str = "method") -> dict[str, Any]:
    return dict(zip(table[key], table[column], strict=True))


def test_curves_are_means_with_their_bands(rich_run):
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


def test_costs_are_of_trace_and_method(rich_run):
    """The trace takes 10 ms; the methods beyond it 1, 2, 3, ... ms."""
    choice = drawn(scatter.costs_chart, rich_run).choices[0]
    points = next(panel for panel in choice.panels if panel.title == "scenes_residual").tables["points"]
    assert list(by_name(points, "ms").items())[:3] == [("grad_cam", 11), ("xgrad_cam", 12), ("hires_cam", 13)]
    rows = rich_run.summary.query("model == 'scenes_residual' and metric == 'conservation_error'")
    row = rows.set_index("method").loc["xgrad_cam", ["median", "median_low", "median_high"]]
    shown = [by_name(points, end)["xgrad_cam"] for end in ("value", "low", "high")]
    assert shown == pytest.approx(row.to_list(), rel=1e-4)


def test_depth_follows_the_layers_order(rich_run, usual):
    chart = drawn(by_depth.chart, rich_run)
    assert chart.choices[0].label == "Normalised zeta"
    (panel,) = chart.choices[0].panels  # one model has several layers
    points = panel.tables["points"]
    assert panel.params["layers"] == points["layer"] == ["features.4", "features.9"]
    selected = rich_run.records.frame(["zeta"]).query("layer == 'features.9'")["value"].quantile([0.25, 0.5, 0.75])
    assert [points[name][1] for name in ("q1", "median", "q3")] == pytest.approx(selected, rel=1e-4)
    assert by_depth.chart(usual) is None


def test_methods_on_one_spot_are_rings(usual):
    points = drawn(scatter.chart, usual).choices[0].panels[0].tables["points"]
    names = ("xgrad_cam", "hires_cam", "grad_cam")
    assert [by_name(points, "ring")[name] for name in names] == [0, 1, 0]
    assert [by_name(points, "also")[name] for name in names] == ["hires_cam", "xgrad_cam", ""]
    assert at_same_spot(["A", "B", "C"], [0.1, 0.1000001, 0.2]) == ["B", "A", ""]


def test_a_run_without_values_or_times_has_no_charts_of_them(made, make_records):
    assert scatter.costs_chart(made(6, folder="untimed", runtime=False)) is None
    assert charts_section(made(make_records(6).assign(status="no_annotation", value=float("nan")))) is None


def test_an_empty_choice_leaves_plane_or_floor_out_and_a_plane_needs_two_metrics(usual_run):
    run = read_run(usual_run, {"figures": {"plane": []}})
    assert "report.figures.plane=[METRIC,METRIC]" in left_out(scatter.draw, run)
    assert scatter.chart(run) is None
    run = read_run(usual_run, {"figures": {"floor": []}})
    (drawing,) = scatter.draw(run)
    assert isinstance(drawing, Drawing)
    assert "Without the axiom floor" in drawing.caption
    drawing.draw()
    assert scatter.chart(run) is not None
    for names in (["box_iou"], ["box_iou", "zeta", "epsilon"]):
        with pytest.raises(BenchError, match=r"report\.figures\.plane needs two metrics"):
            options_of(read_run(usual_run, {"figures": {"plane": names}}))


def test_five_numbers_and_the_farthest_outside():
    """Whiskers end at the last value within 1.5 interquartile ranges, not at the fence itself."""
    expected = {"low": 1, "q1": 3.25, "median": 5.5, "q3": 7.75, "high": 9, "mean": 14.5}
    assert boxes.five_numbers(np.array([*range(1, 10), 100.0])) == pytest.approx(expected)
    assert set(boxes.five_numbers(np.array([0.3])).values()) == {0.3}
    values = np.concatenate([np.linspace(0, 1, 101), [5.0, -7, 3, 4]])
    assert values[boxes.farthest_outside(values, boxes.five_numbers(values))].tolist() == [-7, 5, 4, 3]
    many = np.concatenate([np.linspace(0, 1, 1001), np.arange(10, 10 + 2 * boxes.MAX_OUTSIDE)])
    assert len(boxes.farthest_outside(many, boxes.five_numbers(many))) == boxes.MAX_OUTSIDE


def test_boxes_are_of_the_records_and_the_headline_comes_first(rich_run):
    choices = {choice.label: choice for choice in drawn(by_method.chart, rich_run).choices}
    assert list(choices)[:2] == ["Conservation error", "Box IoU"]
    table, values = (choices["Box IoU"].panels[0].tables[name] for name in ("boxes", "values"))
    selected = rows_at(rich_run.records.frame(["box_iou"]), rich_run.settings[0])
    selected = selected.query("method == 'xgrad_cam' and status == 'ok'").set_index("image_id")["value"]
    assert by_name(table, "n")["xgrad_cam"] == len(selected) > 0
    assert by_name(table, "median")["xgrad_cam"] == pytest.approx(selected.median(), rel=1e-4)
    assert len(values["value"]) == sum(table["n"])
    first = values["method"].index("xgrad_cam")
    assert selected[values["image"][first]] == pytest.approx(values["value"][first], rel=1e-4)
    assert set(values["class"]) <= set(map(str, range(1000)))  # nobody says what they are called
    setting, manifest = rich_run.settings[0], deepcopy(rich_run.manifest)
    manifest["models"][setting.model]["classes"] = [f"name {index}" for index in range(1000)]
    (panel, *_) = drawn(by_method.chart, replace(rich_run, manifest=manifest)).choices[0].panels
    assert {name.partition(" ")[0] for name in panel.tables["values"]["class"]} == {"name"}


@pytest.mark.parametrize("name", ["MAX_VALUES", "MAX_OF_BOX"])
def test_a_long_run_sends_few_single_values(rich_run, monkeypatch, name):
    """The page of 50,000 images must stay small: boxes hold all values, dots are the farthest outside."""
    every = drawn(by_method.chart, rich_run)
    monkeypatch.setattr(boxes, name, 10)
    few = drawn(by_method.chart, rich_run)
    for all_of, choice in zip(every.choices, few.choices, strict=True):
        assert "farthest" in choice.caption
        for panel, other in zip(all_of.panels, choice.panels, strict=True):
            assert json.dumps(panel.tables["boxes"]) == json.dumps(other.tables["boxes"])
            assert len(other.tables["values"]["value"]) <= boxes.MAX_OUTSIDE * len(other.tables["boxes"]["n"])


def test_values_that_spread_little_lie_on_a_linear_axis_and_others_on_one_that_shows_zero():
    params = vega.symlog_params("x", np.array([0.2, 0.5, 1.0]))
    assert (params["x_linear"], params["x_ticks"]) == (vega.LINEAR, [0.2, 0.4, 0.6, 0.8, 1.0])
    assert params["x_low"] < 0.2 < 1.0 < params["x_high"]
    params = vega.symlog_params("x", np.array([0.0, 0.01, 2.0]))
    assert (params["x_linear"], params["x_ticks"]) == (0.01, [0, 0.01, 0.1, 1])
    assert params["x_low"] == pytest.approx(-vega.MARGIN * 0.01 * math.log1p(2.3 / 0.01))  # as symlog places it
    assert vega.symlog_params("y", np.array([-0.5, 0.001, 100]))["y_linear"] == vega.LINEAR
    assert [vega.log_ticks(*ends) for ends in ((0.05, 700), (0.4, 3))] == [[0.1, 1, 10, 100], [0.5, 1, 2]]


def test_an_axis_names_unit_and_direction_unless_the_title_has_the_unit_or_there_is_no_direction():
    values = (
        Value("d", "Confidence drop", unit="probability", better="higher"), Value("i", "Box IoU", unit="IoU"),
        Value("e", "Error", better="lower"),
    )  # fmt: skip
    assert [vega.axis_title(value) for value in values] == [
        "Confidence drop [probability], higher is better", "Box IoU", "Error, lower is better",
    ]  # fmt: skip


def test_an_axis_has_an_extent_and_never_spans_rounding_alone():
    """Methods that coincide but for rounding would seem ranked."""
    for values in (np.zeros(3), np.full(3, 1e-9)):
        params = vega.symlog_params("y", values, from_zero=True)
        assert params["y_low"] < params["y_ticks"][0] == 0 < params["y_high"]
    params = vega.symlog_params("y", np.array([5e-8, 9e-8, -2e-9]))
    assert params["y_high"] >= vega.SMALLEST
    assert params["y_ticks"][0] == 0
    for value in (0.0, 3.0):
        limits = vega.limits(value, value, log=False)
        assert limits["low"] < value < limits["high"]


def test_a_captions_counts_tell_images_from_rows():
    rows = pd.DataFrame({"image_id": list("aaabcc"), "method": ["x", "x", "y", "x", "x", "y"]})
    assert counts_by(rows, ["method"]) == "n = 2 to 3 images, 2 to 4 rows"


def test_each_method_has_a_title_and_a_look_of_its_own(make_records, make_run, usual):
    names = [f"cam_{i:02d}" for i in range(2 * len(COLOURS))]
    methods = {name: {"on_score_scale": True} for name in names} | {"grad_cam": {"title": "Grad-CAM"}}
    records = make_records(2).query("metric == 'box_iou' and model == 'scenes_fc' and method == 'grad_cam'")
    rows = pd.concat([records.assign(method=name) for name in methods])
    styles = method_styles(RunFolder.read(make_run(rows, methods=methods, pictures=False)))
    assert list(styles) == list(methods)
    assert [styles[name].title for name in ("grad_cam", names[0])] == ["Grad-CAM", names[0]]
    assert len({(style.colour, style.marker, style.dash) for style in styles.values()}) == len(methods)
    assert "-" not in method_styles(usual)


def test_a_method_looks_alike_in_every_run(make_records, make_run):
    """What a stranger's file says of its style is a number that nobody else has, or counts for nothing."""
    numbers = {"random": 0, "cam": 6, "mine": None, "twin": 6, "odd": "red", "xgrad_cam": 0}
    methods = {name: {"style": number, "control": name == "random"} for name, number in numbers.items()}
    records = make_records(2).query("metric == 'box_iou' and model == 'scenes_fc' and method == 'grad_cam'")
    rows = pd.concat([records.assign(method=name) for name in methods])
    styles = method_styles(RunFolder.read(make_run(rows, methods=methods, pictures=False)))
    free = [colour for place, colour in enumerate(COLOURS) if place not in (0, 6)]
    expected = {"random": GREY, "cam": COLOURS[6], "mine": free[0], "twin": free[1], "odd": free[2]}
    assert {name: style.colour for name, style in styles.items()} == {**expected, "xgrad_cam": COLOURS[0]}


def test_no_two_methods_share_a_style():
    specs = [all_methods.get(name).spec for name in all_methods.names()]
    for kind in (True, False):
        numbers = [spec.style for spec in specs if bool(spec.control) is kind]
        assert sorted(numbers) == list(range(len(numbers)))


def test_every_spec_follows_the_schema(charts):
    """The report builds specs without validation, which takes half of the time."""
    specs = {name: build() for chart in charts for name, build in chart.specs.items()}
    assert {"boxes", "boxes-log", "plane", "costs", "agreement", "by-depth-log", "curve-insertion"} <= set(specs)
    for spec in specs.values():
        alt.LayerChart.from_dict(dict(spec), validate=True)
    with pytest.raises(jsonschema.ValidationError):
        alt.LayerChart.from_dict({**specs["boxes"], "autosize": {"type": "no such type"}}, validate=True)


def test_a_panel_sets_parameters_and_tables_of_its_spec(charts):
    for chart in charts:
        specs = {name: build() for name, build in chart.specs.items()}
        for panel in (panel for choice in chart.choices for panel in choice.panels):
            spec = specs[panel.spec]
            assert {*panel.params, vega.HIDDEN} == {param["name"] for param in spec["params"]}, chart.id
            assert set(spec["usermeta"]["hover"]) <= set(panel.tables)
            for name, titles in spec["usermeta"]["hover"].items():
                assert set(titles) - {"title"} <= set(panel.tables[name]), (chart.id, name)
                assert {"title", "method", "row"} & set(panel.tables[name]), (chart.id, name)


def test_the_bundle_draws_the_version_that_altair_writes_and_names_no_other_host():
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


def test_the_licences_are_beside_the_bundle():
    text = (STATIC / "vega_bundle.licences.txt").read_text(encoding="utf-8")
    for name in ("vega", "vega-lite", "vega-embed", "vega-interpreter", "d3-array", "topojson-client"):
        assert re.search(rf"(^|, ){name}(,|$)", text, flags=re.MULTILINE), name
    assert "Redistribution and use in source and binary forms" in text


AT = [0.0, 0.5, 1.0]
SETTINGS = (Setting("vgg", "features", "scenes"), Setting("resnet", "layer4", "scenes"))
Write = Callable[..., dict[str, Any]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """(setting, rows of (method, curve, points, status), ids=None) writes a file of curves and the file of records that
    tells its setting: their job in the manifest."""
    number = itertools.count()

    def build(setting: Setting, rows: Sequence[tuple[str, str, list[float], str]], ids: Any = None) -> dict[str, Any]:
        table = pd.DataFrame(rows, columns=["method", "curve", "points", "status"]).assign(target_class=0)
        file = next(number)
        table["image_id"] = ids or [f"{file} {i}" for i in range(len(rows))]
        return write_curves(tmp_path, setting._asdict(), table, file)

    return build


def run_of(folder: Path, jobs: Sequence[dict[str, Any]], **axes: Any) -> Any:
    lists = {kind: [name for job in jobs for name in job[kind]] for kind in ("records", "curves")}
    manifest = {**lists, "jobs": list(jobs), "methods": {"b": {}, "a": {}}, "axes": axes}
    metadata = SimpleNamespace(method_title=str.upper, method=lambda name: {})
    texts = {"label": lambda setting: setting.model, "metadata": metadata}
    return SimpleNamespace(path=folder, manifest=manifest, methods=("b", "a"), settings=SETTINGS, **texts)


DELETION = {"title": "Deletion", "x": "fraction of pixels removed", "y": "probability", "at": AT, "better": "lower"}


def test_means_and_bands_add_up_over_files_and_leave_out_what_is_not_ok(tmp_path, write):
    draws = np.random.default_rng(0).random((7, 3))
    rows = [("a", "deletion", points.tolist(), "ok") for points in draws]
    nothing = ("a", "deletion", [np.nan] * 3, "zero_map")
    other = ("a", "insertion", [0.1, 0.2], "ok")
    files = [
        write(SETTINGS[0], [*rows[:4], nothing, other]),
        write(SETTINGS[0], rows[4:]),
        write(SETTINGS[1], [("b", "deletion", [1.0, 1.0, 0.0], "ok"), *rows[:1]]),
    ]
    first, second, third = mean_curves(run_of(tmp_path, files), ["deletion"])
    assert [(one.setting.model, one.method, one.images) for one in (first, second, third)] == [
        ("vgg", "a", 7), ("resnet", "b", 1), ("resnet", "a", 1)
    ]  # fmt: skip
    np.testing.assert_allclose(first.mean, draws.mean(0), rtol=1e-12)
    np.testing.assert_allclose(first.half_width, 1.959964 * draws.std(0, ddof=1) / np.sqrt(7), rtol=1e-9)
    assert np.isnan(second.half_width).all()


def test_bands_are_by_image_over_files(tmp_path, write):
    """Three rows of each of four images, the images in two files: as the summary has it at each point."""
    generator = np.random.default_rng(1)
    points = generator.normal(size=(4, 1, 3)) + 0.1 * generator.normal(size=(4, 3, 3))
    rows = [[("a", "deletion", row.tolist(), "ok") for row in half.reshape(6, 3)] for half in (points[:2], points[2:])]
    ids = [["a"] * 3 + ["b"] * 3, ["c"] * 3 + ["d"] * 3]
    files = [write(SETTINGS[0], *part) for part in zip(rows, ids, strict=True)]
    (curve,) = mean_curves(run_of(tmp_path, files), ["deletion"])
    assert (curve.images, curve.rows) == (4, 12)
    for place in range(3):
        values = {"value": points[:, :, place].ravel(), "image_id": [*ids[0], *ids[1]], "target_class": [0, 1, 2] * 4}
        names = {"model": "m", "layer": "l", "data": "d", "method": "a", "metric": "e", "status": "ok"}
        expected = summarise(pd.DataFrame({**names, **values})).iloc[0]
        assert curve.mean[place] == pytest.approx(expected["mean"], rel=1e-12)
        assert curve.half_width[place] == pytest.approx(1.959964 * expected["standard_error"], rel=1e-9)


def test_the_figure_has_a_panel_a_setting_and_a_line_with_a_band_a_method(tmp_path, write):
    rows = [(method, "deletion", [1.0, 0.1 * i, 0.0], "ok") for method in "ab" for i in range(3)]
    files = [write(SETTINGS[0], rows), write(SETTINGS[1], rows)]
    (drawing,) = curves.draw(run_of(tmp_path, files, deletion=DELETION))
    assert drawing.name == "perturbation_deletion"
    assert all(text in drawing.caption for text in ("n = 3 images, 3 rows a curve", "lower is better"))
    figure = drawing.draw()
    assert [(len(axes.lines), len(axes.collections)) for axes in figure.axes[:2]] == [(2, 2)] * 2
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["B", "A"]
    drawing.save(tmp_path / "figures", ("png",))
    assert drawing.png_path(tmp_path / "figures").is_file()


def test_a_run_without_curves_draws_nothing_and_a_missing_one_is_named(tmp_path):
    assert list(curves.draw(run_of(tmp_path, []))) == []
    assert "the curve deletion" in left_out(curves.draw, run_of(tmp_path, [], deletion=DELETION))


def test_a_broken_file_is_named(tmp_path, write):
    job = write(SETTINGS[0], [("a", "deletion", [1.0, 0.5, 0.0], "ok")])
    (tmp_path / job["curves"][0]).write_bytes(b"not parquet")
    with pytest.raises(BenchError, match=r"\.parquet can't be read"):
        mean_curves(run_of(tmp_path, [job]), ["deletion"])
