"""The needs of metrics, each with a predicate and the status of rows that don't meet it.

A row has the status of its first unmet need. Answers reach the CPU in one copy from a GPU.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import axiom_bench as ab
from axiom_bench.evaluation.measurement import copied_to_cpu
from axiom_bench.evaluation.preconditions import PRECONDITIONS, statuses
from axiom_bench.explanation.explanation import Curve, Explanation


@pytest.fixture
def explanation(trace, batch):
    return Explanation.of(trace, trace.gradients, batch)


def only_row_0(tensor, number):
    tensor = tensor.clone()
    tensor[0] = number
    return tensor


def judged(need, explanation, scale=True):
    return list(statuses([need], explanation, scale))


def test_each_need_is_judged_row_by_row(trace, explanation):
    given = (
        "boxes",
        "cells",
        "objects",
        "masks",
        "other_classes",
        "other_masked_classes",
        "same_class",
        "another_object",
        "other_objects",
        "interventions",
        "mark",
        "positive_effect",
        "finetuned",
        "truth",
        "positive_truth",
        "structure",
    )
    needs = [need for need in PRECONDITIONS if need not in given]
    assert list(statuses(needs, explanation, True)) == ["ok"] * 4

    no_score = replace(trace, scores=only_row_0(trace.scores, 0))
    no_activations = replace(trace, activations=only_row_0(trace.activations, 0))
    masks = only_row_0(torch.ones(4, 12, 12, dtype=torch.bool), False)
    unmet_in_row_0 = {
        "nonzero_score": replace(explanation, trace=no_score),
        "nonzero_drops": replace(explanation, trace=no_activations),
        "nonzero_map": replace(explanation, heatmap=only_row_0(explanation.heatmap, 0)),
        "masks": replace(explanation, masks=masks),
    }
    for need, broken in unmet_in_row_0.items():
        statuses_of_rows = judged(need, replace(broken, wrong_class=None))
        assert statuses_of_rows == [PRECONDITIONS[need].status, "ok", "ok", "ok"], need

    assert judged("boxes", explanation) == ["ok", "ok", "wrong_class", "ok"]  # c shows class 4
    assert judged("objects", explanation) == ["ok"] * 4
    empty = replace(explanation, boxes=(torch.zeros(0, 4), *explanation.boxes[1:]))
    assert judged("boxes", empty) == ["no_annotation", "ok", "wrong_class", "ok"]
    assert judged("objects", empty) == ["no_annotation", "ok", "ok", "ok"]

    other = ab.Annotation(torch.tensor([1]), torch.zeros(1, 4))
    annotated = replace(explanation, others=(other, ab.Annotation.none(), other, other))
    assert judged("other_classes", annotated) == ["ok", "one_class", "ok", "ok"]
    # Without `same_class` a class is explained, not an object.
    assert judged("same_class", annotated) == ["one_object"] * 4
    boxes = tuple(torch.zeros(count, 4) for count in (0, 0, 1, 0))
    with_objects = replace(annotated, same_class=boxes)
    expected = ["one_object", "one_object", "ok", "one_object"]
    assert judged("same_class", with_objects) == judged("another_object", with_objects) == expected
    assert judged("other_objects", with_objects) == ["ok", "one_object", "ok", "ok"]

    unmasked = replace(other, mask=torch.full((12, 12), -1))
    masked = replace(other, mask=torch.full((12, 12), 1))
    with_masks = replace(explanation, others=(unmasked, masked, other, masked))
    assert judged("other_masked_classes", with_masks) == ["one_class", "ok", "one_class", "ok"]


def test_the_truth_is_a_need_of_its_own(trace, batch, net):
    def true_contributions(activations, targets):
        return activations * (targets != 1)[:, None, None, None]

    net.true_contributions = true_contributions
    trace_with_truth = ab.trace(net, "1", batch.images, batch.targets)
    explanation = Explanation.of(trace_with_truth, trace.gradients, batch)
    assert judged("truth", explanation) == ["ok"] * 4
    assert judged("positive_truth", explanation) == ["ok", "zero_truth", "ok", "ok"]
    for without in (
        Explanation.of(trace, trace.gradients, batch),
        Explanation(heatmap=explanation.heatmap),
    ):
        assert judged("truth", without) == judged("positive_truth", without) == ["no_truth"] * 4


def test_needs_of_all_rows(trace, explanation):
    without_contributions = replace(explanation, contributions=None)
    assert judged("contributions", without_contributions) == ["no_contributions"] * 4
    assert judged("score_scale", explanation, False) == ["not_on_score_scale"] * 4
    only_heatmap = Explanation(heatmap=explanation.heatmap)
    for need in (
        "nonzero_score",
        "nonzero_drops",
        "other_logits",
        "boxes",
        "masks",
        "other_classes",
        "other_masked_classes",
    ):
        assert judged(need, only_heatmap) == [PRECONDITIONS[need].status] * 4
    single = replace(explanation, trace=replace(trace, logits=trace.logits[:, :1]))
    assert judged("other_logits", single) == ["one_logit"] * 4


def test_what_is_not_finite_comes_first_and_a_need_of_a_finite_score_alone_takes_any_map(
    trace, batch, explanation
):
    for number in (float("nan"), float("inf"), float("-inf")):
        broken_trace = replace(trace, scores=only_row_0(trace.scores, number))
        no_score = replace(explanation, trace=broken_trace)
        raw_map = only_row_0(explanation.raw_map, number)
        no_raw_map = replace(explanation, raw_map=raw_map)
        heatmap = only_row_0(explanation.heatmap, number)
        no_heatmap = replace(explanation, heatmap=heatmap)
        expected = ["not_finite"] + ["not_on_score_scale"] * 3
        for broken in (no_score, no_raw_map, no_heatmap):
            assert judged("score_scale", broken, False) == expected
        assert judged("finite_score", no_score) == ["not_finite", "ok", "ok", "ok"]
        assert judged("finite_score", no_raw_map) == ["ok"] * 4
    activations = replace(trace, activations=only_row_0(trace.activations, float("nan")))
    explained = Explanation.of(activations, torch.ones(4, 6, 1, 1).double(), batch)
    assert list(statuses([], explained, True)) == ["not_finite", "ok", "ok", "ok"]
    assert list(statuses([], Explanation(images=torch.zeros(2, 3, 4, 4)), True)) == ["ok", "ok"]


def test_maps_are_searched_and_a_need_is_judged_once_for_all_metrics(explanation, monkeypatch):
    searched = []
    isfinite = torch.Tensor.isfinite
    monkeypatch.setattr(
        torch.Tensor, "isfinite", lambda tensor: searched.append(len(tensor)) or isfinite(tensor)
    )
    for needs in ([], ["score_scale"], ["contributions"]):
        statuses(needs, explanation, True)
    assert searched == [4, 4, 4]  # rows of the raw map, the heatmap and the scores
    judged = []
    boxes = PRECONDITIONS["boxes"]
    counted = replace(boxes, holds=lambda *given: judged.append(1) or boxes.holds(*given))
    monkeypatch.setitem(PRECONDITIONS, "boxes", counted)
    first = list(statuses(["boxes"], explanation, True))
    assert list(statuses(["boxes", "nonzero_map"], explanation, True)) == first
    assert judged == [1]


def test_drops_are_not_computed_for_a_map(trace):
    explained = Explanation.of(trace, ab.Map(torch.ones(4, 3, 3)))
    actual = statuses(["contributions", "nonzero_drops"], explained, True)
    assert set(actual) == {"no_contributions"}
    assert "ablation_drops" not in vars(trace)


class CopiesToTheCPU(TorchDispatchMode):
    """A mode that counts the copies from a GPU to the CPU, which a process would wait for."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        is_copy = func is torch.ops.aten._to_copy.default
        if is_copy and args[0].is_cuda:
            target = torch.device(kwargs.get("device", "cuda"))
            self.count += target.type == "cpu"
        return func(*args, **kwargs)


