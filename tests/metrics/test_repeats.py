"""Padded rows of a batch: no pass is run for them, and no value changes by a bit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import axiom_bench as ab
from axiom_bench import methods
from axiom_bench.evaluation import plugins
from axiom_bench.explanation.explanation import Curve, Explanation
from axiom_bench.metrics.shared import random_subsets
from axiom_bench.metrics.shared.random_subsets import Subsets, pixels_at_random, subset_drops
from axiom_bench.testing import answered

FEWER = {"sensitivity_n": {"subsets": 10}}  # which decides how often it runs the network, not what it does
BY_IMAGE = ("deletion_auc", "insertion_auc", "road_combined", "sensitivity_n", "infidelity", "effective_complexity")


@pytest.fixture
def filled_up(trace) -> tuple[ab.Trace, ab.Trace]:
    """A trace of five rows, the last three of which repeat the second: as padding, and as images."""
    index = [0, 1, 1, 1, 1]
    cut = ab.cut(trace.cut_model.model, trace.layer, ablation_memory=2**18)  # a pass for each image's copies
    unpadded = cut.trace(trace.images[index], trace.targets[index])
    return replace(unpadded, num_padding=3), unpadded


def explained(trace: ab.Trace, name: str) -> Explanation:
    method = methods.get(name)
    return Explanation.of(trace, method(trace), method=method)


@pytest.mark.parametrize("metric", BY_IMAGE)
def test_repeats_cost_no_pass_and_change_no_value(filled_up, metric):
    padded, unpadded = filled_up
    measure = plugins.with_params("metric", metric, FEWER.get(metric, {}))
    costs, answers = [], []
    for trace in (padded, unpadded):
        before = trace.passes.trunk_forward
        answer = measure(explained(trace, "grad_cam"))
        answers.append([values_of(value) for value in (answer.values() if isinstance(answer, dict) else [answer])])
        costs.append(trace.passes.trunk_forward - before)
    assert costs[0] == 2 / 5 * costs[1] > 0
    for of_padded, of_unpadded in zip(*answers, strict=True):
        assert torch.equal(of_padded, of_unpadded)


def values_of(value: torch.Tensor | Curve) -> torch.Tensor:
    return value.points if isinstance(value, Curve) else value


@pytest.mark.parametrize("method", ["score_cam", "group_cam", "ss_cam", "recipro_cam"])
def test_methods_that_mask_image_by_image_leave_repeats_out_too(filled_up, method):
    padded, unpadded = (explained(trace, method).raw_map for trace in filled_up)
    assert torch.equal(padded, unpadded)


def test_sums_over_subsets_are_those_of_the_resized_map(filled_up, monkeypatch):
    trace = filled_up[0]
    monkeypatch.setattr(random_subsets, "KEPT_PIXELS", 12)
    small = torch.randn(5, 3, 4, dtype=torch.float64)[[0, 1, 1, 1, 1]]
    large = torch.nn.functional.interpolate(small[:, None], (12, 12), mode="bilinear", align_corners=False)[:, 0]
    subsets = Subsets("test", [pixels_at_random(count) for count in (1, 40, 140)], "zero", 0.05, "logit", 0)
    both = [Explanation.of(trace, ab.Map(maps)) for maps in (small, large)]
    sums = [answered(subset_drops)(explanation, subsets)[0] for explanation in both]
    torch.testing.assert_close(*sums, rtol=1e-12, atol=1e-12)
