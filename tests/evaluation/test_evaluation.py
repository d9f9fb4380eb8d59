"""The loop from a trace to rows, as a notebook calls it; values of the whole data set, in rows with
image id "*".
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
from axiom_bench.evaluation.loop import rows_of
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


def plugin(function, name="mine", **about):
    needs = tuple(map(Need, about.pop("needs", ())))
    spec = MethodSpec(**about) if "on_score_scale" in about else MetricSpec(needs=needs, **about)
    return Plugin(name, f"tests.{name}", function, spec)


def rows_where(table, **where):
    """The rows where every named column has that value, by image."""
    for column, value in where.items():
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
    assert (set(table.layer), set(table.experiment), set(table.data)) == ({"1"}, {"-"}, {"-"})
    np.testing.assert_array_equal(
        table.target_class, table.image_id.map({"a": 0, "b": 1, "c": 2, "d": 3})
    )
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
    for method, metric, status in (("ablation_cam", "sensitivity_error", "not_on_score_scale"),
                                   ("ablation_cam", "conservation_error_raw", "ok"),
                                   ("centered", "conservation_error_raw", "no_contributions")):  # fmt: skip
        assert set(rows_where(with_cam, method=method, metric=metric).status) == {status}
    assert list(rows_where(with_cam, method="grad_cam", metric="box_iou").status) == [
        "ok",
        "ok",
        "wrong_class",
        "ok",
    ]
    assert set(with_cam.status[with_cam.method == "cam"]) == {"not_applicable"}
    pd.testing.assert_frame_equal(with_cam[with_cam.method != "cam"].reset_index(drop=True), table)


def test_a_callable_is_checked_for_the_scores_scale_once(net, batch, trace):
    def doubled_gradient(trace):
        return 2 * trace.gradients

    def normalised_gradient(trace):
        return trace.gradients / trace.gradients.abs().amax((1, 2, 3), keepdim=True)

    table = evaluate(
        net, "1", [batch], [doubled_gradient, normalised_gradient], ["conservation_error"]
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
    total, negative = (rows_where(table, metric=name).value for name in ("total", "negative"))
    np.testing.assert_array_equal(total, -negative)
    declared = plugin(sums, values={"total": {}, "negative": {}}, needs=["score_scale"])
    assert list(measure(declared, Explanation(trace=trace), False)) == ["total", "negative"]


def test_a_metric_is_not_called_where_no_row_meets_its_needs(trace):
    def untouchable(explanation):
        raise AssertionError("called")

    actual = measure(
        plugin(untouchable, needs=["boxes"]), Explanation.of(trace, trace.gradients), True
    )
    assert actual["mine"][1] == ("no_annotation",) * 4


@pytest.mark.parametrize("undefined", ["not_finite", "constant_map"])
def test_a_metric_names_the_status_of_what_it_leaves_undefined(trace, undefined):
    values = torch.tensor([1.0, float("nan"), float("inf"), 2.0])
    metric = plugin(lambda _: values, undefined=undefined)
    actual, statuses = measure(metric, Explanation.of(trace, trace.gradients), True)["mine"]
    assert statuses == ("ok", undefined, "not_finite", "ok")
    assert actual.isnan().tolist() == [False, True, True, False]
    assert values[2] == float("inf")  # the metric's own tensor is left alone


def test_a_method_and_a_metric_of_a_wrong_shape_are_named(trace, batch):
    imaginary = torch.complex64
    for answer in (
        torch.zeros(()),
        torch.zeros(4, 1),
        torch.zeros(3),
        torch.zeros(4, dtype=imaginary),
        0.5,
    ):
        with pytest.raises(BenchError, match="metric 'mine' returned"):
            measure(
                plugin(lambda _, answer=answer: answer),
                Explanation.of(trace, trace.gradients),
                True,
            )
    maps = (
        torch.zeros(3, 2, 2),
        torch.zeros(4, 0, 0),
        torch.zeros(4, 2, 2, dtype=imaginary),
        torch.ones(4, 2, 2) > 0,
    )
    weights = (
        torch.zeros(6),
        torch.zeros(4, 5, 1, 1),
        torch.zeros(4, 5),
        torch.zeros(4, 6, 1, 1, dtype=imaginary),
    )
    for answer in (*weights, *map(ab.Map, maps), [1]):
        method = plugin(lambda _, answer=answer: answer, on_score_scale=None)
        with pytest.raises(BenchError, match="method 'mine' returned"):
            list(rows_of(trace, batch, [method], [metrics.get("box_iou")]))


@pytest.mark.filterwarnings("error")
def test_weights_may_be_true_and_false_and_complex_values_of_a_metric_lose_no_part_in_silence(
    net, batch
):
    def mask(trace):
        return trace.gradients > 0

    numbers = evaluate(
        net,
        "1",
        [batch],
        [lambda trace: mask(trace).to(trace.gradients)],
        ["box_iou", "confidence_drop"],
    )
    assert evaluate(net, "1", [batch], [mask], ["box_iou", "confidence_drop"]).value.equals(
        numbers.value
    )
    with pytest.raises(
        BenchError,
        match=r"returned shape \(4,\) of torch.complex128; a metric returns one real value",
    ):
        evaluate(net, "1", [batch], [mask], [lambda e: e.trace.scores + 1j])


def test_a_map_without_a_positive_value_earns_no_score(net, batch):
    flat = [plugin(lambda trace: 0 * trace.activations, "zero", on_score_scale=None),
            plugin(lambda trace: -torch.ones_like(trace.activations), "negative", on_score_scale=None)]  # fmt: skip
    table = evaluate(
        net, "1", [batch], flat, ["box_iou", "pointing_game", "confidence_drop", "average_drop"]
    )
    assert set(table.status) == {"zero_map"}


@pytest.mark.slow
def test_images_that_are_not_finite_leave_the_others_alone(net, batch):
    images = batch.images.clone()
    images[1] = float("nan")
    batches = (replace(batch, images=images), batch)
    chosen = ["xgrad_cam", "centered"]
    table, clean = (
        evaluate(net, "1", [each], chosen, map(with_fewer, metrics.names())) for each in batches
    )
    assert set(table.status[(table.image_id == "b") & (table.metric != "guarded_channels")]) <= {
        "not_finite"
    }
    others = ~table.image_id.isin(["b", "*"])  # a value of the whole data set is of the good images
    np.testing.assert_allclose(table.value[others], clean.value[others], rtol=1e-10, atol=1e-12)


def divided(trace):
    """XGrad-CAM as the paper writes it: 0 / 0 at a dead channel."""
    return (trace.gradients * trace.activations).sum((2, 3), True) / trace.activations.sum(
        (2, 3), True
    )


@pytest.mark.parametrize(
    ("answer", "where"),
    [
        (divided, "the weights of 1 of {} channels are NaN or infinite, 1 of them"),
        (
            lambda trace: divided(trace).flatten(1),
            "the weights of 1 of {} channels are NaN or infinite, 1 of them",
        ),
        (lambda trace: ab.Map(torch.full((len(trace), 2, 2), torch.inf)), "image 0 4 of 4 pixels"),
    ],
)
def test_maps_that_are_not_finite_are_told_once(net, batch, answer, where):
    def mine(trace):
        return answer(trace)

    net = deepcopy(net)
    with torch.no_grad():
        net[0].weight[1] = 0  # behind a ReLU
        net[0].bias[1] = -1
    where = where.format(len(net[0].weight))
    for call in (
        lambda: explain(net, "1", batch.images, [mine, "xgrad_cam"]),
        lambda: evaluate(
            net, "1", [(batch.images, None)] * 2, [mine, "xgrad_cam"], ["sensitivity_error"]
        ),
    ):
        with pytest.warns(
            NotFiniteMaps, match=f"The maps of 'mine' aren't finite for 4 of 4 images: .*{where}"
        ) as caught:
            call()
        assert len([each for each in caught if each.category is NotFiniteMaps]) == 1


def test_a_metric_without_a_finite_value_is_told(net, batch):
    def mine(explanation):
        return explanation.trace.scores.double() * torch.nan

    with pytest.warns(
        NotFiniteMaps,
        match=r"The values of the metric 'mine' aren't finite for any of the first \d",
    ):
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
    """A function of this name that returns values of these names."""

    def metric(explanation):
        return dict.fromkeys(values, explanation.trace.scores)

    metric.__name__ = name
    return metric


area = returning("area", "area")
thief = returning("thief", "mine", "zeta")
TWO = {"mine": ValueSpec(), "sensitivity_error": ValueSpec()}
ERROR, UNDECLARED = "sensitivity_error", "which it doesn't declare"
TAKEN = "another metric's name; return it under"


@pytest.mark.parametrize(("chosen", "sentence"), [
    ([ERROR, plugin(thief, "thief")], f"The metric 'thief' returned 'mine', {UNDECLARED}"),
    ([plugin(returning("mine", "mine"), values=TWO)], f"declares the value '{ERROR}' and didn't return it"),
    (["confidence_drop", returning("mine", "confidence_drop")], f"returned 'confidence_drop', {TAKEN}"),
    (["zeta", thief], f"The metric 'thief' returned 'zeta', {TAKEN}"),  # of the layer
    ([area, returning("area_too", "area")], f"The metric 'area_too' returned 'area', {TAKEN}"),
])  # fmt: skip
def test_a_metric_can_not_take_another_ones_name(net, batch, chosen, sentence):
    """A value of its own with the name of a metric that was measured before would replace that
    one's.
    """
    with pytest.raises(BenchError, match=sentence):
        evaluate(net, "1", [batch], ["grad_cam"], chosen)
    assert set(evaluate(net, "1", [batch], ["grad_cam"], ["zeta", area])["metric"]) == {
        "zeta",
        "area",
    }


A_BATCH = r"A batch is \(images, targets\) or an axiom_bench.Batch, not a "
ITERABLE = "batches is an iterable of .*, not a "


@pytest.mark.parametrize(("wrong", "sentence"), [
    (lambda images, targets: [{"image": images}], f"{A_BATCH}dict; pass images"),
    (lambda images, targets: (images, targets), f"{A_BATCH}Tensor; pass images"),
    (lambda images, targets: [(images, targets, targets)], f"{A_BATCH}tuple"),
    (lambda images, targets: [(images.numpy(), targets)], r"a tensor \(B, 3, H, W\), not a numpy.* torch.from"),
    (lambda images, targets: images, rf"{ITERABLE}Tensor; pass a list"),
    (lambda images, targets: ab.Batch(images, tuple("abcd")), rf"{ITERABLE}Batch; pass a list"),
])  # fmt: skip
def test_batches_of_another_form_are_one_sentence(net, batch, wrong, sentence):
    with pytest.raises(BenchError, match=sentence):
        evaluate(net, "1", wrong(batch.images, batch.targets), ["grad_cam"], ["zeta"])


@pytest.mark.parametrize(("chosen", "sentence"), [
    (None, r"methods is a list of names or callables, not None"),
    (methods.get("cam"), r"not an axiom_bench\.evaluation\.plugins\.Plugin; pass methods=\[\.\.\.\]\.$"),
    ([3], r"A method is a name or a callable, not 3"),
    (["grad_cam", "grad_cam"], r"two methods named 'grad_cam'; list each of them once"),
])  # fmt: skip
def test_what_is_no_list_of_plugins_is_one_sentence(net, batch, chosen, sentence):
    with pytest.raises(BenchError, match=sentence):
        evaluate(net, "1", [batch], chosen, ["zeta"])
    with pytest.raises(BenchError, match=sentence):
        explain(net, "1", batch.images, chosen)


def halves(explanation):
    """A curve of three points for each image: the target's index times 2, 1 and 1/2."""
    index = 2 * explanation.trace.targets.double()
    return {"mine": index, "halves": index[:, None] / torch.tensor([1.0, 2.0, 4.0])}


