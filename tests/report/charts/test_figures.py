"""The contents of the figures, and the sentence that replaces each figure that can't be drawn."""

from __future__ import annotations

import io
import logging
import warnings
from itertools import chain, pairwise
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
from axiom_bench.report.charts.by_method import LOG_SPREAD, Axis, draw_boxes, fit_axis
from axiom_bench.report.charts.drawing import (
    DPI,
    FONTS,
    MATPLOTLIB_FONTS,
    Figure,
    LeftOut,
    _register_fonts,
    can_draw,
    canvas,
    panels_per_row,
    style,
    wrap_name,
)
from axiom_bench.report.charts.lines import is_clipped, low_end
from axiom_bench.report.charts.pictures import load
from axiom_bench.report.options import HEIGHT, PAGE
from axiom_bench.report.writing import all_figures
from axiom_bench.statistics.run_folder import RunFolder
from tests.made_runs import rows_of
from tests.report.charts.conftest import reason_left_out

PLANE = ("sensitivity_error", "conservation_error")


def drawn_figures(draw: Any, run: RunFolder) -> list[Figure]:
    """Return the figures that `draw` yields, without the items that are left out."""
    return [figure for figure in draw(run) if isinstance(figure, Figure)]


def texts(labels: Any) -> list[str]:
    return [label.get_text() for label in labels]


def test_a_box_at_0_is_left_out_of_a_logarithmic_axis_where_it_is_at_0_alone(make_run_folder):
    """Check a run in which one of 2 x 12 boxes is at 0.

    With more values at 0 the axis wouldn't be logarithmic.
    """
    layers = {"one": ("last",), "two": ("last",)}
    methods = {f"method_{number}": {} for number in range(12)}
    values = 10.0 ** np.random.default_rng(0).uniform(-4, 2, (2, 12, 40))
    values[0, 0] = 1e-9
    rows = []
    for model, values_of_model in zip(layers, values, strict=True):
        values_by_method = dict(zip(methods, values_of_model, strict=True))
        rows.append(rows_of("sensitivity_error", values_by_method, model=model))
    records = pd.concat(rows, ignore_index=True)
    run = make_run_folder(records, layers=layers, methods=methods)

    (figure,) = drawn_figures(by_method.draw, run)

    assert "Not drawn, at 0 up to rounding: method_0 on one." in figure.caption
    boxes_by_panel = [len(axes.collections[0].get_paths()) for axes in figure.plot().axes]
    assert boxes_by_panel == [11, 12]


def test_a_method_with_values_where_all_coincide_is_not_without_a_value(make_run_folder):
    layers = {"one": ("last",), "two": ("last",)}
    methods = {"low": {}, "high": {}, "cam": {}}
    different_values = {"low": [0.1] * 9, "high": [0.5] * 9, "cam": [np.nan] * 9}
    same_values = dict.fromkeys(methods, [0.2] * 9)
    first = rows_of("sensitivity_error", different_values, model="one")
    second = rows_of("sensitivity_error", same_values, model="two")
    run = make_run_folder(pd.concat([first, second]), layers=layers, methods=methods)
    (figure,) = drawn_figures(by_method.draw, run)
    assert "have the same values: two." in figure.caption
    assert "Without a value" not in figure.caption


@pytest.fixture(scope="module")
def run(usual: RunFolder) -> RunFolder:
    return usual


