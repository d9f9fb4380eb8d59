"""The figures: what is drawn where, and a sentence for each that can't be drawn."""

from __future__ import annotations

import io
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure as Canvas
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.text import Text

from axiom_bench.errors import BenchError
from axiom_bench.explanation.overlay import blend
from axiom_bench.report.charts import by_method, lines, points
from axiom_bench.report.charts import pictures as figures
from axiom_bench.report.charts.by_method import LOG_SPREAD, Axis, draw_boxes, fit
from axiom_bench.report.charts.drawing import (
    DPI,
    FONTS,
    MATPLOTLIB_FONTS,
    Figure,
    LeftOut,
    _register_fonts,
    across,
    can_draw,
    canvas,
    style,
    wrapped,
)
from axiom_bench.report.charts.lines import is_clipped, low_end
from axiom_bench.report.charts.pictures import load
from axiom_bench.report.options import HEIGHT, PAGE
from axiom_bench.report.writing import all_figures
from axiom_bench.statistics.run_folder import RunFolder
from tests.made_runs import rows_of
from tests.report.charts.conftest import left_out

PLANE = ("sensitivity_error", "conservation_error")


def drawn(draw: Any, run: RunFolder) -> list[Figure]:
    return [figure for figure in draw(run) if isinstance(figure, Figure)]


def texts(labels: Any) -> list[str]:
    return [label.get_text() for label in labels]


def test_a_box_at_0_is_left_out_of_a_logarithmic_axis_where_it_is_at_0_alone(made):
    """One of 2 x 12 boxes: of more values at 0 the axis wouldn't be logarithmic."""
    layers = {"one": ("last",), "two": ("last",)}
    methods = {f"method_{number}": {} for number in range(12)}
    values = 10.0 ** np.random.default_rng(0).uniform(-4, 2, (2, 12, 40))
    values[0, 0] = 1e-9
    rows = (rows_of("sensitivity_error", dict(zip(methods, of, strict=True)), model=model)
            for model, of in zip(layers, values, strict=True))  # fmt: skip
    (figure,) = drawn(
        by_method.draw, made(pd.concat(rows, ignore_index=True), layers=layers, methods=methods)
    )
    assert "Not drawn, at 0 but for rounding: method_0 on one." in figure.caption
    assert [len(axes.collections[0].get_paths()) for axes in figure.plot().axes] == [11, 12]


def test_a_method_with_values_where_all_coincide_is_not_without_a_value(made):
    layers = {"one": ("last",), "two": ("last",)}
    methods = {"low": {}, "high": {}, "cam": {}}
    apart = rows_of(
        "sensitivity_error", {"low": [0.1] * 9, "high": [0.5] * 9, "cam": [np.nan] * 9}, model="one"
    )
    same = rows_of("sensitivity_error", dict.fromkeys(methods, [0.2] * 9), model="two")
    (figure,) = drawn(
        by_method.draw, made(pd.concat([apart, same]), layers=layers, methods=methods)
    )
    assert "have the same values: two." in figure.caption
    assert "Without a value" not in figure.caption


@pytest.fixture(scope="module")
def run(usual: RunFolder) -> RunFolder:
    return usual


def test_the_plane_draws_the_medians_of_the_table_and_needs_both_errors(made, make_records):
    records = make_records(200, methods={"grad_cam": {}, "xgrad_cam": {}})
    records = records[records["metric"].isin(PLANE)]
    (drawing,) = drawn(points.draw_plane, run := made(records))
    for name in PLANE:
        shown = drawing.frame[f"Median {name.replace('_', ' ')} [ratio], lower is better"]
        assert shown.tolist() == run.summary.loc[run.summary["metric"] == name, "median"].tolist()
    assert "scenes_fc 200 images, 200 of 200 rows" in drawing.caption
    records = records[records["metric"] != "sensitivity_error"]
    assert "sensitivity_error" in left_out(points.draw_plane, made(records, folder="without"))


