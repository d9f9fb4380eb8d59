"""The charts of the page: their numbers, their SVG, the curves, and each method's colours."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure as Canvas

from axiom_bench.errors import BenchError
from axiom_bench.records.by_metric import count_images
from axiom_bench.records.entries import Manifest, MethodEntry
from axiom_bench.report.charts import by_method, lines, matrices, points
from axiom_bench.report.charts.drawing import Figure, counts_by, spread_axis
from axiom_bench.report.charts.lines import mean_curves
from axiom_bench.report.charts.styles import COLOURS, GREY, MethodStyle, axis_title, method_styles
from axiom_bench.report.options import options_of
from axiom_bench.report.shown import Changes, read_run
from axiom_bench.statistics.labels import Setting, Value
from axiom_bench.statistics.run_folder import RunFolder
from axiom_bench.statistics.summary import summarise
from tests.made_runs import write_curves
from tests.report.charts.conftest import SVG, elements_with, reason_left_out, svg_of


def figures(draw: Any, run: RunFolder) -> dict[str, Figure]:
    """Return the figures that `draw` yields, by their label in the chart's list."""
    return {figure.label: figure for figure in draw(run) if isinstance(figure, Figure)}


def test_curves_are_means_with_their_bands(rich_run):
    """Check the means and bands of the curves in `write_rich_run`.

    The curve of method m and image i is x (1 + m) / 10 + i / 100. Over the 8 images, i has the mean
    3.5 and the standard error sqrt(6 / 8).
    """
    frame = figures(lines.draw_curves, rich_run)["Insertion"].frame
    assert set(frame["Network"]) == {"scenes_fc features.9"}
    methods = ["grad_cam"] * 5 + ["xgrad_cam"] * 5 + ["hires_cam"] * 5
    assert list(frame["Method"]) == methods

    points = frame[frame["Method"] == "xgrad_cam"]
    expected = 0.2 * points["Share of pixels shown"] + 0.035
    assert points["Mean"].tolist() == pytest.approx(expected.tolist())
    half_width = 1.96 * 0.01 * (6 / 8) ** 0.5
    band = points["to"] - points["Mean"]
    assert band.tolist() == pytest.approx([half_width] * 5, rel=1e-3)

    # All three curves begin at the same point.
    assert frame["Also here"].tolist()[:2] == ["xgrad_cam, hires_cam", ""]


def test_objects_of_an_image_count_as_one_image():
    rows = pd.DataFrame(
        {
            "layer": ["a", "a", "a", "b"],
            "image_id": ["1//000", "1//001", "2//000", "1//000"],
            "value": [1.0, 2.0, 3.0, 4.0],
        }
    ).astype({"layer": "category", "image_id": "category"})
    points_by_layer = lines._points(rows, ["b", "a"])
    assert points_by_layer["Images"].tolist() == [1, 2]
    assert points_by_layer["Rows"].tolist() == [1, 3]
    assert count_images(rows["image_id"]) == 2


@pytest.mark.slow
def test_a_run_without_values_or_times_has_no_charts_of_them(make_run_folder, make_records):
    assert list(points.draw_costs(make_run_folder(6, folder="untimed", runtime=False))) == []
    records = make_records(6).assign(status="no_annotation", value=float("nan"))
    run = make_run_folder(records)
    for draw in (
        points.draw_costs,
        points.draw_plane,
        matrices.draw_agreement,
        by_method.draw,
        by_method.draw_networks,
    ):
        assert figures(draw, run) == {}


def test_an_empty_choice_leaves_the_plane_out_and_a_plane_needs_two_metrics(usual_run):
    run = read_run(usual_run, Changes({"figures": {"plane": []}}))
    assert "report.figures.plane=[METRIC,METRIC]" in reason_left_out(points.draw_plane, run)
    for metrics in (["box_iou"], ["box_iou", "zeta", "epsilon"]):
        with pytest.raises(BenchError, match=r"report\.figures\.plane needs two metrics"):
            options_of(read_run(usual_run, Changes({"figures": {"plane": metrics}})))


def test_a_box_and_the_farthest_outside():
    """Check that whiskers end at the last value within 1.5 interquartile ranges of the box."""

    def box(values: Any) -> dict[str, Any]:
        return by_method.boxes_row("a", by_method.BoxGroup(np.array(values, dtype=float), 1))

    name, rows, images, *numbers = box([*range(1, 10), 100.0]).values()
    assert (name, rows, images) == ("a", 10, 1)
    assert numbers == pytest.approx([5.5, 3.25, 7.75, 1, 9, 14.5])
    assert set(list(box([0.3]).values())[3:]) == {0.3}

    values = np.concatenate([np.linspace(0, 1, 101), [5.0, -7, 3, 4]])
    wide_axis = by_method.Axis(-10, 10, False, 0, len(values))
    outside = by_method.farthest_outside(values, box(values), wide_axis)
    assert values[outside].tolist() == [-7, 5, 4, 3]
    cut_axis = by_method.Axis(-5, 10, False, 1, len(values))
    outside = by_method.farthest_outside(values, box(values), cut_axis)
    assert values[outside].tolist() == [5, 4, 3]

    outliers = np.arange(10, 10 + 2 * by_method.MAX_OUTSIDE)
    values = np.concatenate([np.linspace(0, 1, 1001), outliers])
    wide_axis = by_method.Axis(0, 100, False, 0, len(values))
    outside = by_method.farthest_outside(values, box(values), wide_axis)
    assert len(outside) == by_method.MAX_OUTSIDE