@pytest.mark.slow
def test_the_plane_draws_the_medians_of_the_table_and_needs_both_errors(
    make_run_folder, make_records
):
    records = make_records(200, methods={"grad_cam": {}, "xgrad_cam": {}})
    records = records[records["metric"].isin(PLANE)]
    run = make_run_folder(records)
    (figure,) = drawn_figures(points.draw_plane, run)
    for metric in PLANE:
        medians = figure.frame[f"Median {metric.replace('_', ' ')} [ratio], lower is better"]
        expected = run.summary.loc[run.summary["metric"] == metric, "median"]
        assert medians.tolist() == expected.tolist()
    assert "scenes_fc 200 images, 200 of 200 rows" in figure.caption

    records = records[records["metric"] != "sensitivity_error"]
    run = make_run_folder(records, folder="without")
    assert "sensitivity_error" in reason_left_out(points.draw_plane, run)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "depths"),
    [
        (("features.2", "features.9", "features.12"), None),
        # The order of the layers in the command doesn't matter.
        (("layer4", "layer1", "layer10"), {"layer4": 40, "layer1": 10, "layer10": 100}),
    ],
)
def test_depth_is_what_the_network_runs_first(
    make_run_folder, make_records, edit_manifest, names, depths
):
    records = make_records(20, {"net": names}, methods={"grad_cam": {}, "xgrad_cam": {}})
    run = make_run_folder(records, {"net": names})
    order = sorted(names, key=lambda name: (depths or {}).get(name, 0))
    if depths:
        network = run.manifest.models["net"].model_dump()
        network["depths"] = depths
        edit_manifest(run.path, models={"net": network})
        run = RunFolder.read(run.path)

    panels = [figure.draw().axes[0] for figure in drawn_figures(lines.draw_by_depth, run)]

    for axes in panels:
        assert texts(axes.get_xticklabels()) == order
    medians = run.records.frame(["zeta"]).groupby("layer", observed=True)["value"].median()
    np.testing.assert_allclose(panels[0].lines[0].get_ydata(), medians[order], rtol=1e-12)
    assert next(iter(all_figures(run))).title == lines.BY_DEPTH


@pytest.mark.slow
def test_methods_by_depth_share_a_line_where_they_are_the_same(make_run_folder, make_records):
    layers = {"one": ("a", "b"), "two": ("a", "b", "c"), "shallow": ("a",)}
    records = make_records(20, layers, methods={"grad_cam": {}, "xgrad_cam": {}})
    twin = records[records["method"] == "xgrad_cam"].assign(method="hires_cam")
    methods = {"grad_cam": {}, "xgrad_cam": {}, "hires_cam": {}}
    run = make_run_folder(pd.concat([records, twin], ignore_index=True), layers, methods=methods)
    figure_by_name = {figure.name: figure for figure in drawn_figures(lines.draw_by_depth, run)}
    sensitivity = figure_by_name["by_depth_sensitivity_error"]
    drawing = sensitivity.draw()
    panels = drawing.axes
    assert [axes.get_title(loc="left") for axes in panels if axes.lines] == ["one", "two"]

    last_panel = panels[1]
    legend = last_panel.get_legend()
    drawing.draw_without_rendering()
    box = legend.get_window_extent().transformed(last_panel.transAxes.inverted())
    assert (box.x0, box.y1) == pytest.approx((-0.1, -0.32))  # the layout keeps this room free
    assert texts(legend.get_texts()) == ["grad_cam", "xgrad_cam = hires_cam"]

    rows = records.query(
        "model == 'two' and method == 'grad_cam' and metric == 'sensitivity_error'"
    )
    medians = rows.groupby("layer")["value"].median()
    np.testing.assert_allclose(last_panel.lines[0].get_ydata(), medians, rtol=1e-12)
    assert "n = 20 images, 20 rows a median" in sensitivity.caption


@pytest.mark.slow
def test_models_without_a_value_have_no_panel_by_depth(make_run_folder, make_records):
    """Check runs that are combined, of which only one measured the axiom errors."""
    layers = {"other": ("a", "b"), "net": ("a", "b")}
    records = make_records(20, layers, methods={"grad_cam": {}})
    is_left_out = (records["model"] == "other") & records["metric"].isin(
        [*PLANE, "zeta", "epsilon"]
    )
    run = make_run_folder(records[~is_left_out], layers)
    for figure in drawn_figures(lines.draw_by_depth, run):
        assert [axes.get_title(loc="left") for axes in figure.draw().axes if axes.lines] == ["net"]


def test_no_figure_is_drawn_by_depth_if_only_models_of_one_layer_have_values(
    make_run_folder, make_records
):
    layers = {"deep": ("a", "b"), "shallow": ("a",)}
    records = make_records(20, layers, methods={"grad_cam": {}})
    is_left_out = (records["model"] == "deep") & records["metric"].isin([*PLANE, "zeta", "epsilon"])
    (item,) = lines.draw_by_depth(make_run_folder(records[~is_left_out], layers))
    assert item.reason == "No model with several layers has values of zeta and epsilon."


