"""The order of the methods by every metric: places by hand, and what is left white."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from axiom_bench.report.charts import ranking
from axiom_bench.report.charts.drawing import Drawing, LeftOut
from axiom_bench.statistics.labels import Value
from axiom_bench.statistics.run_folder import RunFolder

NAN = np.nan


@pytest.mark.parametrize(
    ("values", "better", "expected"),
    [
        ([0.3, 0.1, 0.2], "lower", [3, 1, 2]),
        ([0.3, 0.1, 0.2], "higher", [1, 3, 2]),
        ([0.1001, 0.1002, 0.2], "lower", [1.5, 1.5, 3]),  # both print 0.100
        ([2e-7, 0.0, -3e-9], "lower", [2, 2, 2]),  # float32's rounding orders nothing
        ([NAN, 5.0, 4.0], "higher", [NAN, 1, 2]),
    ],
)
def test_places(values, better, expected):
    np.testing.assert_array_equal(ranking.places(pd.Series(values), better), expected)


def test_what_leads_is_the_whole_data_sets_value_or_the_statistic_that_tables_lead_with() -> None:
    rows = [
        ("a", "error", False, 0.9, 0.1), ("b", "error", False, 0.8, 0.2), ("a", "iou", False, 0.3, 0.9),
        ("b", "iou", False, NAN, NAN), ("a", "max_box_acc", True, 0.7, NAN), ("c", "iou", False, NAN, NAN),
    ]  # fmt: skip
    summary = pd.DataFrame(rows, columns=["method", "metric", "whole_set", "common_mean", "common_median"])
    summary["compared"] = summary["common_mean"].notna()
    values = [Value("error", "Error", "ratio", "lower"), Value("iou", "IoU", "share", "higher"),
              Value("max_box_acc", "MaxBoxAcc", "ratio", "higher")]  # fmt: skip
    table = ranking.leads(summary, values)
    expected = pd.DataFrame(
        {"a": [0.1, 0.3, 0.7], "b": [0.2, NAN, NAN]}, index=["error", "iou", "max_box_acc"], dtype=float
    )
    pd.testing.assert_frame_equal(table, expected, check_names=False)


def test_one_figure_for_each_setting_with_every_directed_metric(usual_run: Path) -> None:
    run = RunFolder.read(usual_run)
    drawings = list(ranking.draw(run))
    assert [drawing.name for drawing in drawings if isinstance(drawing, Drawing)] == [
        "ranking_over_all",
        *(f"ranking_{i}" for i in range(len(run.settings))),
    ]
    directed = [value.title for value in map(run.metadata.value, run.metrics) if value.better != "none"]
    (axes,) = drawings[1].draw().axes  # type: ignore[union-attr]
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert [label[:-2] for label in labels] == [title for title in directed if title in {one[:-2] for one in labels}]
    assert "\N{DOWNWARDS ARROW}" in next(label for label in labels if label.startswith("Sensitivity error"))
    methods = len(axes.get_xticklabels())
    assert len(axes.texts) == methods * len(labels)
    assert {"\N{EN DASH}"} < {text.get_text() for text in axes.texts}  # methods off the score's scale


def test_the_share_that_does_worse() -> None:
    values = [Value("error", "Error", better="lower"), Value("iou", "IoU", better="higher")]
    table = pd.DataFrame([[0.1, 0.2, 0.3], [0.5, NAN, 0.5]], index=["error", "iou"], columns=["a", "b", "c"])
    expected = [[1, 0.5, 0], [0.5, NAN, 0.5]]
    np.testing.assert_array_equal(ranking.ahead(table, values), expected)


def test_over_all_is_the_mean_of_the_settings(usual_run: Path) -> None:
    run = RunFolder.read(usual_run)
    over_all, *each = (drawing.draw().axes[0] for drawing in ranking.draw(run) if isinstance(drawing, Drawing))
    shares = [axes.images[0].get_array().filled(NAN) for axes in (over_all, *each)]
    assert shares[0].shape == shares[1].shape == shares[2].shape
    known = ~np.isnan(shares[0])
    np.testing.assert_array_equal(known, ~np.isnan(np.array(shares[1:])).all(axis=0))
    np.testing.assert_allclose(shares[0][known], np.nanmean(np.array(shares[1:])[:, known], axis=0), atol=1e-12)


def test_one_method_is_no_order(make_records: Any, make_run: Any) -> None:
    records = make_records(n=4)
    run = RunFolder.read(make_run(records[records["method"] == "xgrad_cam"]))
    assert all(isinstance(one, LeftOut) and "two methods" in one.reason for one in ranking.draw(run))
