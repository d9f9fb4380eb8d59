"""ARCC against its parts, by hand, and beside ADCC."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import axiom_bench as ab
from axiom_bench import metrics
from axiom_bench.evaluation.measurement import measure, measure_all
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.adcc import adcc
from axiom_bench.metrics.arcc import arcc
from axiom_bench.metrics.road import road_combined
from axiom_bench.run.computing.costs import Cost
from axiom_bench.testing import answered

arcc, adcc, road_combined = answered(arcc), answered(adcc), answered(road_combined)
BOTH = [metrics.get("adcc"), metrics.get("arcc")]


def grad_cam(trace: ab.Trace) -> torch.Tensor:
    return trace.gradients.mean((2, 3), keepdim=True)


def explained(trace: ab.Trace) -> Explanation:
    return Explanation.of(trace, grad_cam(trace), method=grad_cam)


def test_arcc_is_the_harmonic_mean_of_its_parts(trace):
    fractions = (0.2, 0.4, 0.6, 0.8)
    actual = arcc(explained(trace))
    parts, road = adcc(explained(trace)), road_combined(explained(trace), fractions)
    assert (road > 0).any()
    assert (road < 0).any()
    for row in range(len(trace)):
        of_row = [parts["coherency"][row], 1 - parts["complexity"][row], max(0, min(1, 2 * road[row]))]
        expected = 3 / sum(1 / part for part in of_row) if of_row[2] > 0 else 0
        assert float(actual[row]) == pytest.approx(float(expected), abs=1e-12)


def test_by_hand(monkeypatch):
    """h = (1, 0) that stays: coherency 1, complexity 1/2; ROAD 1/2, more than all, and less than nothing."""

    def road(*_: object):
        yield "the curves"
        return torch.tensor([0.25, 2.0, -0.1]).double()

    monkeypatch.setattr("axiom_bench.metrics.arcc.road_combined", road)
    h = torch.tensor([[[1.0, 0.0]]] * 3).double()
    asking = metrics.get("arcc").call(Explanation(trace=object(), heatmap=h))  # type: ignore[arg-type]
    assert next(asking) == "the curves"
    asking.send(None)
    with pytest.raises(StopIteration) as end:
        asking.send((h, None))
    assert end.value.value.tolist() == pytest.approx([3 / (1 + 2 + 2), 3 / (1 + 2 + 1), 0])


def test_beside_adcc_an_image_is_explained_again_once(trace):
    calls: list[int] = []

    def counted(trace: ab.Trace) -> torch.Tensor:
        calls.append(len(trace))
        return grad_cam(trace)

    expected = [measure(metric, explained(trace), True) for metric in BOTH]
    trace = replace(trace)  # which keeps no scores of copies
    explanations = [replace(explained(trace), method=counted) for _ in range(2)]
    before = trace.passes.trunk_forward
    together = measure_all(BOTH, [(explanation, True) for explanation in explanations])
    assert calls == [len(trace)] * 2  # once for each explanation
    # Both have the same map: its 8 copies of ROAD are classified once, and each is explained again by itself.
    assert trace.passes.trunk_forward - before == (8 + 2) * len(trace)
    for measured in together:
        for part in expected:
            for name, (values, _) in part.items():
                assert torch.equal(measured.values[name][0], values)
    cost = Cost.of([], BOTH, trace)
    assert (cost.own_traces, cost.shared_traces, cost.of_method) == (1, 0, {"adcc": 1, "arcc": 8})


def test_a_constant_map_has_no_value(trace):
    explanation = Explanation.of(trace, ab.Map(torch.ones(4, 3, 3).double()), method=lambda again: ab.Map(
        torch.ones(len(again), 3, 3).double()
    ))  # fmt: skip
    assert measure(metrics.get("arcc"), explanation, True)["arcc"][1] == ("constant_map",) * 4