def test_a_logarithmic_axis_ends_a_little_below_what_is_no_rounding():
    medians = np.array([1e-9, 1e-6, 0.3, 3.0])
    assert low_end(medians[2:]) is None
    assert low_end(medians) == 1e-6
    assert low_end(np.array([0.03, 3.0])) == pytest.approx(0.01)
    assert low_end(np.array([0.03, 3.0]), np.array([1e-9, 0.003])) == pytest.approx(0.001)
    points = pd.DataFrame({"Median": medians})
    assert is_clipped(points, 1e-6).tolist() == [True, False, False, False]
    assert not is_clipped(points, None).any()


def test_medians_that_are_rounding_are_drawn_as_such_on_a_logarithmic_axis(
    make_run_folder, make_records
):
    layers = {"net": ("a", "b", "c")}
    records = make_records(20, layers, methods={"grad_cam": {}})
    zeta = records["metric"] == "zeta"
    records.loc[zeta & (records["layer"] == "c"), "value"] = 1e-9
    records.loc[zeta & (records["layer"] == "b"), "value"] *= 1e-3
    figure = drawn_figures(lines.draw_by_depth, make_run_folder(records, layers))[0]
    axes = figure.draw().axes[0]
    assert axes.get_yscale() == "log"
    assert axes.lines[0].get_ydata()[2] > 1e-6  # on the low end, not seven decades below it
    triangles = [line for line in axes.lines if line.get_marker() == "v"]
    assert [line.get_xdata().tolist() for line in triangles if len(line.get_xdata())] == [[2]]
    assert "Open triangles" in figure.caption


@pytest.mark.slow
def test_figures_follow_the_questions_of_a_reader_and_drawing_warns_of_nothing(run):
    with warnings.catch_warnings(action="error"):
        items = list(all_figures(run))
    names = [item.name for item in items if isinstance(item, Figure)]
    beginnings = ["ranking", "by_method", "axiom_plane", "cost", "maps", "pair", "perturbed"]
    first_places = []
    for beginning in [*beginnings, "over_models", "agreement"]:
        first_places.append(next(i for i, name in enumerate(names) if name.startswith(beginning)))
    assert first_places == sorted(first_places)
    # the numbers of the paper's figures are only in the page of axiom-bench paper
    assert not any("Fig" in item.title for item in items)
    assert list(lines.draw_by_depth(run)) == []  # one layer has no depth


def test_a_chart_opens_on_the_metric_that_compares_the_most_methods(make_run_folder):
    """Check four metrics: of one method, of three that coincide, of three, and of two."""
    methods = {"low": {}, "high": {}, "cam": {}}
    values_by_metric = {
        "sensitivity_error": {"low": [0.1] * 9, "high": [np.nan] * 9, "cam": [np.nan] * 9},
        "conservation_error": dict.fromkeys(methods, [0.2] * 9),
        "confidence_drop": {"low": [0.1] * 9, "high": [0.2] * 9, "cam": [0.3] * 9},
        "box_iou": {"low": [0.1] * 9, "high": [0.2] * 9, "cam": [np.nan] * 9},
    }
    rows = [rows_of(metric, values) for metric, values in values_by_metric.items()]
    run = make_run_folder(pd.concat(rows, ignore_index=True), methods=methods)
    for draw in (by_method.draw, points.draw_costs):
        labels = [figure.label for figure in drawn_figures(draw, run)]
        if labels:
            assert labels[0] == run.metadata.value("confidence_drop").title
    assert drawn_figures(by_method.draw, run)


