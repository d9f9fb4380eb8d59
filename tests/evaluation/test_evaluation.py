"""The loop from a trace to rows, as a notebook calls it."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import axiom_bench as ab
from axiom_bench import methods, metrics
from axiom_bench.columns import RECORD_COLUMNS
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.batch import frame, rows_of, with_score_scale
from axiom_bench.evaluation.evaluate import evaluate, explain
from axiom_bench.evaluation.measurement import measure
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.evaluation.queries import PerturbedImages
from axiom_bench.evaluation.specs import MethodSpec, MetricSpec, Need, ValueSpec
from axiom_bench.explanation.explanation import Explanation

METRICS = ["sensitivity_error", "conservation_error", "conservation_error_raw", "zeta", "box_iou", "pointing_game"]
METHODS = ["grad_cam", "xgrad_cam", "ablation_cam", "centered"]


def plugin(function, name="mine", **about):
    needs = tuple(map(Need, about.pop("needs", ())))
    spec = MethodSpec(**about) if "on_score_scale" in about else MetricSpec(needs=needs, **about)
    return Plugin(name, f"tests.{name}", function, spec)


def rows_where(table, **where):
    """The rows where every named column has that value, by image."""
    for column, value in where.items():
        table = table[table[column] == value]
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
        actual = rows_where(table, method="grad_cam", metric=name).value[list("abcd")]
        np.testing.assert_allclose(actual, metrics.get(name)(explanation), rtol=1e-12)


def test_statuses_say_why_a_value_is_missing(net, batch):
    with pytest.warns(UserWarning, match="left out"):
        table = evaluate(net, "1", [batch], [*METHODS, "cam"], METRICS)
    assert set(rows_where(table, method="ablation_cam", metric="sensitivity_error").status) == {"not_on_score_scale"}
    assert set(rows_where(table, method="ablation_cam", metric="conservation_error_raw").status) == {"ok"}
    assert set(rows_where(table, method="centered", metric="conservation_error_raw").status) == {"no_contributions"}
    assert list(rows_where(table, method="grad_cam", metric="box_iou").status) == ["ok", "ok", "wrong_class", "ok"]
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
    total, negative = (rows_where(table, metric=name).value for name in ("total", "negative"))
    np.testing.assert_array_equal(total, -negative)
    unmet = measure(
        plugin(sums, values={"total": {}, "negative": {}}, needs=["score_scale"]), Explanation(trace=trace), False
    )
    assert list(unmet) == ["total", "negative"]


def test_a_metric_is_not_called_where_no_row_meets_its_needs(trace):
    def untouchable(explanation):
        raise AssertionError("called")

    actual = measure(plugin(untouchable, needs=["boxes"]), Explanation.of(trace, trace.gradients), True)
    assert actual["mine"][1] == ("no_annotation",) * 4


def test_nan_with_a_met_need_is_not_finite(trace):
    values = torch.tensor([1.0, float("nan"), float("inf"), 2.0])
    actual, statuses = measure(plugin(lambda _: values), Explanation.of(trace, trace.gradients), True)["mine"]
    assert statuses == ("ok", "not_finite", "not_finite", "ok")
    assert actual.isnan().tolist() == [False, True, True, False]
    assert values[2] == float("inf")  # the metric's own tensor is left alone


def test_a_metric_names_the_status_of_what_it_leaves_undefined(trace):
    values = torch.tensor([1.0, float("nan"), float("inf"), 2.0])
    metric = plugin(lambda _: values, undefined="constant_map")
    _, statuses = measure(metric, Explanation.of(trace, trace.gradients), True)["mine"]
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
    chosen = ["xgrad_cam", "centered"]
    table, clean = (evaluate(net, "1", [each], chosen, names) for each in (replace(batch, images=images), batch))
    bad = table[table.image_id == "b"]
    axioms = bad[~bad.metric.isin(["guarded_channels"])]
    assert set(axioms.status) <= {"not_finite"}
    others = ~table.image_id.isin(["b", "*"])  # a value of the whole data set is of the good images
    np.testing.assert_allclose(table.value[others], clean.value[others], rtol=1e-10, atol=1e-12)


def test_no_batch_gives_an_empty_table_with_all_columns(net):
    assert tuple(evaluate(net, "1", [], METHODS, METRICS).columns) == RECORD_COLUMNS
    assert frame([]).empty


def test_unknown_names_are_refused_before_any_computation(net):
    with pytest.raises(ab.BenchError, match="did you mean 'xgrad_cam'"):
        evaluate(net, "1", [], ["xgradcam"], METRICS)
    with pytest.raises(ab.BenchError, match="did you mean 'box_iou'"):
        evaluate(net, "1", [], METHODS, ["boxiou"])


def test_explain_gives_heatmaps_by_name_at_any_size(net, batch, trace):
    actual = explain(net, "1", batch.images, ["xgrad_cam", "centered"], batch.targets)
    assert list(actual) == ["xgrad_cam", "centered"]
    expected = Explanation.of(trace, methods.get("xgrad_cam")(trace)).heatmap
    torch.testing.assert_close(actual["xgrad_cam"], expected, rtol=1e-12, atol=1e-12)
    small = explain(net, "1", batch.images, [methods.get("grad_cam")], size=(5, 7))
    assert small["grad_cam"].shape == (4, 5, 7)
    assert float(small["grad_cam"].max()) == 1
    with pytest.warns(UserWarning, match="'cam' is left out"):
        assert list(explain(net, "1", batch.images, ["cam", "grad_cam"])) == ["grad_cam"]


def test_a_metric_can_not_take_another_ones_name(net, batch):
    """A value of its own with the name of a metric that was measured before would replace that one's."""

    def thief(explanation):
        return {"mine": explanation.trace.scores, "zeta": explanation.trace.scores}

    undeclared = plugin(thief)
    with pytest.raises(BenchError, match="The metric 'mine' returned 'zeta', which it doesn't declare"):
        evaluate(net, "1", [batch], ["grad_cam"], [undeclared])
    with pytest.raises(BenchError, match="The metric 'thief' returned 'mine', which it doesn't declare"):
        evaluate(net, "1", [batch], ["grad_cam"], ["sensitivity_error", plugin(thief, "thief")])
    declared = plugin(thief, values={"mine": ValueSpec(), "sensitivity_error": ValueSpec()})
    with pytest.raises(BenchError, match="The metrics 'sensitivity_error' and 'mine' both declare 'sensitivity_error'"):
        evaluate(net, "1", [batch], ["grad_cam"], ["sensitivity_error", declared])
    bare = plugins.of("metric", lambda explanation: {"confidence_drop": explanation.trace.scores})
    with pytest.raises(BenchError, match="returned 'confidence_drop', another metric's name; return it under"):
        evaluate(net, "1", [batch], ["grad_cam"], ["confidence_drop", bare])
    missing = plugin(
        lambda explanation: {"mine": explanation.trace.scores}, values={"mine": ValueSpec(), "b": ValueSpec()}
    )
    with pytest.raises(BenchError, match="The metric 'mine' declares the value 'b' and didn't return it"):
        evaluate(net, "1", [batch], ["grad_cam"], [missing])


