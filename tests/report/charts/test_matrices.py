"""Matrices compared with values computed by hand.

They show the explained class against the class seen, the agreement of metrics, and rankings.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from axiom_bench.records import files
from axiom_bench.records.by_metric import Records
from axiom_bench.report.charts import by_method, matrices, ranking
from axiom_bench.report.charts.drawing import Figure, LeftOut
from axiom_bench.report.page import tables
from axiom_bench.statistics.labels import Value, number
from axiom_bench.statistics.run_folder import RunFolder
from tests.report.charts.conftest import reason_left_out

CLASSES = ["cat", "dog", "horse"]
NAN = float("nan")


# The values of two or three metrics, one number per method: tau and the number of methods for each
# pair of metrics that has an agreement.
AGREEMENTS = {
    "1 2 3 4 5 | 10 20 30 40 50": [(1, 5)],
    "1 2 3 4 5 | 5 4 3 2 1": [(-1, 5)],
    "1 2 3 4 | 1 2 4 3": [(4 / 6, 4)],  # one of six pairs is exchanged
    "1 1 1 1 2 | 3 3 3 3 4": [],  # four names of one method
    "1 2 3 4 4.0000001 | 1 2 3 4 4.0000001": [(1, 4)],  # methods that coincide count once
    # Values that print alike are a tie: 5 pairs agree, and 1 is tied.
    "1 2 3 3.00001 | 1 2 3 4": [(5 / 30**0.5, 4)],
    "1 2 3 4 nan | 1 2 3 4 0.5 | 1 2 3 nan nan": [(1, 4)],  # only methods that both measured
    "1 2 3 4 5 | 1 1 1 1 1": [],  # a metric on which all methods are equal
}


@pytest.mark.parametrize("text", AGREEMENTS)
def test_agreement(text):
    values = [[float(value) for value in row.split()] for row in text.split("|")]
    metrics = ["first", "second", "third"][: len(values)]
    methods = list("abcde")[: len(values[0])]
    cells = matrices.kendall_agreement(pd.DataFrame(values, metrics, methods))
    pairs = AGREEMENTS[text]
    expected = np.reshape(pairs, (-1, 2))
    np.testing.assert_allclose(cells[["tau", "n"]].to_numpy(float), expected, rtol=1e-9)
    assert cells[["column", "row"]].to_numpy().tolist() == [["first", "second"]] * len(pairs)
    if cells["n"].tolist() == [5]:
        # Two of the 5! orders are as far from 0.
        assert cells["p"].tolist() == pytest.approx([2 / 120])


@pytest.mark.slow
def test_agreement_of_a_metric_that_has_methods_in_common_with_one_of_two_others(
    make_records, make_run
):
    layers = {"scenes_fc": ("features.9",)}
    metrics = ["sensitivity_error", "confidence_drop", "box_iou"]
    rows = make_records(n=20, layers=layers)
    rows = rows[rows["metric"].isin(metrics)].assign(status="ok")
    rows["value"] = np.random.default_rng(0).random(len(rows))
    for metric, methods in (
        ("sensitivity_error", ["grad_cam", "xgrad_cam"]),
        ("confidence_drop", ["guided_xgrad_cam", "random"]),
    ):
        is_missing = (rows["metric"] == metric) & rows["method"].isin(methods)
        rows.loc[is_missing, ["status", "value"]] = ["zero_map", NAN]
    (figure,) = matrices.draw_agreement(RunFolder.read(make_run(rows, layers=layers)))
    assert len(figure.frame) == 2
    figure.draw()


@pytest.fixture
def run(make_records, make_run, edit_manifest) -> RunFolder:
    """A run of six methods on one model. Only grad_cam sees classes other than the target."""
    layers = {"scenes_fc": ("features.9",)}
    rows = make_records(n=6, layers=layers)
    seen = rows[rows["metric"] == "confidence_drop"].assign(metric="class_seen", status="ok")
    seen["target_class"] = np.tile([0, 0, 0, 1, 1, 2], len(seen) // 6)
    seen["value"] = seen["target_class"].astype(float)
    seen.loc[seen["method"] == "grad_cam", "value"] = [0.0, 0.0, 1.0, 1.0, 7.0, NAN]
    seen.loc[seen["value"].isna(), "status"] = "off_objects"
    folder = make_run(pd.concat([rows, seen]), layers=layers)
    manifest = files.read_json(folder / "manifest.json")
    manifest["metrics"]["class_seen"] = {"title": "Class seen", "unit": "class"}
    manifest["models"]["scenes_fc"]["classes"] = CLASSES
    edit_manifest(folder, **manifest)
    return RunFolder.read(folder)


def confusion_figure(run: RunFolder) -> Figure:
    """Return the only figure of `draw_confusion`."""
    (figure,) = matrices.draw_confusion(run)
    assert isinstance(figure, Figure)
    return figure


def test_rows_are_shares_of_the_explained_class(run):
    rows = run.class_records.frame().query("method == 'grad_cam' and status == 'ok'")
    # The class seen 7 has no column, and class 2 has no map.
    expected = np.array([[2 / 3, 1 / 3, 0], [0, 1 / 2, 0], [NAN, NAN, NAN]])
    np.testing.assert_allclose(matrices.confusion_shares(rows, [0, 1, 2]), expected, atol=1e-12)


@pytest.mark.slow
def test_a_panel_for_each_method_with_the_classes_names(run, tmp_path):
    """Check also that a class isn't averaged as if it were a number."""
    figure = confusion_figure(run)
    panels = figure.draw().axes
    titles = [axes.get_title(loc="left") for axes in panels if axes.get_title(loc="left")]
    first_title, *other_titles = titles
    assert first_title == "grad_cam: 60 %"
    assert other_titles == [f"{method}: 100 %" for method in run.class_records.methods[1:]]
    assert [text.get_text() for text in panels[0].get_yticklabels()] == CLASSES
    assert "n = 6 images, 6 rows" in figure.caption
    assert figure.name == "confusion_class_seen"

    assert "class_seen" not in run.metrics
    assert "class_seen" not in run.records.metrics
    charts = [item for item in by_method.draw(run) if isinstance(item, Figure)]
    assert not any("class_seen" in chart.name for chart in charts)

    figure.save(tmp_path, ("png",))
    assert (tmp_path / f"{figure.file_name}.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.slow
def test_many_classes_are_cut_to_the_most_explained(run):
    rows = run.class_records.frame()
    explained_classes = [*range(30), 29]  # 29 is explained twice
    rows = pd.concat(
        [rows.assign(target_class=label, value=float(label)) for label in explained_classes]
    )
    figure = confusion_figure(replace(run, class_records=Records.of(rows)))
    labels = [text.get_text() for text in figure.draw().axes[0].get_yticklabels()]
    assert len(labels) == matrices.MAX_CLASSES
    assert "29" in labels
    assert "The 20 of 30 classes that are explained most often." in figure.caption


@pytest.mark.parametrize(
    ("values", "better", "expected"),
    [
        ([0.3, 0.1, 0.2], "lower", [3, 1, 2]),
        ([0.3, 0.1, 0.2], "higher", [1, 3, 2]),
        ([0.1001, 0.1002, 0.2], "lower", [1.5, 1.5, 3]),  # both print 0.100
        ([2e-7, 0.0, -3e-9], "lower", [2, 2, 2]),  # float32's rounding doesn't rank methods
        ([NAN, 5.0, 4.0], "higher", [NAN, 1, 2]),
    ],
)
def test_places(values, better, expected):
    np.testing.assert_array_equal(ranking.rank_methods(pd.Series(values), better), expected)


def test_what_leads_is_the_whole_data_sets_value_or_the_statistic_that_tables_lead_with():
    rows = [
        ("a", "error", False, 0.9, 0.1),
        ("b", "error", False, 0.8, 0.2),
        ("a", "iou", False, 0.3, 0.9),
        ("b", "iou", False, NAN, NAN),
        ("a", "max_box_acc", True, 0.7, NAN),
        ("c", "iou", False, NAN, NAN),
    ]
    columns = ["method", "metric", "whole_set", "common_mean", "common_median"]
    summary = pd.DataFrame(rows, columns=columns)
    summary["compared"] = summary["common_mean"].notna()
    values = [
        Value("error", "Error", "ratio", "lower", kind="ratio"),
        Value("iou", "IoU", "share", "higher"),
        Value("max_box_acc", "MaxBoxAcc", "ratio", "higher", kind="ratio"),
    ]

    leading_values = ranking.leading_values(summary, values)

    expected = pd.DataFrame(
        {"a": [0.1, 0.3, 0.7], "b": [0.2, NAN, NAN]}, index=["error", "iou", "max_box_acc"]
    )
    pd.testing.assert_frame_equal(leading_values, expected, check_names=False)


def test_the_share_that_does_worse():
    values = [Value("error", "Error", better="lower"), Value("iou", "IoU", better="higher")]
    table = pd.DataFrame(
        {"a": [0.1, 0.5], "b": [0.2, NAN], "c": [0.3, 0.5]}, index=["error", "iou"]
    )
    expected = [[1, 0.5, 0], [0.5, NAN, 0.5]]
    np.testing.assert_array_equal(ranking.share_of_worse_methods(table, values), expected)


def test_a_run_without_the_metric_and_one_of_one_method_say_so(make_run_folder, make_records):
    run = make_run_folder(make_records(n=4).query("method == 'xgrad_cam'"))
    assert "class_discriminability" in reason_left_out(matrices.draw_confusion, run)
    for item in ranking.draw(run):
        assert isinstance(item, LeftOut)
        assert "two methods" in item.reason


@pytest.mark.slow
def test_methods_stand_in_the_manifests_order_though_the_first_network_lacks_one(
    make_run_folder, make_records
):
    records = make_records(n=12).query("not (model == 'scenes_fc' and method == 'grad_cam')")
    run = make_run_folder(records)
    figure = next(item for item in ranking.draw(run) if isinstance(item, Figure))
    tick_labels = figure.draw().axes[0].get_xticklabels()
    labels = [text.get_text().replace("\n", "") for text in tick_labels]
    assert labels[:3] == ["grad_cam", "xgrad_cam", "hires_cam"]


def test_a_number_on_fewer_rows_than_the_table_s_says_so(make_records, make_run):
    """Compare the values of the overview, of the ranking and of a finding, by method and metric.

    One method lacks an image, so that methods are compared on the others.
    """
    layers = {"scenes_fc": ("features.9",)}
    methods = {"grad_cam": {}, "xgrad_cam": {}, "hires_cam": {}}
    records = make_records(20, layers, methods=methods)
    lacks = (records["method"] == "grad_cam") & (records["metric"] == "box_iou")
    row = records.index[lacks][-1]
    records.loc[row, ["status", "value"]] = ["zero_map", np.nan]
    run = RunFolder.read(make_run(records, layers=layers, methods=methods, pictures=False))
    (setting,) = run.settings

    (figure,) = [item for item in ranking.draw(run) if isinstance(item, Figure)]
    (axes,) = figure.draw().axes
    labels = [label.get_text().split("\n") for label in axes.get_yticklabels()]
    summary = run.summary[run.summary["method"] != "-"]
    has_other_numbers = set()
    labelled = set()
    for name in ("box_iou", "confidence_drop", "sensitivity_error"):
        value = run.metadata.value(name)
        rows = summary[summary["metric"] == name].set_index("method")
        comparison = run.comparisons.of(setting, name)
        chart = tables.intervals(run, setting, value)
        for method in methods:
            if number(rows.loc[method, value.lead]) != number(comparison.place(method).value):
                has_other_numbers.add(name)
        (label,) = [lines for lines in labels if lines[0].startswith(value.title + " ")]
        if len(label) == 2:
            assert label[1].endswith("rows in common")
            labelled.add(name)
        assert ("rows in common" in chart) == (len(label) == 2)
    assert "box_iou" in has_other_numbers
    assert has_other_numbers <= labelled
    assert "sensitivity_error" not in labelled  # no method lacks a row
    assert "The overview uses all rows of each method." in figure.caption