@pytest.mark.parametrize(
    ("names", "depths"),
    [
        (("features.2", "features.9", "features.12"), None),
        (
            ("layer4", "layer1", "layer10"),
            {"layer4": 40, "layer1": 10, "layer10": 100},
        ),  # whatever the command's order
    ],
)
def test_depth_is_what_the_network_runs_first(made, make_records, edit_manifest, names, depths):
    records = make_records(20, {"net": names}, methods={"grad_cam": {}, "xgrad_cam": {}})
    run = made(records, {"net": names})
    order = sorted(names, key=lambda name: (depths or {}).get(name, 0))
    if depths:
        edit_manifest(
            run.path, models={"net": run.manifest.models["net"].model_dump() | {"depths": depths}}
        )
        run = RunFolder.read(run.path)
    first, *others = [each.draw().axes[0] for each in drawn(lines.draw_by_depth, run)]
    assert [texts(axes.get_xticklabels()) for axes in (first, *others)] == [order] * (
        1 + len(others)
    )
    medians = run.records.frame(["zeta"]).groupby("layer", observed=True)["value"].median()[order]
    np.testing.assert_allclose(first.lines[0].get_ydata(), medians, rtol=1e-12)
    assert next(iter(all_figures(run))).title == lines.BY_DEPTH


def test_methods_by_depth_share_a_line_where_they_are_the_same(made, make_records):
    layers = {"one": ("a", "b"), "two": ("a", "b", "c"), "shallow": ("a",)}
    records = make_records(20, layers, methods={"grad_cam": {}, "xgrad_cam": {}})
    twin = records[records["method"] == "xgrad_cam"].assign(method="hires_cam")
    methods = {"grad_cam": {}, "xgrad_cam": {}, "hires_cam": {}}
    run = made(pd.concat([records, twin], ignore_index=True), layers, methods=methods)
    sensitivity = next(
        one for one in drawn(lines.draw_by_depth, run) if one.name == "by_depth_sensitivity_error"
    )
    figure = sensitivity.draw()
    axes = figure.axes
    assert [each.get_title(loc="left") for each in axes if each.lines] == ["one", "two"]
    figure.draw_without_rendering()
    legend = axes[1].get_legend().get_window_extent().transformed(axes[1].transAxes.inverted())
    assert (legend.x0, legend.y1) == pytest.approx((-0.1, -0.32))  # which room is kept for
    assert texts(axes[1].get_legend().get_texts()) == ["grad_cam", "xgrad_cam = hires_cam"]
    rows = records.query(
        "model == 'two' and method == 'grad_cam' and metric == 'sensitivity_error'"
    )
    np.testing.assert_allclose(
        axes[1].lines[0].get_ydata(), rows.groupby("layer")["value"].median(), rtol=1e-12
    )
    assert "n = 20 images, 20 rows a median" in sensitivity.caption


def test_a_logarithmic_axis_ends_a_little_below_what_is_no_rounding():
    medians = np.array([1e-9, 1e-6, 0.3, 3.0])
    assert low_end(medians[2:]) is None
    assert low_end(medians) == 1e-6
    assert low_end(np.array([0.03, 3.0])) == pytest.approx(0.01)
    assert low_end(np.array([0.03, 3.0]), np.array([1e-9, 0.003])) == pytest.approx(0.001)
    points = pd.DataFrame({"Median": medians})
    assert is_clipped(points, 1e-6).tolist() == [True, False, False, False]
    assert not is_clipped(points, None).any()


def test_medians_that_are_rounding_are_drawn_as_such_on_a_logarithmic_axis(made, make_records):
    layers = {"net": ("a", "b", "c")}
    records = make_records(20, layers, methods={"grad_cam": {}})
    zeta = records["metric"] == "zeta"
    records.loc[zeta & (records["layer"] == "c"), "value"] = 1e-9
    records.loc[zeta & (records["layer"] == "b"), "value"] *= 1e-3
    drawing = drawn(lines.draw_by_depth, made(records, layers))[0]
    axes = drawing.draw().axes[0]
    assert axes.get_yscale() == "log"
    assert axes.lines[0].get_ydata()[2] > 1e-6  # on the low end, not seven decades below it
    (open_triangle,) = [
        line for line in axes.lines if line.get_marker() == "v" and len(line.get_xdata())
    ]
    assert open_triangle.get_xdata().tolist() == [2]
    assert "Open triangles" in drawing.caption


def test_the_papers_figures_come_first_and_drawing_warns_of_nothing(run):
    with warnings.catch_warnings(action="error"):
        numbers = [figure.number for figure in all_figures(run)]
    order = [number for number in dict.fromkeys(numbers) if number]
    assert order == ["Fig 1", "Fig 2(a)", "Fig 2(b)", "Fig 4(a)", "Fig 4(b)", "Fig 5"]
    assert not any(numbers[numbers.index("") :])
    assert list(lines.draw_by_depth(run)) == []  # one layer has no depth


