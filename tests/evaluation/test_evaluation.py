"""The loop from a trace to rows, as a notebook calls it.

Values of the whole data set are in rows with image id "*".
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import axiom_bench as ab
from axiom_bench import methods, metrics
from axiom_bench.columns import RECORD_COLUMNS
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import whole_set
from axiom_bench.evaluation.batch import frame, with_score_scale
from axiom_bench.evaluation.loop import columns_by_method
from axiom_bench.evaluation.measurement import measure
from axiom_bench.evaluation.plugins import Plugin, whole_set_value_names
from axiom_bench.evaluation.specs import MethodSpec, MetricSpec, Need, ValueSpec
from axiom_bench.evaluation.whole_set import aggregate, resampled_values
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.notes import NotFiniteMaps
from axiom_bench.run.notebook import evaluate, explain
from tests.metrics.build import with_fewer

METRICS = [
    "sensitivity_error",
    "conservation_error",
    "conservation_error_raw",
    "zeta",
    "box_iou",
    "pointing_game",
]
METHODS = ["grad_cam", "xgrad_cam", "ablation_cam", "centered"]


def plugin(function, name="mine", **settings):
    """Return a method if the settings contain `on_score_scale`, otherwise a metric."""
    if "on_score_scale" in settings:
        return Plugin(name, f"tests.{name}", function, MethodSpec(**settings))
    needs = tuple(map(Need, settings.pop("needs", ())))
    return Plugin(name, f"tests.{name}", function, MetricSpec(needs=needs, **settings))


def rows_where(table, **values):
    """Return the rows in which every named column has that value, indexed by image."""
    for column, value in values.items():
        table = table[table[column] == value]
    return table.set_index("image_id")


@pytest.fixture
def table(net, batch):
    return evaluate(net, "1", [batch], METHODS, METRICS)


def test_one_row_per_image_method_and_value_in_the_records_columns(net, batch, trace, table):
    assert tuple(table.columns) == RECORD_COLUMNS
    assert len(table) == 4 * (len(METHODS) * (len(METRICS) - 1) + 1)
    assert set(table.metric[table.method == "-"]) == {"zeta"}
    assert table.value.dtype == np.float64
    assert (table.value.isna() == (table.status != "ok")).all()
    assert set(table.layer) == {"1"}
    assert set(table.experiment) == {"-"}
    assert set(table.data) == {"-"}
    targets = table.image_id.map({"a": 0, "b": 1, "c": 2, "d": 3})
    np.testing.assert_array_equal(table.target_class, targets)
    predicted = dict(zip("abcd", net(batch.images).argmax(1).tolist(), strict=True))
    np.testing.assert_array_equal(table.predicted_class, table.image_id.map(predicted))
    explanation = Explanation.of(trace, methods.get("grad_cam")(trace), batch)
    for name in ("sensitivity_error", "pointing_game"):
        actual = rows_where(table, method="grad_cam", metric=name).value[list("abcd")]
        np.testing.assert_allclose(actual, metrics.get(name)(explanation), rtol=1e-12)


def test_statuses_say_why_a_value_is_missing_and_what_does_not_apply_breaks_no_other(
    net, batch, table
):
    with pytest.warns(UserWarning, match="'cam' is left out"):
        with_cam = evaluate(net, "1", [batch], ["cam", *METHODS], METRICS)
    for method, metric, status in (
        ("ablation_cam", "sensitivity_error", "not_on_score_scale"),
        ("ablation_cam", "conservation_error_raw", "ok"),
        ("centered", "conservation_error_raw", "no_contributions"),
    ):
        assert set(rows_where(with_cam, method=method, metric=metric).status) == {status}
    statuses = rows_where(with_cam, method="grad_cam", metric="box_iou").status
    assert list(statuses) == ["ok", "ok", "wrong_class", "ok"]
    assert set(with_cam.status[with_cam.method == "cam"]) == {"not_applicable"}
    others = with_cam[with_cam.method != "cam"].reset_index(drop=True)
    pd.testing.assert_frame_equal(others, table)


def test_a_callable_is_checked_for_the_scores_scale_once(net, batch, trace):
    def doubled_gradient(trace):
        return 2 * trace.gradients

    def normalised_gradient(trace):
        return trace.gradients / trace.gradients.abs().amax((1, 2, 3), keepdim=True)

    table = evaluate(
        net,
        "1",
        [batch],
        [doubled_gradient, normalised_gradient],
        ["conservation_error"],
    )
    assert set(table.status[table.method == "doubled_gradient"]) == {"ok"}
    assert set(table.status[table.method == "normalised_gradient"]) == {"not_on_score_scale"}
    mine = plugin(lambda trace: trace.gradients, on_score_scale=None)
    claimed, checked = with_score_scale([methods.get("uniform"), mine], trace)
    assert claimed is methods.get("uniform")
    assert checked.spec.on_score_scale is True


def test_a_metric_of_several_values_and_a_callable_one(net, batch, trace):
    def sums(explanation):
        totals = explanation.raw_map.sum((1, 2))
        return {"total": totals, "negative": -totals}

    table = evaluate(net, "1", [batch], ["grad_cam"], [sums])
    total = rows_where(table, metric="total").value
    negative = rows_where(table, metric="negative").value
    np.testing.assert_array_equal(total, -negative)
    declared = plugin(sums, values={"total": {}, "negative": {}}, needs=["score_scale"])
    assert list(measure(declared, Explanation(trace=trace), False)) == ["total", "negative"]


def test_a_metric_is_not_called_where_no_row_meets_its_needs(trace):
    def untouchable(explanation):
        raise AssertionError("called")

    metric = plugin(untouchable, needs=["boxes"])
    actual = measure(metric, Explanation.of(trace, trace.gradients), True)
    assert actual["mine"][1] == ("no_annotation",) * 4


@pytest.mark.parametrize("undefined", ["not_finite", "constant_map"])
def test_a_metric_names_the_status_of_what_it_leaves_undefined(trace, undefined):
    values = torch.tensor([1.0, float("nan"), float("inf"), 2.0])
    metric = plugin(lambda _: values, undefined=undefined)
    actual, statuses = measure(metric, Explanation.of(trace, trace.gradients), True)["mine"]
    assert statuses == ("ok", undefined, "not_finite", "ok")
    assert actual.isnan().tolist() == [False, True, True, False]
    assert values[2] == float("inf")  # the metric's own tensor isn't changed


def test_a_method_and_a_metric_of_a_wrong_shape_are_named(trace, batch):
    explanation = Explanation.of(trace, trace.gradients)
    wrong_values = (
        torch.zeros(()),
        torch.zeros(4, 1),
        torch.zeros(3),
        torch.zeros(4, dtype=torch.complex64),
        0.5,
    )
    for answer in wrong_values:
        metric = plugin(lambda _, answer=answer: answer)
        with pytest.raises(BenchError, match="metric 'mine' returned"):
            measure(metric, explanation, True)

    wrong_answers = (
        torch.zeros(6),
        torch.zeros(4, 5, 1, 1),
        torch.zeros(4, 5),
        torch.zeros(4, 6, 1, 1, dtype=torch.complex64),
        ab.Map(torch.zeros(3, 2, 2)),
        ab.Map(torch.zeros(4, 0, 0)),
        ab.Map(torch.zeros(4, 2, 2, dtype=torch.complex64)),
        ab.Map(torch.ones(4, 2, 2) > 0),
        [1],
    )
    for answer in wrong_answers:
        method = plugin(lambda _, answer=answer: answer, on_score_scale=None)
        with pytest.raises(BenchError, match="method 'mine' returned"):
            list(columns_by_method(trace, batch, [method], [metrics.get("box_iou")]))


@pytest.mark.filterwarnings("error")
def test_weights_may_be_true_and_false_and_complex_values_of_a_metric_lose_no_part_in_silence(
    net, batch
):
    def mask(trace):
        return trace.gradients > 0

    def mask_as_numbers(trace):
        return mask(trace).to(trace.gradients)

    def complex_score(explanation):
        return explanation.trace.scores + 1j

    chosen = ["box_iou", "confidence_drop"]
    expected = evaluate(net, "1", [batch], [mask_as_numbers], chosen)
    actual = evaluate(net, "1", [batch], [mask], chosen)
    assert actual.value.equals(expected.value)
    message = r"returned shape \(4,\) of torch.complex128; a metric returns one real value"
    with pytest.raises(BenchError, match=message):
        evaluate(net, "1", [batch], [mask], [complex_score])


def test_a_map_without_a_positive_value_earns_no_score(net, batch):
    def zero(trace):
        return 0 * trace.activations

    def negative(trace):
        return -torch.ones_like(trace.activations)

    flat_methods = [
        plugin(zero, "zero", on_score_scale=None),
        plugin(negative, "negative", on_score_scale=None),
    ]
    chosen = ["box_iou", "pointing_game", "confidence_drop", "average_drop"]
    table = evaluate(net, "1", [batch], flat_methods, chosen)
    assert set(table.status) == {"zero_map"}


@pytest.mark.slow
def test_images_that_are_not_finite_leave_the_others_alone(net, batch):
    images = batch.images.clone()
    images[1] = float("nan")
    methods = ["xgrad_cam", "centered"]

    def evaluated(batch):
        return evaluate(net, "1", [batch], methods, map(with_fewer, metrics.names()))

    table = evaluated(replace(batch, images=images))
    expected = evaluated(batch)

    is_bad = (table.image_id == "b") & (table.metric != "guarded_channels")
    assert set(table.status[is_bad]) <= {"not_finite"}
    # A value of the whole data set changes, since it is a value of the good images.
    others = ~table.image_id.isin(["b", "*"])
    np.testing.assert_allclose(table.value[others], expected.value[others], rtol=1e-10, atol=1e-12)


def divided(trace):
    """Return XGrad-CAM's weights as the paper writes them: 0 / 0 at a dead channel."""
    products = (trace.gradients * trace.activations).sum((2, 3), True)
    return products / trace.activations.sum((2, 3), True)


