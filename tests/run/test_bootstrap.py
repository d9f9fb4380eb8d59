"""Resamples of images: closed forms, images that stay together, and seeds."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest

from axiom_bench import metrics
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.evaluation.specs import MetricSpec
from axiom_bench.evaluation.whole_set import image_ids, resampled_values
from axiom_bench.run.computing.whole_set import RESAMPLES, draws, replicates

IMAGES, THRESHOLDS = 200, 100


def curves_of(share: float, rows_each: int = 1) -> pd.DataFrame:
    """Rows of IMAGES images, whose IoU is above 0.5 at every threshold for that share of them and 0 for the others."""
    ids = np.repeat([f"image_{i:04d}" for i in range(IMAGES)], rows_each)
    hits = np.repeat(np.arange(IMAGES) < round(share * IMAGES), rows_each)
    points = list(np.where(hits, 0.8, 0.0)[:, None].repeat(THRESHOLDS, 1))
    names = {"target_class": 0, "method": "grad_cam", "curve": "max_box_acc_iou", "status": "ok"}
    return pd.DataFrame({"image_id": ids, "points": points, **names})


def mean_alone(curves):
    """A user's aggregate, which takes no `counts`."""
    return {"mine": float((curves["max_box_acc_iou"] >= 0.5).mean())}


def resampled(metric: Plugin, curves: pd.DataFrame, images: list[str] | None = None) -> dict[str, list[float]]:
    rows = image_ids(metric, curves)
    return replicates(partial(resampled_values, metric, curves), images or sorted(set(rows)), rows)


@pytest.fixture
def max_box_acc() -> Plugin:
    return metrics.get("max_box_acc")


def test_of_a_share_of_the_images_the_deviation_is_the_binomials(max_box_acc: Plugin) -> None:
    values = resampled(max_box_acc, curves_of(0.3))
    exact = np.sqrt(0.3 * 0.7 / IMAGES)
    deviation = np.std(values["max_box_acc"], ddof=1)
    assert deviation == pytest.approx(exact, rel=4 / np.sqrt(2 * RESAMPLES))  # 4 of its own errors
    assert set(values["max_box_acc_threshold"]) == {0.0}  # the first of equals in every resample


def test_all_rows_of_an_image_are_drawn_together(max_box_acc: Plugin) -> None:
    once, thrice = (resampled(max_box_acc, curves_of(0.3, rows)) for rows in (1, 3))
    np.testing.assert_allclose(thrice["max_box_acc"], once["max_box_acc"], rtol=1e-12)


def test_the_order_of_rows_does_not_matter(max_box_acc: Plugin) -> None:
    curves = curves_of(0.3)
    assert resampled(max_box_acc, curves) == resampled(max_box_acc, curves.sample(frac=1, random_state=0))


def test_draws_are_seeded_by_the_image_ids() -> None:
    ids = [f"{i}" for i in range(30)]
    np.testing.assert_array_equal(draws(ids), draws(ids))
    assert (draws(ids) != draws([f"other {name}" for name in ids])).any()
    assert draws(ids).shape == (RESAMPLES, 30)
    assert (draws(ids).sum(1) == 30).all()


def test_a_method_without_some_images_is_seen_on_the_same_resamples(max_box_acc: Plugin) -> None:
    """The share of hits among the images that it has and that are drawn, in each resample."""
    curves, images = curves_of(0.3), sorted(set(curves_of(0.3)["image_id"]))
    part = curves[curves.index % 4 != 1]
    values = resampled(max_box_acc, part, images)["max_box_acc"]
    columns = np.flatnonzero(np.isin(images, part["image_id"]))
    counts, hits = draws(images)[:, columns], columns < round(0.3 * IMAGES)
    np.testing.assert_allclose(values, (counts @ hits) / counts.sum(1), rtol=1e-12)


def test_an_aggregate_that_takes_no_counts_has_the_same(max_box_acc: Plugin) -> None:
    spec = MetricSpec(curves=("max_box_acc_iou",), aggregate=f"{__name__}.mean_alone")
    values = resampled(Plugin("mine", "", print, spec), curves_of(0.3))["mine"]
    np.testing.assert_allclose(values, resampled(max_box_acc, curves_of(0.3))["max_box_acc"], rtol=1e-12)


def test_one_image_or_none_has_no_replicates(max_box_acc: Plugin) -> None:
    for curves in (curves_of(0.3)[:1], curves_of(0.3)[:0], curves_of(0.3).assign(status="zero_map")):
        assert resampled(max_box_acc, curves) == {}


def test_curves_of_other_rows_are_refused() -> None:
    above, hit = (curves_of(0.3).assign(curve=name) for name in ("pxap_above", "pxap_hit"))
    with pytest.raises(BenchError, match="aren't of the same rows"):
        image_ids(metrics.get("pxap"), pd.concat([above, hit[1:]]))