@pytest.mark.slow
def test_a_drawing_for_the_page_is_the_same_again_in_its_colours_and_ids(rich_run):
    """Check also that no two figures of a page share an id, and that links stay in their figure."""
    ids_of_page = []
    for figure in figures(by_method.draw, rich_run).values():
        svg = svg_of(figure)
        ids = [element.get("id") for element in elements_with(svg, "id")]
        links = re.findall(r"url\(#(.+?)\)", ElementTree.tostring(svg, encoding="unicode"))
        for element in svg.iter():
            for name, link in element.attrib.items():
                if name.endswith("href"):
                    links.append(link.removeprefix("#"))
        assert set(links) <= set(ids)
        ids_of_page += ids
    assert len(set(ids_of_page)) == len(ids_of_page) > 0

    (plane,) = figures(points.draw_plane, rich_run).values()
    text = plane.save(Path("unused"), ())
    assert text == plane.save(Path("unused"), ())
    assert "var(--ink)" in text
    assert not re.search("#1b1b1f|#cccccc|metadata|<!--|Report Sans", text)

    root = ElementTree.fromstring(text)
    title = root.find(f"{SVG}title")
    description = root.find(f"{SVG}desc")
    assert title is not None
    assert description is not None
    assert title.text == plane.title
    assert description.text == plane.caption
    assert root.get("aria-labelledby") == title.get("id")
    assert root.get("aria-describedby") == description.get("id")


@pytest.mark.parametrize(
    ("values", "from_zero", "scale", "limits"),
    [
        pytest.param([0.2, 0.5, 1.0], False, "linear", None, id="little spread"),
        pytest.param(
            [0.0, 0.01, 2.0], False, "symlog", (0, 3), id="wide spread, and zero is shown"
        ),
        pytest.param(
            [-0.5, 0.001, 100], False, "linear", None, id="a logarithm has no place below zero"
        ),
        pytest.param([0.5, 0.8], True, "linear", (0, 0.92), id="from zero"),
        pytest.param(
            [5e-8, 9e-8, -2e-9],
            False,
            "linear",
            (0, 0.01),
            id="methods that coincide aren't ranked",
        ),
        pytest.param([0.0, 0.0], True, "linear", (0, 0.01), id="an axis has an extent"),
    ],
)
def test_an_axis_shows_what_spreads_and_never_rounding_alone(values, from_zero, scale, limits):
    axes = Canvas().subplots()
    axes.plot([0] * len(values), values)
    spread_axis(axes, "y", np.array(values), from_zero)
    assert axes.get_yscale() == scale
    low, high = axes.get_ylim()
    assert low <= max(values) < high
    assert limits is None or (low, high) == pytest.approx(limits)


def test_an_axis_names_unit_and_direction_unless_the_title_has_the_unit_or_there_is_no_direction():
    drop = Value("d", "Confidence drop", unit="probability", better="higher")
    iou = Value("i", "Box IoU", unit="IoU")
    error = Value("e", "Error", better="lower")
    assert axis_title(drop) == "Confidence drop [probability], higher is better"
    assert axis_title(iou) == "Box IoU"
    assert axis_title(error) == "Error, lower is better"
    assert axis_title(drop, "Mean") == "Mean confidence drop [probability], higher is better"


def test_a_captions_counts_tell_images_from_rows():
    rows = pd.DataFrame({"image_id": list("aaabcc"), "method": ["x", "x", "y", "x", "x", "y"]})
    assert counts_by(rows, ["method"]) == "n = 2 to 3 images, 2 to 4 rows"


@pytest.fixture
def styles_of(make_records, make_run) -> Callable[[dict[str, Any]], dict[str, MethodStyle]]:
    """A function (methods by name) -> their styles in a run in which all have the same values."""

    def make_styles(methods: dict[str, Any]) -> dict[str, MethodStyle]:
        records = make_records(2).query(
            "metric == 'box_iou' and model == 'scenes_fc' and method == 'grad_cam'"
        )
        rows = pd.concat([records.assign(method=name) for name in methods])
        return method_styles(RunFolder.read(make_run(rows, methods=methods, pictures=False)))

    return make_styles


def look(style: MethodStyle) -> tuple[object, object, object]:
    """Return everything that tells a method's line from another's."""
    return (style.colour, style.marker, style.dash)


def test_each_method_has_a_title_and_a_look_of_its_own(styles_of, usual):
    names = [f"cam_{i:02d}" for i in range(2 * len(COLOURS))]
    methods = {name: {"on_score_scale": True} for name in names}
    methods["grad_cam"] = {"title": "Grad-CAM"}
    styles = styles_of(methods)
    assert list(styles) == list(methods)
    assert styles["grad_cam"].title == "Grad-CAM"
    assert styles[names[0]].title == names[0]
    assert len({look(style) for style in styles.values()}) == len(methods)
    assert "-" not in method_styles(usual)