def test_pictures_show_the_configured_methods(run):
    pictures = next(load(run))

    (perturbed, _) = drawn_figures(figures.draw_perturbed, run)
    before = pictures.confidence[1]
    after = pictures.confidence_perturbed[pictures.methods.index("xgrad_cam"), 1]
    drop = f"confidence {after:.2f}, drop {before - after:.2f}".replace("-", "\N{MINUS SIGN}")
    titles = [axes.get_title() for axes in perturbed.draw().axes]
    assert titles[3:6] == [f"confidence {before:.2f}", "xgrad_cam", drop]

    (pair, _) = drawn_figures(figures.draw_pair, run)
    titles = [axes.get_title() for axes in pair.draw().axes]
    assert titles == ["seven", "xgrad_cam", "guided_xgrad_cam"]

    (grid, _) = drawn_figures(figures.draw_grid, run)
    drawing = grid.draw()
    (axes,) = drawing.axes
    class_names_width = figures.GRID_NAME * figures.LETTER
    maps_width = drawing.get_figwidth() - class_names_width - 0.1
    side = maps_width / (1 + len(pictures.methods))
    maps_height = len(pictures.images) * side
    titles_height = 3 * figures.LINE  # a title has three lines
    assert drawing.get_figheight() == pytest.approx(maps_height + titles_height)

    # The tile of the second image and the second method.
    height, width = pictures.images.shape[1:3]
    gap = round(figures.GAP * width)
    top = height + gap
    left = 2 * (width + gap)
    tile = axes.images[0].get_array()[top : top + height, left : left + width]
    np.testing.assert_array_equal(tile, blend(pictures.images[1], pictures.heatmaps[1, 1]))
    words = texts(axes.texts)
    assert words[:3] == ["image", "grad_cam", "xgrad_cam"]
    assert words[7] == "seven"


def test_a_flipped_bit_of_pictures_is_found(make_run_folder):
    """Check a bit that the archive's own checksums don't cover: in the time of a member."""
    run = make_run_folder(3, pictures=True)
    archive = run.path / run.manifest.pictures[0]
    content = bytearray(archive.read_bytes())
    content[10] ^= 1
    archive.write_bytes(content)
    with pytest.raises(BenchError, match="checksum"):
        list(load(run))


@pytest.mark.slow
def test_no_pictures_and_no_choice_are_sentences(make_run_folder, edit_manifest):
    run = make_run_folder(3)
    for draw in (figures.draw_pair, figures.draw_perturbed, figures.draw_grid):
        assert reason_left_out(draw, run).endswith(".")
    run = make_run_folder(3, pictures=True)
    chosen = {"perturbed": None, "pair": []}
    edit_manifest(run.path, config={"target": "label", "report": {"figures": chosen}})
    for draw in (figures.draw_perturbed, figures.draw_pair):
        assert "report.figures." in reason_left_out(draw, RunFolder.read(run.path))
    settings = {
        "report": {"figures": {"perturbed": "grad_cam"}},
        "pictures": {"perturbation": None},
    }
    edit_manifest(run.path, config={"target": "label", **settings})
    reason = reason_left_out(figures.draw_perturbed, RunFolder.read(run.path))
    assert reason.endswith("pictures.perturbation=confidence_drop stores them.")


def test_names_break_at_underscores():
    assert wrap_name("ablation_cam_axiomatic") == "ablation_cam_\naxiomatic"
    assert wrap_name("xgrad_cam") == "xgrad_cam"
    assert wrap_name("a striped ground with nine") == "a striped\nground with\nnine"
    assert wrap_name("Ablation-CAM (axiomatic)", 8) == "Ablation-\nCAM\n(axiomatic)"


def test_short_tails_are_all_shown_and_heavy_ones_are_cut_and_counted():
    even = np.linspace(-1, 1, 100)
    axis = fit_axis([even])
    assert (axis.low, axis.high, axis.num_outside) == (-1, 1, 0)

    heavy_tails = even.copy()
    heavy_tails[[3, 7]] = [500.0, -500.0]
    axis = fit_axis([heavy_tails])
    assert (axis.is_log, axis.num_outside, axis.count) == (False, 2, 100)
    assert "2 of 100 values (2 %) lie outside" in axis.note

    positive = np.logspace(-2, 3, 100)
    assert fit_axis([positive]).is_log
    with_three_zeros = np.append(positive, [0.0, 1e-8, 1e-8])
    axis = fit_axis([with_three_zeros])
    assert (axis.is_log, axis.num_outside) == (True, 3)
    assert 0.01 <= axis.low < 0.02
    assert "3 of 103 values (3 %) below its low end are drawn there" in axis.note
    assert axis.clip(with_three_zeros).min() == axis.low

    half_zeros = np.array([0.0] * 50 + [1e-4, 1e-3] * 20 + [1.0] * 10)
    assert not fit_axis([half_zeros]).is_log
    axis = fit_axis([np.array([1e-8, 2e-8])])  # only rounding
    assert (axis.is_log, axis.high) == (False, 1e-6)
    assert fit_axis([np.array([2.0])]).high == 2.0


