"""The charts of the page: their numbers against the records, their SVG, curves, and the look of
methods.
"""

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
from axiom_bench.records.entries import Manifest, MethodEntry
from axiom_bench.report.charts import by_method, lines, matrices, points
from axiom_bench.report.charts.drawing import Figure, counts_by, spread_axis
from axiom_bench.report.charts.lines import mean_curves
from axiom_bench.report.charts.styles import COLOURS, GREY, axis_title, method_styles
from axiom_bench.report.options import options_of, read_run
from axiom_bench.statistics.labels import Setting, Value
from axiom_bench.statistics.run_folder import RunFolder
from axiom_bench.statistics.summary import summarise
from tests.made_runs import write_curves
from tests.report.charts.conftest import SVG, left_out, parts, svg_of


def figures(draw: Any, run: RunFolder) -> dict[str, Figure]:
    """{label of the chart's list: the figure}."""
    return {figure.label: figure for figure in draw(run) if isinstance(figure, Figure)}


def test_curves_are_means_with_their_bands(rich_run):
    """Method m's curve is p (1 + m) / 10 + i / 100 for image i of 8: the mean of i is 3.5, of its
    error sqrt(6 / 8).
    """
    frame = figures(lines.draw_curves, rich_run)["Insertion"].frame
    assert set(frame["Network"]) == {"scenes_fc features.9"}
    assert list(frame["Method"]) == [
        name for name in ("grad_cam", "xgrad_cam", "hires_cam") for _ in range(5)
    ]
    points = frame[frame["Method"] == "xgrad_cam"]
    assert points["Mean"].tolist() == pytest.approx(
        [0.2 * at + 0.035 for at in points["Share of pixels shown"]]
    )
    half = 1.96 * 0.01 * (6 / 8) ** 0.5
    assert (points["to"] - points["Mean"]).tolist() == pytest.approx([half] * 5, rel=1e-3)
    assert frame["Also here"].tolist()[:2] == ["xgrad_cam, hires_cam", ""]  # all begin at one point


def test_a_run_without_values_or_times_has_no_charts_of_them(made, make_records):
    assert list(points.draw_costs(made(6, folder="untimed", runtime=False))) == []
    nothing = made(make_records(6).assign(status="no_annotation", value=float("nan")))
    of_methods = (by_method.draw, by_method.draw_networks, points.draw_plane)
    for draw in (points.draw_costs, matrices.draw_agreement, *of_methods):
        assert figures(draw, nothing) == {}


def test_an_empty_choice_leaves_the_plane_out_and_a_plane_needs_two_metrics(usual_run):
    run = read_run(usual_run, {"figures": {"plane": []}})
    assert "report.figures.plane=[METRIC,METRIC]" in left_out(points.draw_plane, run)
    for names in (["box_iou"], ["box_iou", "zeta", "epsilon"]):
        with pytest.raises(BenchError, match=r"report\.figures\.plane needs two metrics"):
            options_of(read_run(usual_run, {"figures": {"plane": names}}))


def test_a_box_and_the_farthest_outside():
    """Whiskers end at the last value within 1.5 interquartile ranges, not at the fence itself."""

    def box(values: Any) -> dict[str, Any]:
        return by_method.row("a", by_method.BoxGroup(np.array(values, dtype=float), 1))

    found = list(box([*range(1, 10), 100.0]).values())
    assert found == [
        "a",
        10,
        1,
        *(pytest.approx(number) for number in (5.5, 3.25, 7.75, 1, 9, 14.5)),
    ]
    assert set(list(box([0.3]).values())[3:]) == {0.3}
    values = np.concatenate([np.linspace(0, 1, 101), [5.0, -7, 3, 4]])
    wide = by_method.Axis(-10, 10, False, 0, len(values))
    assert values[by_method.farthest_outside(values, box(values), wide)].tolist() == [-7, 5, 4, 3]
    cut = by_method.Axis(-5, 10, False, 1, len(values))
    assert values[by_method.farthest_outside(values, box(values), cut)].tolist() == [5, 4, 3]
    many = np.concatenate([np.linspace(0, 1, 1001), np.arange(10, 10 + 2 * by_method.MAX_OUTSIDE)])
    wide = by_method.Axis(0, 100, False, 0, len(many))
    assert len(by_method.farthest_outside(many, box(many), wide)) == by_method.MAX_OUTSIDE