def test_pictures_show_the_configured_methods(run):
    (first, _) = drawn(figures.draw_perturbed, run)
    pictures = next(load(run))
    before = pictures.confidence[1]
    after = pictures.confidence_perturbed[pictures.methods.index("xgrad_cam"), 1]
    drop = f"confidence {after:.2f}, drop {before - after:.2f}".replace("-", "\N{MINUS SIGN}")
    titles = [axes.get_title() for axes in first.draw().axes]
    assert titles[3:6] == [f"confidence {before:.2f}", "xgrad_cam", drop]
    (pair, _) = drawn(figures.draw_pair, run)
    assert [axes.get_title() for axes in pair.draw().axes] == [
        "seven",
        "xgrad_cam",
        "guided_xgrad_cam",
    ]
    (grid, _) = drawn(figures.draw_grid, run)
    canvas_of_grid = grid.draw()
    (axes,) = canvas_of_grid.axes
    # beside the class names
    width_of_maps = canvas_of_grid.get_figwidth() - figures.GRID_NAME * figures.LETTER - 0.1
    side = width_of_maps / (1 + len(pictures.methods))
    height_of_maps = len(pictures.images) * side
    # a title has three lines
    assert canvas_of_grid.get_figheight() == pytest.approx(height_of_maps + 3 * figures.LINE)
    height, width = pictures.images.shape[1:3]
    gap = round(figures.GAP * width)
    top = height + gap  # of the second image's row, the second method
    left = 2 * (width + gap)
    tile = axes.images[0].get_array()[top : top + height, left : left + width]
    np.testing.assert_array_equal(tile, blend(pictures.images[1], pictures.heatmaps[1, 1]))
    words = texts(axes.texts)
    assert words[:3] == ["image", "grad_cam", "xgrad_cam"]
    assert words[7] == "seven"


def test_a_flipped_bit_of_pictures_is_found(made):
    """Also where no checksum of the archive's own reaches: in the time of a member."""
    run = made(3, pictures=True)
    (name, *_) = run.manifest.pictures
    content = bytearray((run.path / name).read_bytes())
    content[10] ^= 1
    (run.path / name).write_bytes(content)
    with pytest.raises(BenchError, match="checksum"):
        list(load(run))


def test_no_pictures_and_no_choice_are_sentences(made, edit_manifest):
    run = made(3)
    for draw in (figures.draw_pair, figures.draw_perturbed, figures.draw_grid):
        assert left_out(draw, run).endswith(".")
    run = made(3, pictures=True)
    chosen = {"perturbed": None, "pair": []}
    edit_manifest(run.path, config={"target": "label", "report": {"figures": chosen}})
    for draw in (figures.draw_perturbed, figures.draw_pair):
        assert "report.figures." in left_out(draw, RunFolder.read(run.path))


def test_names_break_at_underscores():
    assert [
        wrapped(name)
        for name in ("ablation_cam_axiomatic", "xgrad_cam", "a striped ground with nine")
    ] == [
        "ablation_cam_\naxiomatic",
        "xgrad_cam",
        "a striped\nground with\nnine",
    ]
    assert wrapped("Ablation-CAM (axiomatic)", 8) == "Ablation-\nCAM\n(axiomatic)"


def test_short_tails_are_all_shown_and_heavy_ones_are_cut_and_counted():
    even = np.linspace(-1, 1, 100)
    assert (fit([even]).low, fit([even]).high, fit([even]).outside) == (-1, 1, 0)
    signed = even.copy()
    signed[[3, 7]] = [500.0, -500.0]
    cut = fit([signed])
    assert (cut.log, cut.outside, cut.count) == (False, 2, 100)
    assert "2 of 100 values (2 %) lie outside" in cut.note
    positive = np.logspace(-2, 3, 100)
    assert fit([positive]).log
    zeros = np.append(positive, [0.0, 1e-8, 1e-8])
    three = fit([zeros])
    assert (three.log, three.outside) == (True, 3)
    assert 0.01 <= three.low < 0.02
    assert "3 of 103 values (3 %) below its low end are drawn there" in three.note
    assert three.drawn(zeros).min() == three.low
    assert not fit([np.array([0.0] * 50 + [1e-4, 1e-3] * 20 + [1.0] * 10)]).log
    rounding = fit([np.array([1e-8, 2e-8])])
    assert (rounding.log, rounding.high) == (False, 1e-6)
    assert fit([np.array([2.0])]).high == 2.0