def test_an_axis_is_logarithmic_only_beyond_its_limit():
    """Check the largest value around `LOG_SPREAD` when the median is 1."""
    values = [0.5, 1.0, 1.0, 1.0]
    just_above = np.nextafter(LOG_SPREAD, np.inf)
    assert not fit_axis([np.array([*values, LOG_SPREAD])]).is_log
    assert fit_axis([np.array([*values, just_above])]).is_log


def test_each_groups_quartiles_decide_where_an_axis_is_cut():
    narrow = np.random.default_rng(0).standard_t(1, 40)
    wide = 3 * np.random.default_rng(1).standard_t(1, 41)
    groups = [narrow, wide]
    low, high = np.transpose([np.quantile(group, [0.25, 0.75]) for group in groups])
    values = np.concatenate(groups)

    axis = fit_axis(groups)

    assert axis.low == max(values.min(), (low - 3 * (high - low)).min())
    assert axis.high == min(values.max(), (high + 3 * (high - low)).max())
    is_outside = (values < axis.low) | (values > axis.high)
    assert axis.num_outside == is_outside.sum() > 0


@pytest.mark.slow
def test_files_are_the_same_again_without_time_or_version(tmp_path):
    def plot() -> Canvas:
        figure = canvas(7, 1)
        figure.subplots().set_title("some text")
        return figure

    def saved_files(folder: Path) -> list[bytes]:
        Figure("one", "One", "caption", plot).save(folder, ("png", "pdf", "svg"))
        return [(folder / name).read_bytes() for name in ("one.png", "one.pdf", "one.svg")]

    contents = saved_files(tmp_path / "a")
    assert contents == saved_files(tmp_path / "b")
    png, pdf, svg = contents
    assert b"some text</text>" in svg
    assert b"/FontFile2" in pdf  # TrueType, embedded
    assert b"CreationDate" not in pdf
    assert b"/Type3" not in pdf
    assert b"Software" not in png
    assert matplotlib.image.imread(io.BytesIO(png)).shape[:2] == (DPI, 7 * DPI)


def test_the_fonts_come_with_the_package_and_others_stand_in_for_missing_signs():
    with style():
        regular = Path(findfont(FontProperties(family="Report Sans")))
        bold = Path(findfont(FontProperties(family="Report Sans", weight="bold")))
        assert regular.parent == FONTS.resolve()
        assert bold.name == "ReportSans-Bold.ttf"
        figure = canvas(2, 1)
        figure.subplots().set_title(
            "\N{CYRILLIC SMALL LETTER ZHE} \N{DOWNWARDS ARROW} \N{PLUS-MINUS SIGN}"
        )
        # matplotlib warns about a glyph that no font has.
        with warnings.catch_warnings(action="error"):
            figure.draw_without_rendering()


@pytest.mark.slow
def test_no_label_is_cut_off_or_overlaps_in_print(run):
    """Check the size of each figure, its smallest text, and the room around its labels.

    Every text lies inside the figure and has at least 6 points. Tick labels of an axis don't touch.
    """

    def is_shown(text: Text) -> bool:
        return bool(text.get_text() and text.get_visible())

    for figure in drawn_figures(all_figures, run):
        name = figure.name
        if name == "ranking_1" or "scenes_residual" in name:
            continue  # the second network's figures are laid out like those of the first
        drawing = figure.draw()
        drawing.draw_without_rendering()
        assert drawing.get_figwidth() <= PAGE + 1e-6, name
        assert drawing.get_figheight() <= HEIGHT + 0.5, name
        shown_texts = filter(is_shown, drawing.findobj(Text))
        assert min(text.get_fontsize() for text in shown_texts) >= 6, name
        page = drawing.bbox
        for axes in drawing.axes:
            if not axes.axison:
                continue
            box = axes.get_tightbbox()
            room = min(box.x0 - page.x0, page.x1 - box.x1, box.y0 - page.y0, page.y1 - box.y1)
            assert room > -2, name  # an inch has 100 of these units
            for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
                boxes = [
                    label.get_window_extent()
                    for label in labels
                    if is_shown(label) and label.get_rotation() in (0, 90)
                ]
                assert all(not a.overlaps(b) for a, b in pairwise(boxes)), name