@pytest.mark.slow
def test_a_drawing_for_the_page_is_the_same_again_in_its_colours_and_ids(rich_run):
    """Of two figures in one page no id is the same, and each refers to its own ids only."""
    made = [svg_of(figure) for figure in figures(by_method.draw, rich_run).values()]
    ids = [part.get("id") for svg in made for part in parts(svg, "id")]
    assert len(set(ids)) == len(ids) > 0
    for svg in made:
        links = [
            link
            for part in svg.iter()
            for name, link in part.attrib.items()
            if name.endswith("href")
        ]
        links += re.findall(r"url\((#.+?)\)", ElementTree.tostring(svg, encoding="unicode"))
        assert {link.removeprefix("#") for link in links} <= {
            part.get("id") for part in parts(svg, "id")
        }
    drawn = list(figures(points.draw_plane, rich_run).values()) * 2
    first, second = (figure.save(Path("unused"), ()) for figure in drawn)
    assert first == second
    assert "var(--ink)" in first
    assert not re.search("#1b1b1f|#cccccc|metadata|<!--|Report Sans", first)
    root = ElementTree.fromstring(first)
    title = root.find(f"{SVG}title")
    description = root.find(f"{SVG}desc")
    assert title is not None
    assert description is not None
    assert (title.text, description.text) == (drawn[0].title, drawn[0].caption)
    assert (root.get("aria-labelledby"), root.get("aria-describedby")) == (
        title.get("id"),
        description.get("id"),
    )


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
    values = (
        Value("d", "Confidence drop", unit="probability", better="higher"), Value("i", "Box IoU", unit="IoU"),
        Value("e", "Error", better="lower"),
    )  # fmt: skip
    expected = [
        "Confidence drop [probability], higher is better",
        "Box IoU",
        "Error, lower is better",
    ]
    assert [axis_title(value) for value in values] == expected
    assert axis_title(values[0], "Mean") == "Mean confidence drop [probability], higher is better"


def test_a_captions_counts_tell_images_from_rows():
    rows = pd.DataFrame({"image_id": list("aaabcc"), "method": ["x", "x", "y", "x", "x", "y"]})
    assert counts_by(rows, ["method"]) == "n = 2 to 3 images, 2 to 4 rows"


def test_each_method_has_a_title_and_a_look_of_its_own(make_records, make_run, usual):
    names = [f"cam_{i:02d}" for i in range(2 * len(COLOURS))]
    methods = {name: {"on_score_scale": True} for name in names} | {
        "grad_cam": {"title": "Grad-CAM"}
    }
    records = make_records(2).query(
        "metric == 'box_iou' and model == 'scenes_fc' and method == 'grad_cam'"
    )
    rows = pd.concat([records.assign(method=name) for name in methods])
    styles = method_styles(RunFolder.read(make_run(rows, methods=methods, pictures=False)))
    assert list(styles) == list(methods)
    assert [styles[name].title for name in ("grad_cam", names[0])] == ["Grad-CAM", names[0]]
    assert len({(style.colour, style.marker, style.dash) for style in styles.values()}) == len(
        methods
    )
    assert "-" not in method_styles(usual)


def test_a_method_looks_alike_in_every_run(make_records, make_run):
    """A number that another method has, or that is none, counts for nothing; then the name
    decides.
    """
    numbers = {"random": 0, "cam": 6, "mine": None, "twin": 6, "odd": "red", "xgrad_cam": 0}
    methods = {
        name: {"style": number, "control": name == "random"} for name, number in numbers.items()
    }
    records = make_records(2).query(
        "metric == 'box_iou' and model == 'scenes_fc' and method == 'grad_cam'"
    )
    rows = pd.concat([records.assign(method=name) for name in methods])
    styles = method_styles(RunFolder.read(make_run(rows, methods=methods, pictures=False)))
    colours = {name: style.colour for name, style in styles.items()}
    assert (colours["random"], colours["cam"], colours["xgrad_cam"]) == (
        GREY,
        COLOURS[6],
        COLOURS[0],
    )
    assert len({(style.colour, style.marker, style.dash) for style in styles.values()}) == len(
        methods
    )
    alone = {name: methods[name] for name in ("odd", "mine")}
    rows = rows[rows["method"].isin(alone)]
    again = method_styles(RunFolder.read(make_run(rows, methods=alone, pictures=False)))
    assert {
        name: (styles[name].colour, styles[name].marker, styles[name].dash) for name in alone
    } == {name: (again[name].colour, again[name].marker, again[name].dash) for name in alone}