def test_an_axis_is_logarithmic_only_beyond_its_limit():
    """The median is 1, so the limit is the largest value."""
    values = [0.5, 1.0, 1.0, 1.0]
    assert not fit([np.array([*values, LOG_SPREAD])]).log
    assert fit([np.array([*values, np.nextafter(LOG_SPREAD, np.inf)])]).log


def test_each_groups_quartiles_decide_where_an_axis_is_cut():
    groups = [
        scale * np.random.default_rng(seed).standard_t(1, 40 + seed)
        for seed, scale in enumerate((1.0, 3.0))
    ]
    low, high = np.transpose([np.quantile(group, [0.25, 0.75]) for group in groups])
    cut = fit(groups)
    both = np.concatenate(groups)
    assert cut.low == max(both.min(), (low - 3 * (high - low)).min())
    assert cut.high == min(both.max(), (high + 3 * (high - low)).max())
    assert cut.outside == ((both < cut.low) | (both > cut.high)).sum() > 0


def test_files_are_the_same_again_without_time_or_version(tmp_path):
    contents = []

    def plot() -> Canvas:
        figure = canvas(7, 1)
        figure.subplots().set_title("some text")
        return figure

    for folder in ("a", "b"):
        Figure("one", "One", "caption", plot).save(tmp_path / folder, ("png", "pdf", "svg"))
        names = ("one.png", "one.pdf", "one.svg")
        contents.append([(tmp_path / folder / name).read_bytes() for name in names])
    assert contents[0] == contents[1]
    png, pdf, svg = contents[0]
    assert b"some text</text>" in svg
    assert b"/FontFile2" in pdf  # TrueType, embedded
    assert not [word for word in (b"CreationDate", b"/Type3") if word in pdf]
    assert b"Software" not in png
    assert matplotlib.image.imread(io.BytesIO(png)).shape[:2] == (DPI, 7 * DPI)


def test_the_fonts_come_with_the_package_and_others_stand_in_for_missing_signs():
    with style():
        assert Path(findfont(FontProperties(family="Report Sans"))).parent == FONTS.resolve()
        assert (
            Path(findfont(FontProperties(family="Report Sans", weight="bold"))).name
            == "ReportSans-Bold.ttf"
        )
        figure = canvas(2, 1)
        figure.subplots().set_title(
            "\N{CYRILLIC SMALL LETTER ZHE} \N{DOWNWARDS ARROW} \N{PLUS-MINUS SIGN}"
        )
        # matplotlib warns of a glyph that no font has
        with warnings.catch_warnings(action="error"):
            figure.draw_without_rendering()


@pytest.mark.slow
def test_no_label_is_cut_off_or_overlaps_in_print(run):
    """Every figure is as wide as it may be or less, every text lies inside it and has 7 points or
    more (numbers in cells 6), and tick labels of one axis don't touch.
    """
    for each in drawn(all_figures, run):
        # as of the first network
        of_second = each.name == "ranking_1" or "scenes_residual" in each.name
        if of_second:
            continue
        figure = each.draw()
        figure.draw_without_rendering()
        assert figure.get_figwidth() <= PAGE + 1e-6, each.name
        assert figure.get_figheight() <= HEIGHT + 0.5, each.name
        texts = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
        assert min(text.get_fontsize() for text in texts) >= 6, each.name
        for axes in (axes for axes in figure.axes if axes.axison):
            box = axes.get_tightbbox()
            page = figure.bbox
            room = min(box.x0 - page.x0, page.x1 - box.x1, box.y0 - page.y0, page.y1 - box.y1)
            assert room > -2, each.name  # of 100 in an inch
            for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
                shown = [label for label in labels if label.get_text() and label.get_visible()]
                boxes = [
                    label.get_window_extent() for label in shown if label.get_rotation() in (0, 90)
                ]
                assert all(not a.overlaps(b) for a, b in pairwise(boxes)), each.name


@pytest.mark.parametrize(
    ("methods", "width", "bands", "shown"),
    [(1, 6.2, 1, 6), (11, 6.2, 2, 6), (10, 6.2, 1, 6), (24, 6.2, 3, 5), (4, 2.5, 2, 6)],
)
def test_many_methods_stand_in_bands_on_one_page(methods, width, bands, shown):
    grid = figures.grid(methods, 6, width, 0.4)
    assert [i for band in grid.bands for i in band] == list(range(methods))
    assert (len(grid.bands), grid.images) == (bands, shown)
    assert figures.LEAST_GRID_SIDE <= grid.side <= (width + 1e-9) / (len(grid.bands[0]) + 1)
    assert len(grid.bands) * (grid.side * grid.images + 0.4) <= HEIGHT + 1e-9