def texts_outside(drawing: Canvas) -> list[str]:
    """Return the texts that the edge of a figure cuts off, except ticks beyond the end of an
    axis, which aren't drawn.
    """
    drawing.draw_without_rendering()
    page = drawing.bbox
    ticks = set()
    for axes in drawing.axes:
        ticks.update([*axes.get_xticklabels(which="both"), *axes.get_yticklabels(which="both")])
    outside = []
    for text in drawing.findobj(Text):
        if not text.get_visible() or not text.get_text().strip() or text in ticks:
            continue
        box = text.get_window_extent()
        room = min(box.x0 - page.x0, page.x1 - box.x1, box.y0 - page.y0, page.y1 - box.y1)
        if room < -0.5:
            outside.append(text.get_text())
    return outside


@pytest.mark.slow
@pytest.mark.parametrize("networks", [1, 3, pytest.param(7, marks=pytest.mark.slow)])
def test_no_title_is_cut_off_whatever_the_number_of_networks(
    make_run_folder, make_records, networks
):
    layers = {f"network_{number}": ("features.9",) for number in range(networks)}
    records = make_records(12, layers, methods={"grad_cam": {}, "xgrad_cam": {}, "hires_cam": {}})
    run = make_run_folder(records, layers)
    for draw in (points.draw_plane, points.draw_costs, by_method.draw, by_method.draw_networks):
        for figure in drawn_figures(draw, run):
            assert texts_outside(figure.draw()) == [], figure.name


@pytest.mark.slow
@pytest.mark.parametrize("layers", [2, 9])
def test_no_title_is_cut_off_by_depth(make_run_folder, make_records, layers):
    names = {"net": tuple(f"features.{number}" for number in range(layers))}
    records = make_records(12, names, methods={"grad_cam": {}, "xgrad_cam": {}})
    for figure in drawn_figures(lines.draw_by_depth, make_run_folder(records, names)):
        assert texts_outside(figure.draw()) == [], figure.name


@pytest.mark.slow
def test_signals_have_low_and_wide_maps():
    images = grid_of(height=96, width=256)
    square = grid_of(height=96, width=96)
    for plot in (
        lambda pictures: figures._plot_pair(pictures, ["a", "b"], ["A", "B"]),
        lambda pictures: figures._plot_perturbed(pictures, "a", "A"),
        lambda pictures: figures._plot_grid(pictures, ["a", "b"], ["A", "B"]),
    ):
        with style():
            wide = plot(images)
            high = plot(square)
        wide.draw_without_rendering()
        assert wide.get_figwidth() > high.get_figwidth()
        assert wide.get_figheight() < high.get_figheight()
        for axes in wide.axes:
            # the picture fills its part of the figure
            assert axes.bbox.height > 0.5 * axes.get_subplotspec().get_position(wide).height * (
                wide.bbox.height
            )


def test_titles_of_perturbed_pictures_do_not_shrink_the_pictures():
    """Check that the figure is high enough for its rows of pictures and their titles.

    Titles are wrapped to the full width of a picture.
    """
    with style():
        figure = figures._plot_perturbed(grid_of(height=96, width=96), "a", "A")
    figure.draw_without_rendering()
    widths = [axes.bbox.width / figure.dpi for axes in figure.axes]
    assert widths == pytest.approx([figures.PERTURBED_SIDE] * 12, rel=0.05)


def grid_of(height: int, width: int) -> figures.Pictures:
    """Return the pictures of four images and two methods."""
    pixels = np.zeros((4, height, width, 3), np.uint8)
    return figures.Pictures(
        model="net",
        layer="layer4",
        images=pixels,
        image_ids=("a", "b", "c", "d"),
        class_names=("sine",) * 4,
        methods=("a", "b"),
        heatmaps=np.zeros((2, 4, height, width)),
        perturbed=np.stack([pixels, pixels]),
        confidence=np.ones(4),
        confidence_perturbed=np.ones((2, 4)),
        confidence_of="probability",
    )