def infinite_map(trace):
    return ab.Map(torch.full((len(trace), 2, 2), torch.inf))


DEAD_CHANNEL = "the weights of 1 of {} channels are NaN or infinite, 1 of them"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (divided, DEAD_CHANNEL),
        (lambda trace: divided(trace).flatten(1), DEAD_CHANNEL),
        (infinite_map, "image 0 4 of 4 pixels"),
    ],
)
def test_maps_that_are_not_finite_are_told_once(net, batch, answer, reason):
    def mine(trace):
        return answer(trace)

    net = deepcopy(net)
    with torch.no_grad():
        net[0].weight[1] = 0  # a ReLU follows, so the channel is dead
        net[0].bias[1] = -1
    methods = [mine, "xgrad_cam"]
    unlabelled = [(batch.images, None)] * 2
    reason = reason.format(len(net[0].weight))
    message = f"The maps of 'mine' aren't finite for 4 of 4 images: .*{reason}"

    for call in (
        lambda: explain(net, "1", batch.images, methods),
        lambda: evaluate(net, "1", unlabelled, methods, ["sensitivity_error"]),
    ):
        with pytest.warns(NotFiniteMaps, match=message) as caught:
            call()
        assert [warning.category for warning in caught].count(NotFiniteMaps) == 1


def test_a_metric_without_a_finite_value_is_told(net, batch):
    def mine(explanation):
        return explanation.trace.scores.double() * torch.nan

    message = r"The values of the metric 'mine' aren't finite for any of the first \d"
    with pytest.warns(NotFiniteMaps, match=message):
        evaluate(net, "1", [(batch.images, None)], ["grad_cam"], [mine, "gini"])


