"""The loop from a trace to rows, as a notebook calls it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import axiom_bench as ab
from axiom_bench import methods, metrics
from axiom_bench.columns import RECORD_COLUMNS
from axiom_bench.evaluation.evaluate import evaluate, explain, frame, measure, rows_of, with_score_scale
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.evaluation.specs import MethodSpec, MetricSpec, Need
from axiom_bench.explanation.explanation import Explanation

METRICS = ["sensitivity_error", "conservation_error", "conservation_error_raw", "zeta", "box_iou", "pointing_game"]
METHODS = ["grad_cam", "xgrad_cam", "ablation_cam", "centered"]


def plugin(function, name="mine", **about):
    needs = tuple(map(Need, about.pop("needs", ())))
    spec = MethodSpec(**about) if "on_score_scale" in about else MetricSpec(needs=needs, **about)
    return Plugin(name, f"tests.{name}", function, spec)


def the(table, **where):
    """The values of the rows where every column holds what is said, by image."""
    for column, wanted in where.items():
        table = table[table[column] == wanted]
    return table.set_index("image_id")


def test_one_row_per_image_method_and_value_in_the_records_columns(net, batch):
    table = evaluate(net, "1", [batch], METHODS, METRICS)
    assert tuple(table.columns) == RECORD_COLUMNS
    assert len(table) == 4 * (len(METHODS) * (len(METRICS) - 1) + 1)
    assert set(table.metric[table.method == "-"]) == {"zeta"}
    assert table.value.dtype == np.float64
    assert (table.value.isna() == (table.status != "ok")).all()
    assert set(table.layer) == {"1"}
    assert set(table.experiment) == set(table.data) == {"-"}
    np.testing.assert_array_equal(table.target_class, table.image_id.map({"a": 0, "b": 1, "c": 2, "d": 3}))
    predicted = dict(zip("abcd", net(batch.images).argmax(1).tolist(), strict=True))
    np.testing.assert_array_equal(table.predicted_class, table.image_id.map(predicted))


def test_values_stand_beside_their_image(net, batch, trace):
    table = evaluate(net, "1", [batch], METHODS, METRICS)
    explanation = Explanation.of(trace, methods.get("grad_cam")(trace), batch)
    for name in ("sensitivity_error", "pointing_game"):
        found = the(table, method="grad_cam", metric=name).value[list("abcd")]
        np.testing.assert_allclose(found, metrics.get(name)(explanation), rtol=1e-12)


def test_statuses_say_why_a_value_is_missing(net, batch):
    with pytest.warns(UserWarning, match="left out"):
        table = evaluate(net, "1", [batch], [*METHODS, "cam"], METRICS)
    assert set(the(table, method="ablation_cam", metric="sensitivity_error").status) == {"not_on_score_scale"}
    assert set(the(table, method="ablation_cam", metric="conservation_error_raw").status) == {"ok"}
    assert set(the(table, method="centered", metric="conservation_error_raw").status) == {"no_contributions"}
    assert list(the(table, method="grad_cam", metric="box_iou").status) == ["ok", "ok", "no_annotation", "ok"]
    assert set(table.status[table.method == "cam"]) == {"not_applicable"}


def test_a_method_that_does_not_apply_is_named_and_breaks_no_other(net, batch):
    with pytest.warns(UserWarning, match="'cam' is left out"):
        beside = evaluate(net, "1", [batch], ["cam", "xgrad_cam"], METRICS)
    alone = evaluate(net, "1", [batch], ["xgrad_cam"], METRICS)
    pd.testing.assert_frame_equal(
        beside[beside.method == "xgrad_cam"].reset_index(drop=True),
        alone[alone.method == "xgrad_cam"].reset_index(drop=True),
    )


def test_batch_size_and_order_change_no_value(net, batch):
    def slices(*rows):
        return [ab.Batch(batch.images[row], tuple(batch.image_ids[i] for i in row), batch.targets[row],
                            tuple(batch.annotations[i] for i in row)) for row in rows]  # fmt: skip

    together = evaluate(net, "1", [batch], METHODS, METRICS)
    key = ["method", "metric", "image_id"]
    for rows in ([[0], [1], [2], [3]], [[3, 1], [0, 2]]):
        apart = evaluate(net, "1", slices(*rows), METHODS[::-1], METRICS[::-1])
        merged = together.merge(apart, on=key, validate="one_to_one")
        assert len(merged) == len(together)
        np.testing.assert_allclose(merged.value_x, merged.value_y, rtol=1e-10, atol=1e-12)
        assert (merged.status_x == merged.status_y).all()


def test_bare_tensors_are_numbered_and_explain_the_prediction(net, batch):
    images = batch.images
    table = evaluate(
        net, "1", [(images[:3], None), (images[3:], batch.targets[3:])], ["grad_cam"], ["epsilon", "box_iou"]
    )
    rows = table[table.metric == "box_iou"]
    assert list(rows.image_id) == ["0", "1", "2", "3"]
    np.testing.assert_array_equal(rows.target_class[:3], rows.predicted_class[:3])
    assert set(rows.status) == {"no_annotation"}


def test_a_callable_is_checked_for_the_scores_scale(net, batch):
    def doubled_gradient(trace):
        return 2 * trace.gradients

    def normalised_gradient(trace):
        return trace.gradients / trace.gradients.abs().amax((1, 2, 3), keepdim=True)

    table = evaluate(net, "1", [batch], [doubled_gradient, normalised_gradient], ["conservation_error"])
    assert set(table.status[table.method == "doubled_gradient"]) == {"ok"}
    assert set(table.status[table.method == "normalised_gradient"]) == {"not_on_score_scale"}


def test_the_scale_of_a_run_is_decided_once(trace):
    claimed, checked = with_score_scale(
        [methods.get("uniform"), plugin(lambda trace: trace.gradients, on_score_scale=None)], trace
    )
    assert claimed is methods.get("uniform")
    assert checked.spec.on_score_scale is True


def test_a_metric_of_several_values_and_a_callable_one(net, batch, trace):
    def sums(explanation):
        totals = explanation.raw_map.sum((1, 2))
        return {"total": totals, "negative": -totals}

    table = evaluate(net, "1", [batch], ["grad_cam"], [sums])
    total, negative = (the(table, metric=name).value for name in ("total", "negative"))
    np.testing.assert_array_equal(total, -negative)
    unmet = measure(
        plugin(sums, values={"total": {}, "negative": {}}, needs=["score_scale"]), Explanation(trace=trace), False
    )
    assert list(unmet) == ["total", "negative"]


def test_a_metric_is_not_called_where_no_row_meets_its_needs(trace):
    def untouchable(explanation):
        raise AssertionError("called")

    found = measure(plugin(untouchable, needs=["boxes"]), Explanation.of(trace, trace.gradients), True)
    assert found["mine"][1] == ("no_annotation",) * 4


def test_nan_with_a_met_need_is_not_finite(trace):
    values = torch.tensor([1.0, float("nan"), float("inf"), 2.0])
    found, statuses = measure(plugin(lambda _: values), Explanation.of(trace, trace.gradients), True)["mine"]
    assert statuses == ("ok", "not_finite", "not_finite", "ok")
    assert found.isnan().tolist() == [False, True, True, False]
    assert values[2] == float("inf")  # the metric's own tensor is left alone


def test_a_metric_names_the_status_of_what_it_leaves_undefined(trace):
    values = torch.tensor([1.0, float("nan"), float("inf"), 2.0])
    mine = plugin(lambda _: values, undefined="constant_map")
    _, statuses = measure(mine, Explanation.of(trace, trace.gradients), True)["mine"]
    assert statuses == ("ok", "constant_map", "not_finite", "ok")


@pytest.mark.parametrize("answer", [torch.zeros(()), torch.zeros(4, 1), torch.zeros(3), 0.5])
def test_a_metric_of_a_wrong_shape_is_named(trace, answer):
    with pytest.raises(ab.BenchError, match="metric 'mine' returned"):
        measure(plugin(lambda _: answer), Explanation.of(trace, trace.gradients), True)


@pytest.mark.parametrize(
    "answer", [torch.zeros(6), torch.zeros(4, 5, 1, 1), torch.zeros(4, 6), ab.Map(torch.zeros(3, 2, 2)), [1]]
)
def test_a_method_of_a_wrong_shape_is_named(trace, batch, answer):
    with pytest.raises(ab.BenchError, match="method 'mine' returned"):
        list(rows_of(trace, batch, [plugin(lambda _: answer, on_score_scale=None)], [metrics.get("box_iou")]))


@pytest.mark.parametrize("weight", [0.0, -1.0])
def test_a_map_without_a_positive_value_earns_no_score(net, batch, weight):
    def flat(trace):
        return torch.full_like(trace.activations, weight)

    localization = ["box_iou", "pointing_game", "confidence_drop", "average_drop"]
    table = evaluate(net, "1", [batch], [flat], localization)
    assert set(table.status) == {"zero_map"}


def test_images_that_are_not_finite_leave_the_others_alone(net, batch):
    images = batch.images.clone()
    images[1] = float("nan")
    names = metrics.names()
    table, clean = (evaluate(net, "1", [one], METHODS, names) for one in (replace(batch, images=images), batch))
    bad = table[table.image_id == "b"]
    axioms = bad[~bad.metric.isin(["guarded_channels"])]
    assert set(axioms.status) <= {"not_finite"}
    others = ~table.image_id.isin(["b", "*"])  # a value of the whole data set is of the good images
    np.testing.assert_allclose(table.value[others], clean.value[others], rtol=1e-10, atol=1e-12)


def test_no_batch_gives_an_empty_table_with_all_columns(net):
    assert tuple(evaluate(net, "1", [], METHODS, METRICS).columns) == RECORD_COLUMNS
    assert frame([]).empty


def test_unknown_names_are_told_before_any_computation(net):
    with pytest.raises(ab.BenchError, match="did you mean 'xgrad_cam'"):
        evaluate(net, "1", [], ["xgradcam"], METRICS)
    with pytest.raises(ab.BenchError, match="did you mean 'box_iou'"):
        evaluate(net, "1", [], METHODS, ["boxiou"])


def test_explain_gives_heatmaps_by_name_at_any_size(net, batch, trace):
    found = explain(net, "1", batch.images, ["xgrad_cam", "centered"], batch.targets)
    assert list(found) == ["xgrad_cam", "centered"]
    expected = Explanation.of(trace, methods.get("xgrad_cam")(trace)).heatmap
    torch.testing.assert_close(found["xgrad_cam"], expected, rtol=1e-12, atol=1e-12)
    small = explain(net, "1", batch.images, [methods.get("grad_cam")], size=(5, 7))
    assert small["grad_cam"].shape == (4, 5, 7)
    assert float(small["grad_cam"].max()) == 1
    with pytest.warns(UserWarning, match="'cam' is left out"):
        assert list(explain(net, "1", batch.images, ["cam", "grad_cam"])) == ["grad_cam"]