def test_a_function_can_not_take_the_name_of_a_layers_value_or_of_another_functions(net, batch):
    def thief(explanation):
        return {"zeta": explanation.trace.scores}

    def first(explanation):
        return {"area": explanation.heatmap.mean((1, 2))}

    def second(explanation):
        return {"area": explanation.trace.scores}

    with pytest.raises(BenchError, match="The metric 'thief' returned 'zeta', another metric's name"):
        evaluate(net, "1", [batch], ["grad_cam"], ["zeta", thief])
    with pytest.raises(BenchError, match="The metric 'second' returned 'area', another metric's name"):
        evaluate(net, "1", [batch], ["grad_cam"], [first, second])
    assert set(evaluate(net, "1", [batch], ["grad_cam"], ["zeta", first])["metric"]) == {"zeta", "area"}


WATCHED = ["images", "activations", "gradients", "logits", "scores", "targets", "ablation_drops"]


@pytest.mark.parametrize("name", WATCHED)
def test_a_method_that_writes_to_the_trace_is_refused(net, batch, name):
    def writing(trace):
        _ = trace.ablation_drops
        values = getattr(trace, name)
        values *= 0
        return trace.gradients

    if name == "ablation_drops":
        trace = ab.trace(net, "1", batch.images, batch.targets)
        _ = trace.ablation_drops
        with pytest.raises(BenchError, match=r"The method 'writing' .* writes to trace\.ablation_drops"):
            list(rows_of(trace, batch, [plugins.of("method", writing)], [metrics.get("box_iou")]))
        return
    with pytest.raises(BenchError, match=rf"^The method 'writing' .* writes to trace\.{name}, which others read"):
        evaluate(net, "1", [batch], [writing, "xgrad_cam"], ["sensitivity_error"])
    with pytest.raises(BenchError, match=rf"^The method 'writing' .* writes to trace\.{name}, which others read"):
        explain(net, "1", batch.images, [writing, "xgrad_cam"])


def test_a_method_that_writes_to_the_truth_is_refused(net, batch):
    def writing(trace):
        trace.true_contributions.mul_(0)
        return trace.gradients

    net.true_contributions = lambda activations, targets: activations
    trace = ab.trace(net, "1", batch.images, batch.targets)
    _ = trace.true_contributions
    with pytest.raises(BenchError, match=r"The method 'writing' .* writes to trace\.true_contributions"):
        list(rows_of(trace, batch, [plugins.of("method", writing)], [metrics.get("box_iou")]))