def test_no_batch_gives_an_empty_table_with_all_columns(net):
    with pytest.warns(UserWarning, match="There is no image in batches"):
        assert tuple(evaluate(net, "1", [], METHODS, METRICS).columns) == RECORD_COLUMNS
    assert frame([]).empty


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


def returning(name, *values):
    """Return a metric with the name `name` that returns values with the names `values`."""

    def metric(explanation):
        return dict.fromkeys(values, explanation.trace.scores)

    metric.__name__ = name
    return metric


area = returning("area", "area")
thief = returning("thief", "mine", "zeta")
TWO = {"mine": ValueSpec(), "sensitivity_error": ValueSpec()}
ERROR = "sensitivity_error"
UNDECLARED = "which it doesn't declare"
TAKEN = "another metric's name; return it under"


@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [
        (
            [ERROR, plugin(thief, "thief")],
            f"The metric 'thief' returned 'mine', {UNDECLARED}",
        ),
        (
            [plugin(returning("mine", "mine"), values=TWO)],
            f"declares the value '{ERROR}' and didn't return it",
        ),
        (
            ["confidence_drop", returning("mine", "confidence_drop")],
            f"returned 'confidence_drop', {TAKEN}",
        ),
        # The name of a value of the layer.
        (["zeta", thief], f"The metric 'thief' returned 'zeta', {TAKEN}"),
        (
            [area, returning("area_too", "area")],
            f"The metric 'area_too' returned 'area', {TAKEN}",
        ),
    ],
)
def test_a_metric_can_not_take_another_ones_name(net, batch, chosen, sentence):
    """Check that no value replaces the value of a metric that was measured before."""
    with pytest.raises(BenchError, match=sentence):
        evaluate(net, "1", [batch], ["grad_cam"], chosen)
    table = evaluate(net, "1", [batch], ["grad_cam"], ["zeta", area])
    assert set(table["metric"]) == {"zeta", "area"}


