"""Which metric predicts what people see: closed forms, and a run that knows the answers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy.stats import mannwhitneyu, spearmanr

from axiom_bench.errors import BenchError
from axiom_bench.report.game.answers import read
from axiom_bench.report.game.predicting import area_under_curve, predictions, rank_correlation
from axiom_bench.statistics.run_folder import RunFolder

SEEN = {"left_cam": {"on_score_scale": True}, "right_cam": {"on_score_scale": True}}


def test_the_area_is_mann_whitneys():
    generator = np.random.default_rng(0)
    values, correct = generator.integers(0, 8, 60).astype(float), generator.random(60) < 0.4
    weights = generator.integers(0, 3, (5, 60)).astype(float)
    for row, area in zip(weights, area_under_curve(values, correct, weights), strict=True):
        repeated, right = np.repeat(values, row.astype(int)), np.repeat(correct, row.astype(int))
        expected = mannwhitneyu(repeated[right], repeated[~right]).statistic / (right.sum() * (~right).sum())
        assert area == pytest.approx(expected)


def test_the_rank_correlation_is_spearmans_with_an_exact_p():
    first, second = np.array([0.1, 0.4, 0.2, 0.9]), np.array([1.0, 2.0, 3.0, 4.0])
    correlation, _ = rank_correlation(first, second)
    assert correlation == pytest.approx(spearmanr(first, second).statistic)
    assert rank_correlation(second, second) == pytest.approx((1.0, 2 / 24))
    assert all(np.isnan(rank_correlation(second[:2], second[:2])))
    assert all(np.isnan(rank_correlation(np.ones(4), second)))


@pytest.fixture
def run(make_run: Callable, make_records: Callable) -> RunFolder:
    """A run whose box_iou is high where `is_right` of the test below is true, and whose other metrics are as before."""
    records = make_records(n=12, methods=("grad_cam", "xgrad_cam"))
    records["method"] = records["method"].replace({"grad_cam": "left_cam", "xgrad_cam": "right_cam"})
    records["image_id"] = "image-" + records["image_id"].str[-1]
    records = records.drop_duplicates(["model", "image_id", "method", "metric"])
    records = records.loc[records["image_id"].isin([f"image-{number}" for number in range(6)])]
    both = [records.assign(target_class=target) for target in (7, 9)]
    for target, rows in zip((7, 9), both, strict=True):
        number = rows["image_id"].str[-1].astype(int)
        rows.loc[rows["metric"] == "box_iou", "value"] = (number % 2 == 0) + 0.001 * target
        rows["status"] = "ok"
        rows["value"] = rows["value"].fillna(0.5)
    return RunFolder.read(make_run(pd.concat(both, ignore_index=True), methods=SEEN, pictures=False))


def test_a_metric_that_knows_the_answers_predicts_them(run: RunFolder, save_answers: Callable):
    files = [save_answers(player, is_right=lambda _, image, __: image % 2 == 0) for player in range(6)]
    metrics = predictions(run, read(files).table).set_index("metric")
    assert metrics.index[0] == "box_iou"
    assert metrics.loc["box_iou", "auc"] == 1
    assert metrics.loc["box_iou", "answers"] == 24  # the floor has no records
    assert np.isnan(metrics.loc["box_iou", "rank_correlation"])  # two methods
    assert "zeta" not in metrics.index  # it has no better side
    inside = metrics.loc["confidence_drop"]
    assert inside["low"] <= inside["auc"] <= inside["high"]


def test_answers_of_another_run_are_refused(run: RunFolder, save_answers: Callable):
    table = read([save_answers(1)]).table
    for column in ("model", "layer", "data", "weights"):
        with pytest.raises(BenchError, match="give --run the run that the game was made of"):
            predictions(run, table.assign(**{column: "other"}))