def test_methods_of_one_run_never_look_alike(make_records, make_run):
    """Two that share a number, and as many without one as there are."""
    names = [f"cam_{number}" for number in range(60)]
    methods = {name: {"style": 3 if place < 2 else None} for place, name in enumerate(names)}
    records = make_records(2).query(
        "metric == 'box_iou' and model == 'scenes_fc' and method == 'grad_cam'"
    )
    rows = pd.concat([records.assign(method=name) for name in names])
    styles = method_styles(RunFolder.read(make_run(rows, methods=methods, pictures=False)))
    assert len({(style.colour, style.marker, style.dash) for style in styles.values()}) == len(
        names
    )


AT = [0.0, 0.5, 1.0]
SETTINGS = (Setting("vgg", "features", "scenes"), Setting("resnet", "layer4", "scenes"))
Write = Callable[..., dict[str, Any]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """(setting, rows of (method, curve, points, status), ids=None) writes a file of curves and the
    file of records that tells its setting: their job in the manifest.
    """
    number = itertools.count()

    def build(
        setting: Setting, rows: Sequence[tuple[str, str, list[float], str]], ids: Any = None
    ) -> dict[str, Any]:
        table = pd.DataFrame(rows, columns=["method", "curve", "points", "status"]).assign(
            target_class=0
        )
        file = next(number)
        table["image_id"] = ids or [f"{file} {i}" for i in range(len(rows))]
        return write_curves(tmp_path, setting._asdict(), table, file)

    return build


def run_of(folder: Path, jobs: Sequence[dict[str, Any]], **axes: Any) -> Any:
    lists = {kind: [name for job in jobs for name in job[kind]] for kind in ("records", "curves")}
    entries = {**lists, "jobs": list(jobs), "methods": {"b": {}, "a": {}}, "axes": axes}
    manifest = Manifest.model_validate(entries)
    metadata = SimpleNamespace(method_title=str.upper, method=lambda name: MethodEntry())
    texts = {"label": lambda setting: setting.model, "metadata": metadata}
    return SimpleNamespace(
        path=folder, manifest=manifest, methods=("b", "a"), settings=SETTINGS, **texts
    )


DELETION = {
    "title": "Deletion",
    "x": "fraction of pixels removed",
    "y": "probability",
    "at": AT,
    "better": "lower",
}


def test_bands_are_by_image_over_files_without_what_is_not_ok(tmp_path, write):
    """Three rows of each of four images, the images in two files: as the summary has it at each
    point.
    """
    generator = np.random.default_rng(1)
    points = generator.normal(size=(4, 1, 3)) + 0.1 * generator.normal(size=(4, 3, 3))
    rows = [
        [("a", "deletion", row.tolist(), "ok") for row in half.reshape(6, 3)]
        for half in (points[:2], points[2:])
    ]
    ids = [["a"] * 3 + ["b"] * 3, ["c"] * 3 + ["d"] * 3]
    nothing = ("a", "deletion", [np.nan] * 3, "zero_map")
    other = ("a", "insertion", [0.1, 0.2], "ok")
    first = write(SETTINGS[0], [*rows[0], nothing, other], [*ids[0], "b", "b"])
    files = [first, write(SETTINGS[0], rows[1], ids[1])]
    (curve,) = mean_curves(run_of(tmp_path, files), ["deletion"])
    assert (curve.images, curve.rows) == (4, 12)
    for place in range(3):
        values = {
            "value": points[:, :, place].ravel(),
            "image_id": [*ids[0], *ids[1]],
            "target_class": [0, 1, 2] * 4,
        }
        names = {
            "model": "m",
            "layer": "l",
            "data": "d",
            "method": "a",
            "metric": "e",
            "status": "ok",
        }
        expected = summarise(pd.DataFrame({**names, **values})).iloc[0]
        assert curve.mean[place] == pytest.approx(expected["mean"], rel=1e-12)
        assert curve.half_width[place] == pytest.approx(
            1.959964 * expected["standard_error"], rel=1e-9
        )


def test_a_run_without_curves_draws_nothing_and_a_missing_one_is_named(tmp_path):
    assert list(lines.draw_curves(run_of(tmp_path, []))) == []
    assert "the curve deletion" in left_out(
        lines.draw_curves, run_of(tmp_path, [], deletion=DELETION)
    )