def best(curves, scale):
    """The greatest mean over images, in units of `scale`."""
    return {"mine": float(curves["halves"].mean(0).max() / scale)}


SPEC = MetricSpec(curves=("halves",), aggregate=f"{__name__}.best", needs=(Need("boxes"),))
HALVING = Plugin("mine", "tests.halves", halves, SPEC, {"scale": 2.0})


def test_one_row_for_each_method_of_the_images_with_a_value(net, batch):
    table = evaluate(net, "1", [batch, batch], ["grad_cam", "xgrad_cam"], [HALVING])
    of_set = table[table.image_id == "*"]
    value = pytest.approx((0 + 1 + 3) / 3)  # image c has no box
    expected = [["grad_cam", value, "ok"], ["xgrad_cam", value, "ok"]]
    assert of_set[["method", "value", "status"]].to_numpy().tolist() == expected
    assert (of_set[["target_class", "predicted_class"]] == -1).all(axis=None)
    images = table[table.image_id != "*"]
    assert len(images) == 2 * 2 * 4  # the curve itself is no row
    assert set(images.metric) == {"mine"}


def test_without_an_image_that_counts_there_is_a_row_that_says_so(net, batch):
    bare = (batch.images, batch.targets)
    for batches, status in (([bare], "no_image"), ([batch, bare], "ok")):
        table = evaluate(net, "1", batches, ["grad_cam"], [HALVING])
        of_set = table[table.image_id == "*"]
        assert of_set.status.tolist() == [status]
        assert of_set.value.isna().tolist() == [status != "ok"]