A_BATCH = r"A batch is \(images, targets\) or an axiom_bench.Batch, not a "
ITERABLE = "batches is an iterable of .*, not a "


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda images, targets: [{"image": images}], f"{A_BATCH}dict; pass images"),
        (lambda images, targets: (images, targets), f"{A_BATCH}Tensor; pass images"),
        (lambda images, targets: [(images, targets, targets)], f"{A_BATCH}tuple"),
        (
            lambda images, targets: [(images.numpy(), targets)],
            r"a tensor \(B, 3, H, W\), not a numpy.* torch.from",
        ),
        (lambda images, targets: images, rf"{ITERABLE}Tensor; pass a list"),
        (
            lambda images, targets: ab.Batch(images, tuple("abcd")),
            rf"{ITERABLE}Batch; pass a list",
        ),
    ],
)
def test_batches_of_another_form_are_one_sentence(net, batch, wrong, sentence):
    with pytest.raises(BenchError, match=sentence):
        evaluate(net, "1", wrong(batch.images, batch.targets), ["grad_cam"], ["zeta"])


@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [
        (None, r"methods is a list of names or callables, not None"),
        (
            methods.get("cam"),
            r"not an axiom_bench\.evaluation\.plugins\.Plugin; pass methods=\[\.\.\.\]\.$",
        ),
        ([3], r"A method is a name or a callable, not 3"),
        (["grad_cam", "grad_cam"], r"two methods named 'grad_cam'; list each of them once"),
    ],
)
def test_what_is_no_list_of_plugins_is_one_sentence(net, batch, chosen, sentence):
    with pytest.raises(BenchError, match=sentence):
        evaluate(net, "1", [batch], chosen, ["zeta"])
    with pytest.raises(BenchError, match=sentence):
        explain(net, "1", batch.images, chosen)


def halves(explanation):
    """Return a curve of three points per image: the target's index times 2, 1 and 1/2."""
    index = 2 * explanation.trace.targets.double()
    return {"mine": index, "halves": index[:, None] / torch.tensor([1.0, 2.0, 4.0])}


def best(curves, scale):
    """Return the greatest mean over images, in units of `scale`."""
    return {"mine": float(curves["halves"].mean(0).max() / scale)}


SPEC = MetricSpec(curves=("halves",), aggregate=f"{__name__}.best", needs=(Need("boxes"),))
HALVING = Plugin("mine", "tests.halves", halves, SPEC, {"scale": 2.0})


def test_one_row_for_each_method_of_the_images_with_a_value(net, batch):
    table = evaluate(net, "1", [batch, batch], ["grad_cam", "xgrad_cam"], [HALVING])
    whole_set_rows = table[table.image_id == "*"]
    value = pytest.approx((0 + 1 + 3) / 3)  # image c has no box
    expected = [["grad_cam", value, "ok"], ["xgrad_cam", value, "ok"]]
    assert whole_set_rows[["method", "value", "status"]].to_numpy().tolist() == expected
    assert (whole_set_rows[["target_class", "predicted_class"]] == -1).all(axis=None)
    images = table[table.image_id != "*"]
    assert len(images) == 2 * 2 * 4  # the curve itself isn't a row
    assert set(images.metric) == {"mine"}