def test_tensors_and_points_are_copied_and_anything_else_stays():
    values = torch.rand(3)
    points = torch.rand(3, 5)
    first, second = copied_to_cpu(
        [{"a": values, "b": Curve(points, x=range(5))}, {"c": "no tensor", "d": values > 0.5}]
    )
    assert first["a"].dtype == torch.float64
    assert torch.equal(first["a"], values.double())
    assert torch.equal(first["b"].points, points.double())
    assert first["b"].x == range(5)
    assert second["c"] == "no tensor"
    assert torch.equal(second["d"], (values > 0.5).double())


def test_a_gpu_is_waited_for_once():
    for methods in (1, 4):
        with FakeTensorMode(), CopiesToTheCPU() as copies:
            values = torch.empty(3, device="cuda")
            curve = Curve(torch.empty(3, 7, device="cuda"))
            given = [{"a": values, "b": torch.empty(3), "c": curve} for _ in range(methods)]
            answers = copied_to_cpu(given)
        assert copies.count == 1
        for answer in answers:
            tensors = (answer["a"], answer["b"], answer["c"].points)
            assert [tuple(tensor.shape) for tensor in tensors] == [(3,), (3,), (3, 7)]
            assert [tensor.device.type for tensor in tensors] == ["cpu"] * 3