def test_a_method_looks_alike_in_every_run(styles_of):
    """Check also that the name decides if the style is another method's or isn't a number."""
    numbers = {"random": 0, "cam": 6, "mine": None, "twin": 6, "odd": "red", "xgrad_cam": 0}
    methods = {
        name: {"style": number, "control": name == "random"} for name, number in numbers.items()
    }
    styles = styles_of(methods)
    assert styles["random"].colour == GREY
    assert styles["cam"].colour == COLOURS[6]
    assert styles["xgrad_cam"].colour == COLOURS[0]
    assert len({look(style) for style in styles.values()}) == len(methods)

    styles_of_two = styles_of({name: methods[name] for name in ("odd", "mine")})
    assert look(styles_of_two["odd"]) == look(styles["odd"])
    assert look(styles_of_two["mine"]) == look(styles["mine"])


def test_methods_of_one_run_never_look_alike(styles_of):
    """Check two methods that share a style number, and many without a number."""
    methods = {f"cam_{number}": {"style": 3 if number < 2 else None} for number in range(60)}
    styles = styles_of(methods)
    assert len({look(style) for style in styles.values()}) == len(methods)


SETTINGS = (Setting("vgg", "features", "scenes"), Setting("resnet", "layer4", "scenes"))
Write = Callable[..., dict[str, Any]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A function (setting, rows of (method, curve, points, status), image ids) -> job entry.

    It writes the curves and the records of one job and returns the job's entry in the manifest.
    """
    numbers = itertools.count()

    def build(
        setting: Setting, rows: Sequence[tuple[str, str, list[float], str]], ids: Any = None
    ) -> dict[str, Any]:
        number = next(numbers)
        table = pd.DataFrame(rows, columns=["method", "curve", "points", "status"])
        table["target_class"] = 0
        table["image_id"] = ids or [f"{number} {i}" for i in range(len(rows))]
        return write_curves(tmp_path, setting._asdict(), table, number)

    return build


def run_of(folder: Path, jobs: Sequence[dict[str, Any]], **axes: Any) -> Any:
    """Return the parts of a `RunFolder` that the drawing of curves reads."""
    records = []
    curves = []
    for job in jobs:
        records += job["records"]
        curves += job["curves"]
    manifest = Manifest.model_validate(
        {
            "records": records,
            "curves": curves,
            "jobs": list(jobs),
            "methods": {"b": {}, "a": {}},
            "axes": axes,
        }
    )
    metadata = SimpleNamespace(method_title=str.upper, method=lambda name: MethodEntry())
    return SimpleNamespace(
        path=folder,
        manifest=manifest,
        methods=("b", "a"),
        level=0.05,
        settings=SETTINGS,
        label=lambda setting: setting.model,
        metadata=metadata,
    )


DELETION = {
    "title": "Deletion",
    "x": "fraction of pixels removed",
    "y": "probability",
    "at": [0.0, 0.5, 1.0],
    "better": "lower",
}


def test_bands_are_by_image_over_files_without_what_is_not_ok(tmp_path, write):
    """Check that each point of a curve has the mean and standard error of the summary.

    Four images have three rows each, and two files hold two images each.
    """
    generator = np.random.default_rng(1)
    points = generator.normal(size=(4, 1, 3)) + 0.1 * generator.normal(size=(4, 3, 3))
    rows = [("a", "deletion", row.tolist(), "ok") for row in points.reshape(12, 3)]
    ids = list("aaabbbcccddd")
    zero_map = ("a", "deletion", [np.nan] * 3, "zero_map")
    other_curve = ("a", "insertion", [0.1, 0.2], "ok")
    jobs = [
        write(SETTINGS[0], [*rows[:6], zero_map, other_curve], [*ids[:6], "b", "b"]),
        write(SETTINGS[0], rows[6:], ids[6:]),
    ]

    (curve,) = mean_curves(run_of(tmp_path, jobs), ["deletion"])

    assert (curve.images, curve.rows) == (4, 12)
    for number in range(3):
        records = pd.DataFrame(
            {
                "model": "m",
                "layer": "l",
                "data": "d",
                "method": "a",
                "metric": "e",
                "status": "ok",
                "value": points[:, :, number].ravel(),
                "image_id": ids,
                "target_class": [0, 1, 2] * 4,
            }
        )
        expected = summarise(records).iloc[0]
        assert curve.mean[number] == pytest.approx(expected["mean"], rel=1e-12)
        half_width = 1.959964 * expected["standard_error"]
        assert curve.half_width[number] == pytest.approx(half_width, rel=1e-9)


def test_a_run_without_curves_draws_nothing_and_a_missing_one_is_named(tmp_path):
    assert list(lines.draw_curves(run_of(tmp_path, []))) == []
    run = run_of(tmp_path, [], deletion=DELETION)
    assert "the curve deletion" in reason_left_out(lines.draw_curves, run)
