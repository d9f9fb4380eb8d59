"""ADCC against its parts by numpy, and where they are undefined."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import axiom_bench as ab
from axiom_bench import metrics
from axiom_bench.evaluation.measurement import measure
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.adcc import adcc
from axiom_bench.metrics.average_drop import average_drop
from axiom_bench.testing import answered

adcc = answered(adcc)
average_drop = answered(average_drop)


def grad_cam(trace: ab.Trace) -> torch.Tensor:
    return trace.gradients.mean((2, 3), keepdim=True)


def test_adcc_is_the_harmonic_mean_of_its_parts(trace):
    explanation = Explanation.of(trace, grad_cam(trace), method=grad_cam)
    actual = adcc(explanation)
    for row in range(len(trace)):
        h = explanation.heatmap[row].numpy()
        kept = trace.images[row : row + 1] * explanation.heatmap[row]
        masked = ab.trace(trace.cut_model.model, trace.layer, kept, trace.targets[row : row + 1])
        again = Explanation.of(masked, grad_cam(masked)).heatmap[0].numpy()
        coherency = (1 + np.corrcoef(h.ravel(), again.ravel())[0, 1]) / 2
        p, seen = (float(each.logits.softmax(1)[0, trace.targets[row]]) for each in (trace[row : row + 1], masked))
        parts = [coherency, 1 - h.mean(), 1 - max(0, p - seen) / p]
        assert float(actual["coherency"][row]) == pytest.approx(coherency, abs=1e-12)
        assert float(actual["complexity"][row]) == pytest.approx(h.mean(), abs=1e-12)
        assert float(actual["adcc"][row]) == pytest.approx(3 / sum(1 / part for part in parts), abs=1e-12)
    assert 0 < actual["adcc"].min() <= actual["adcc"].max() <= 1


def test_by_hand_a_map_that_stays_and_one_that_turns_around():
    """h = (1, 0): coherency 1 and 0 for h' = h and its mirror; complexity 1/2; p = p', so no drop: ADCC 3/4 and 0."""
    logits, h = torch.zeros(2, 2).double(), torch.tensor([[[1.0, 0.0]]] * 2).double()
    trace = SimpleNamespace(logits=logits, targets=torch.zeros(2, dtype=torch.long))
    asking = metrics.get("adcc").call(Explanation(trace=trace, heatmap=h, images=torch.ones(2, 3, 1, 2).double()))
    assert next(asking).of_map
    with pytest.raises(StopIteration) as end:
        asking.send((torch.stack([h[0], h[0].flip(1)]), logits))
    actual = end.value.value
    assert actual["coherency"].tolist() == pytest.approx([1, 0])
    assert actual["complexity"].tolist() == [0.5, 0.5]
    assert actual["adcc"].tolist() == pytest.approx([3 / (1 + 2 + 1), 0])


def test_a_constant_map_has_complexity_and_no_coherency(trace):
    explanation = Explanation.of(trace, ab.Map(torch.ones(4, 3, 3).double()), method=lambda again: ab.Map(
        torch.ones(len(again), 3, 3).double()
    ))  # fmt: skip
    actual = measure(metrics.get("adcc"), explanation, True)
    assert actual["complexity"][0].tolist() == [1, 1, 1, 1]
    assert actual["adcc"][1] == actual["coherency"][1] == ("constant_map",) * 4


def test_adcc_is_the_same_whether_average_drop_was_asked_before_or_not(trace):
    alone, after = (Explanation.of(trace, grad_cam(trace), method=grad_cam) for _ in range(2))
    before = replace(trace.passes)
    average_drop(after)
    actual = [adcc(explanation) for explanation in (alone, after)]
    assert trace.passes.trunk_forward - before.trunk_forward == 3 * len(trace)
    for name in actual[0]:
        assert torch.equal(actual[0][name], actual[1][name])