def test_a_metric_that_writes_to_the_trace_is_refused(net, batch):
    def writing(explanation):
        values = explanation.trace.activations
        values *= 2
        return explanation.trace.scores

    with pytest.raises(BenchError, match=r"^The metric 'writing' .* writes to trace\.activations, which others read"):
        evaluate(net, "1", [batch], ["grad_cam"], [writing, "sensitivity_error"])


@pytest.mark.parametrize("name", ["heatmap", "raw_map", "contributions", "boxes[0]", "masks", "others[0].mask"])
def test_a_metric_that_writes_to_what_all_methods_share_is_refused(net, batch, name):
    masks = [torch.full((12, 12), label) for label in range(4)]
    notes = [replace(note, mask=mask) for note, mask in zip(batch.annotations, masks, strict=True)]
    batch = replace(batch, annotations=tuple(notes))

    def writing(explanation):
        inner = {"boxes[0]": explanation.boxes[0], "others[0].mask": explanation.others[0].mask}
        values = inner[name] if name in inner else getattr(explanation, name)
        values[0] = 0
        return explanation.trace.scores

    def later(explanation):
        yield PerturbedImages("mine", 1, lambda rows, copies: explanation.images[rows, None])
        return writing(explanation)

    for metric in (writing, later):
        sentence = rf"^The metric '{metric.__name__}' .* writes to explanation\.{re.escape(name)}, which others read"
        with pytest.raises(BenchError, match=sentence):
            evaluate(net, "1", [batch], ["grad_cam"], [metric, "pointing_game"])


def test_a_method_that_writes_to_inference_tensors_is_refused(net, batch):
    """They have no version counter."""

    def writing(trace):
        values = trace.activations
        values /= 2
        return trace.gradients

    with torch.inference_mode():
        trace = ab.trace(net, "1", batch.images, batch.targets)
        trace = replace(trace, activations=trace.activations * 1)
        assert trace.activations.is_inference()
        with pytest.raises(BenchError, match=r"writes to trace\.activations"):
            list(rows_of(trace, batch, [plugins.of("method", writing)], [metrics.get("box_iou")]))


@pytest.mark.parametrize(
    ("batches", "sentence"),
    [
        ("dict", r"A batch is \(images, targets\) or an axiom_bench.Batch, not a dict; pass images"),
        ("numpy", r"The images of a batch are a tensor \(B, 3, H, W\), not a ndarray; .* torch.from_numpy"),
        ("pair", r"A batch is .* not a Tensor; pass images"),
        ("tensor", r"batches is an iterable of \(images, targets\) .*, not a Tensor; pass a list"),
        ("batch", r"batches is an iterable of \(images, targets\) .*, not a Batch; pass a list"),
        ("three", r"A batch is \(images, targets\) .*, not a tuple"),
    ],
)
def test_batches_of_another_form_are_one_sentence(net, batch, batches, sentence):
    images, targets = batch.images, batch.targets
    forms = {
        "dict": [{"image": images, "label": targets}],
        "numpy": [(images.numpy(), targets)],
        "pair": (images, targets),
        "tensor": images,
        "batch": batch,
        "three": [(images, targets, targets)],
    }
    with pytest.raises(BenchError, match=sentence):
        evaluate(net, "1", forms[batches], ["grad_cam"], ["zeta"])


@pytest.mark.parametrize(
    ("methods_chosen", "metrics_chosen", "sentence"),
    [
        ("grad_cam", ["zeta"], r"methods is a list of names or callables, not 'grad_cam'; pass methods=\['grad_cam'\]"),
        (["grad_cam"], "zeta", r"metrics is a list of names or callables, not 'zeta'; pass metrics=\['zeta'\]"),
        (None, ["zeta"], r"methods is a list of names or callables, not None"),
        (methods.get("cam"), ["zeta"], r"not an axiom_bench\.evaluation\.plugins\.Plugin; pass methods=\[\.\.\.\]\.$"),
        ([3], ["zeta"], r"A method is a name or a callable, not 3"),
        (["grad_cam", "grad_cam"], ["zeta"], r"two methods named 'grad_cam'; list each of them once"),
    ],
)
def test_what_is_no_list_of_plugins_is_one_sentence(net, batch, methods_chosen, metrics_chosen, sentence):
    with pytest.raises(BenchError, match=sentence):
        evaluate(net, "1", [batch], methods_chosen, metrics_chosen)
    if "metric" not in sentence.split()[0]:
        with pytest.raises(BenchError, match=sentence):
            explain(net, "1", batch.images, methods_chosen)