@pytest.mark.parametrize(
    ("methods", "width", "bands", "shown"),
    [(1, 6.2, 1, 6), (11, 6.2, 2, 6), (10, 6.2, 1, 6), (24, 6.2, 3, 5), (4, 2.5, 2, 6)],
)
def test_many_methods_stand_in_bands_on_one_page(methods, width, bands, shown):
    grid = figures.grid_layout(methods, 6, width, 0.4)
    assert list(chain.from_iterable(grid.bands)) == list(range(methods))
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
    assert panels_per_row(count, width, panel, row) == columns


@pytest.mark.slow
def test_what_is_left_out_names_the_setting_that_brings_it(
    make_run_folder, make_records, edit_manifest
):
    def reasons(run: RunFolder) -> dict[str, str]:
        left_out = [item for item in all_figures(run) if isinstance(item, LeftOut)]
        return {item.name: item.reason for item in left_out}

    records = make_records(3, methods={"grad_cam": {}})
    run = make_run_folder(
        records[records["metric"] != "zeta"], methods={"grad_cam": {}}, pictures=True
    )
    assert reasons(run)["pair_"] == (
        "No network of this run has the maps of xgrad_cam,guided_xgrad_cam: add them with "
        "method=[...,xgrad_cam,guided_xgrad_cam]."
    )
    assert "metric=[...,zeta]" in reasons(run)["over_models_zeta"]
    assert "metric=[...,class_discriminability]" in reasons(run)["confusion_"]
    edit_manifest(run.path, pictures=[])
    assert "pictures.rows=6" in reasons(RunFolder.read(run.path))["maps_"]


def test_a_metric_without_a_value_says_its_statuses(make_run_folder, make_records):
    records = make_records(3)
    records.loc[records["metric"] == "zeta", ["status", "value"]] = ["zero_score", np.nan]
    zeta = next(iter(by_method.draw_networks(make_run_folder(records))))
    assert isinstance(zeta, LeftOut)
    assert zeta.reason == "zeta has no value: score is 0 (6 rows)."


def test_a_panel_without_values_has_no_boxes():
    """Check a network on which no method has a value that a logarithmic axis can show."""
    axes = Canvas().subplots()
    draw_boxes(axes, [], Axis(0, 1, False, 0, 0))
    assert not axes.collections
    assert not axes.lines


class KeepMessages(logging.Handler):
    """A handler that keeps messages. pytest's own capture of logs is switched off, since it adds
    handlers to fifty loggers for each test.
    """

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def test_a_list_of_fonts_without_matplotlibs_own_is_completed(tmp_path):
    """Check a logarithmic axis, whose powers are written in one of matplotlib's fonts."""
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

    handler = KeepMessages()
    logger = logging.getLogger("matplotlib")
    logger.addHandler(handler)
    try:
        Figure("name", "title", "", plot).save(tmp_path)
    finally:
        logger.removeHandler(handler)
    assert handler.messages == []


def test_signs_that_the_figures_fonts_lack(tmp_path):
    """Check that another installed font draws such signs, or that their code replaces them.

    matplotlib's own STIX is such a font. matplotlib's list of fonts may lack its own: all
    installations share the list, and one that was being removed may have written it without them.
    """
    fontManager.ttflist[:] = [
        entry for entry in fontManager.ttflist if not entry.name.startswith("STIX")
    ]
    can_draw.cache_clear()
    dejavu = set(get_font(MATPLOTLIB_FONTS / "DejaVuSans.ttf").get_charmap())
    stix = set(get_font(MATPLOTLIB_FONTS / "STIXGeneral.ttf").get_charmap())
    stix_sign = chr(min(stix - dejavu))
    signs = map(chr, range(0x10000, 0x1F000))
    missing_sign = next(sign for sign in signs if sign.isprintable() and not can_draw(sign))
    assert can_draw("\u00e9\n")
    assert can_draw(stix_sign)
    assert not can_draw(f"a{missing_sign}")

    def plot() -> Canvas:
        figure = canvas(2, 2)
        figure.subplots().set_title(f"{stix_sign}{missing_sign}")
        return figure

    figure = Figure("name", "title", "", plot)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.save(tmp_path)
    axes = figure.draw().axes[0]
    title = axes.get_title("left") + axes.get_title()
    assert title == f"{stix_sign}U+{ord(missing_sign):X}"