@pytest.mark.parametrize(
    ("count", "width", "panel", "row", "columns"),
    [
        (1, 7, 2, 2, 1),
        (6, 7, 2, 2, 3),
        (2, 3.3, 3, 4, 1),
        (6, 2.3, 2, 2.9, 2),  # six rows of 2.9 inches are more than a page
        (9, 1.0, 2, 3, 1),  # narrower panels couldn't be read
    ],
)
def test_panels_stand_in_columns_where_rows_would_be_higher_than_a_page(
    count, width, panel, row, columns
):
    assert across(count, width, panel, row) == columns


def test_what_is_left_out_names_the_setting_that_brings_it(made, make_records, edit_manifest):
    def reasons(run: RunFolder) -> dict[str, str]:
        return {
            figure.number: figure.reason
            for figure in all_figures(run)
            if isinstance(figure, LeftOut)
        }

    records = make_records(3, methods={"grad_cam": {}})
    run = made(records[records["metric"] != "zeta"], methods={"grad_cam": {}}, pictures=True)
    assert reasons(run)["Fig 1"] == (
        "No network of this run has the maps of xgrad_cam,guided_xgrad_cam: add them with "
        "method=[...,xgrad_cam,guided_xgrad_cam]."
    )
    assert "metric=[...,zeta]" in reasons(run)["Fig 2(a)"]
    assert "metric=[...,class_discriminability]" in reasons(run)["Fig 4(a)"]
    edit_manifest(run.path, pictures=[])
    assert "pictures.rows=6" in reasons(RunFolder.read(run.path))["Fig 5"]


def test_a_metric_without_a_value_says_its_statuses(made, make_records):
    records = make_records(3)
    records.loc[records["metric"] == "zeta", ["status", "value"]] = ["zero_score", np.nan]
    zeta = next(iter(by_method.draw_networks(made(records))))
    assert isinstance(zeta, LeftOut)
    assert zeta.reason == "No row of zeta has status ok (zero_score 6)."


def test_a_panel_without_values_has_no_boxes():
    """As of a network on which no method has a value that a logarithmic axis can show."""
    axes = Canvas().subplots()
    draw_boxes(axes, [], Axis(0, 1, False, 0, 0))
    assert not axes.collections
    assert not axes.lines


def test_a_list_of_fonts_without_matplotlibs_own_is_completed(tmp_path, caplog):
    """Powers on a logarithmic axis are written in one of them."""
    fontManager.ttflist[:] = [
        entry for entry in fontManager.ttflist if MATPLOTLIB_FONTS not in Path(entry.fname).parents
    ]
    fontManager._findfont_cached.cache_clear()
    _register_fonts.cache_clear()

    def plot() -> Canvas:
        figure = canvas(2, 2)
        figure.subplots().plot([1e-37, 1e-31])
        figure.axes[0].set_yscale("log")
        return figure

    Figure("name", "title", "", plot).save(tmp_path)
    assert [record.getMessage() for record in caplog.records] == []


def test_signs_that_the_figures_fonts_lack(tmp_path):
    """Another font of this machine draws them, as matplotlib's own STIX; what none has is shown by
    its code.

    matplotlib's list of fonts may lack its own: the file is shared by all installations, and one
    that was being removed wrote it without them.
    """
    fontManager.ttflist[:] = [
        entry for entry in fontManager.ttflist if not entry.name.startswith("STIX")
    ]
    can_draw.cache_clear()
    own, other = (
        {*get_font(MATPLOTLIB_FONTS / f"{name}.ttf").get_charmap()}
        for name in ("DejaVuSans", "STIXGeneral")
    )
    sign = chr(min(other - own))
    signs = map(chr, range(0x10000, 0x1F000))
    nobodys = next(each for each in signs if each.isprintable() and not can_draw(each))
    assert (can_draw("\u00e9\n"), can_draw(sign), can_draw(f"a{nobodys}")) == (True, True, False)

    def plot() -> Canvas:
        figure = canvas(2, 2)
        figure.subplots().set_title(f"{sign}{nobodys}")
        return figure

    figure = Figure("name", "title", "", plot)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.save(tmp_path)
    assert (
        figure.draw().axes[0].get_title("left") + figure.draw().axes[0].get_title()
        == f"{sign}U+{ord(nobodys):X}"
    )