def test_a_curve_has_a_row_for_each_image_and_is_nan_where_its_needs_are_not_met(trace, batch):
    explanation = Explanation.of(trace, trace.gradients, batch)
    points, statuses = measure(HALVING, explanation, True)["halves"]
    assert statuses == ("ok", "ok", "wrong_class", "ok")
    assert points.isnan().all(1).tolist() == [False, False, True, False]
    assert points.shape == (4, 3)
    wrong = Plugin(
        "mine", "tests.wrong", lambda _: {"mine": torch.zeros(4), "halves": torch.zeros(3, 4)}, SPEC
    )
    with pytest.raises(BenchError, match="returned shape \\(3, 4\\)"):
        measure(wrong, explanation, True)


def test_a_resample_has_an_image_as_often_as_it_is_drawn():
    curves = pd.DataFrame({"image_id": list("abc"), "curve": "halves", "status": ["ok", "ok", "zero_map"],
                           "points": [[8.0, 0.0], [0.0, 4.0], [99.0, 99.0]]})  # fmt: skip
    counts = np.array([[1, 1], [2, 0], [1, 3], [0, 0]])
    resampled = resampled_values(HALVING, curves, counts[:3])["mine"]
    # the mean of the images drawn, the greatest point, over 2
    assert resampled.tolist() == [
        2.0,
        4.0,
        1.5,
    ]
    assert whole_set.values(HALVING, curves) == {"mine": (2.0, "ok")}
    assert whole_set.values(HALVING, curves[2:]) == {
        "mine": (pytest.approx(np.nan, nan_ok=True), "no_image")
    }


def test_an_aggregate_takes_parameters_that_it_names_and_has_the_names_of_an_images_values_by_default():
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


def test_batch_size_and_order_change_no_value(net, batch, table):
    for rows in ([[0], [1], [2], [3]], [[3, 1], [0, 2]]):
        slices = [ab.Batch(batch.images[row], tuple(batch.image_ids[i] for i in row), batch.targets[row],
                           tuple(batch.annotations[i] for i in row)) for row in rows]  # fmt: skip
        apart = evaluate(net, "1", slices, METHODS[::-1], METRICS[::-1])
        merged = table.merge(apart, on=["method", "metric", "image_id"], validate="one_to_one")
        assert len(merged) == len(table)
        np.testing.assert_allclose(merged.value_x, merged.value_y, rtol=1e-10, atol=1e-12)
        assert (merged.status_x == merged.status_y).all()
