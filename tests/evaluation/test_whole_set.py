"""Values of the whole data set in a notebook's table: rows with image id "*"."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from axiom_bench.errors import BenchError
from axiom_bench.evaluation.evaluate import evaluate
from axiom_bench.evaluation.measurement import measure
from axiom_bench.evaluation.plugins import Plugin, whole_set_value_names
from axiom_bench.evaluation.specs import MetricSpec, Need, ValueSpec
from axiom_bench.evaluation.whole_set import aggregate
from axiom_bench.explanation.explanation import Explanation

SPEC = MetricSpec(curves=("halves",), aggregate=f"{__name__}.best", needs=(Need("boxes"),))


def halves(explanation, scale=1.0):
    """A curve of three points for each image: the target's index times 1, 1/2 and 1/4."""
    index = scale * explanation.trace.targets.double()
    return {"mine": index, "halves": index[:, None] / torch.tensor([1.0, 2.0, 4.0])}


def best(curves, scale):
    """The greatest mean over images, in units of `scale`."""
    return {"mine": float(curves["halves"].mean(0).max() / scale)}


@pytest.fixture
def metric() -> Plugin:
    return Plugin("mine", "tests.halves", lambda explanation: halves(explanation, 2.0), SPEC, {"scale": 2.0})


def test_one_row_for_each_method_of_the_images_with_a_value(net, batch, metric):
    table = evaluate(net, "1", [batch, batch], ["grad_cam", "xgrad_cam"], [metric])
    of_set = table[table.image_id == "*"]
    assert of_set.method.tolist() == ["grad_cam", "xgrad_cam"]
    assert of_set.value.tolist() == [pytest.approx((0 + 1 + 3) / 3)] * 2  # image c has no box
    assert set(of_set.status) == {"ok"}
    assert (of_set[["target_class", "predicted_class"]] == -1).all(axis=None)
    images = table[table.image_id != "*"]
    assert len(images) == 2 * 2 * 4  # the curve itself is no row
    assert set(images.metric) == {"mine"}


def test_without_an_image_that_counts_there_is_a_row_that_says_so(net, batch, metric):
    bare = (batch.images, batch.targets)
    for batches, status in (([bare], "no_image"), ([batch, bare], "ok")):
        table = evaluate(net, "1", batches, ["grad_cam"], [metric])
        of_set = table[table.image_id == "*"]
        assert of_set.status.tolist() == [status]
        assert of_set.value.isna().tolist() == [status != "ok"]


def test_a_curve_has_a_row_for_each_image_and_is_nan_where_its_needs_are_not_met(trace, batch, metric):
    explanation = Explanation.of(trace, trace.gradients, batch)
    points, statuses = measure(metric, explanation, True)["halves"]
    assert statuses == ("ok", "ok", "wrong_class", "ok")
    assert points.isnan().all(1).tolist() == [False, False, True, False]
    assert points.shape == (4, 3)
    wrong = Plugin("mine", "tests.wrong", lambda _: {"mine": torch.zeros(4), "halves": torch.zeros(3, 4)}, SPEC)
    with pytest.raises(BenchError, match="returned \\(3, 4\\)"):
        measure(wrong, explanation, True)


def test_an_aggregate_takes_those_of_the_metrics_parameters_that_it_names(metric):
    assert aggregate(metric).params == {"scale": 2.0}
    assert aggregate(metric)({"halves": np.array([[4.0, 2.0]])}) == {"mine": 2.0}


def test_values_of_the_whole_set_have_the_names_of_an_images_by_default():
    def names(**spec):
        return whole_set_value_names(Plugin("mine", "", print, MetricSpec(aggregate="m.f", **spec)))

    two, one = {"a": ValueSpec(), "b": ValueSpec()}, {"c": ValueSpec()}
    assert names(values=two) == ("a", "b")
    assert names(values=two, aggregate_values=one) == ("c",)
    assert names() == ("mine",)
    assert whole_set_value_names(Plugin("mine", "", print, MetricSpec(values=two))) == ()