def test_without_an_image_that_counts_there_is_a_row_that_says_so(net, batch):
    unannotated = (batch.images, batch.targets)
    for batches, status in (([unannotated], "no_image"), ([batch, unannotated], "ok")):
        table = evaluate(net, "1", batches, ["grad_cam"], [HALVING])
        whole_set_rows = table[table.image_id == "*"]
        assert whole_set_rows.status.tolist() == [status]
        assert whole_set_rows.value.isna().tolist() == [status != "ok"]


def test_a_curve_has_a_row_for_each_image_and_is_nan_where_its_needs_are_not_met(trace, batch):
    explanation = Explanation.of(trace, trace.gradients, batch)
    points, statuses = measure(HALVING, explanation, True)["halves"]
    assert statuses == ("ok", "ok", "wrong_class", "ok")
    assert points.isnan().all(1).tolist() == [False, False, True, False]
    assert points.shape == (4, 3)

    def wrong_curve(_):
        return {"mine": torch.zeros(4), "halves": torch.zeros(3, 4)}

    wrong = Plugin("mine", "tests.wrong", wrong_curve, SPEC)
    with pytest.raises(BenchError, match="returned shape \\(3, 4\\)"):
        measure(wrong, explanation, True)


def test_a_resample_has_an_image_as_often_as_it_is_drawn():
    curves = pd.DataFrame(
        {
            "image_id": list("abc"),
            "curve": "halves",
            "status": ["ok", "ok", "zero_map"],
            "points": [[8.0, 0.0], [0.0, 4.0], [99.0, 99.0]],
        }
    )
    counts = np.array([[1, 1], [2, 0], [1, 3], [0, 0]])
    resampled = resampled_values(HALVING, curves, counts[:3])["mine"]
    # The greatest point of the mean curve of the images drawn, divided by the scale 2.
    assert resampled.tolist() == [2.0, 4.0, 1.5]
    assert whole_set.values(HALVING, curves) == {"mine": (2.0, "ok")}
    nan = pytest.approx(np.nan, nan_ok=True)
    assert whole_set.values(HALVING, curves[2:]) == {"mine": (nan, "no_image")}


def test_an_aggregate_takes_parameters_that_it_names_and_has_an_images_names_by_default():
    assert aggregate(HALVING).params == {"scale": 2.0}
    assert aggregate(HALVING)({"halves": np.array([[4.0, 2.0]])}) == {"mine": 2.0}

    def names(**spec):
        return whole_set_value_names(Plugin("mine", "", print, MetricSpec(aggregate="m.f", **spec)))

    two = {"a": ValueSpec(), "b": ValueSpec()}
    one = {"c": ValueSpec()}
    assert names(values=two) == ("a", "b")
    assert names(values=two, aggregate_values=one) == ("c",)
    assert names() == ("mine",)
    assert whole_set_value_names(Plugin("mine", "", print, MetricSpec(values=two))) == ()


def test_no_map_is_computed_for_metrics_of_the_layer(trace, batch):
    def map_that_nobody_reads(trace):
        raise AssertionError("a map is computed")

    method = plugin(map_that_nobody_reads, on_score_scale=False)
    (columns,) = columns_by_method(trace, batch, [method], [metrics.get("zeta")])
    assert {*columns["method"]} == {"-"}


def test_batch_size_and_order_change_no_value(net, batch, table):
    def part(rows):
        return ab.Batch(
            batch.images[rows],
            tuple(batch.image_ids[row] for row in rows),
            batch.targets[rows],
            tuple(batch.annotations[row] for row in rows),
        )

    for rows_of_batches in ([[0], [1], [2], [3]], [[3, 1], [0, 2]]):
        batches = [part(rows) for rows in rows_of_batches]
        apart = evaluate(net, "1", batches, METHODS[::-1], METRICS[::-1])
        merged = table.merge(apart, on=["method", "metric", "image_id"], validate="one_to_one")
        assert len(merged) == len(table)
        np.testing.assert_allclose(merged.value_x, merged.value_y, rtol=1e-10, atol=1e-12)
        assert (merged.status_x == merged.status_y).all()
