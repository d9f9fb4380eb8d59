"""Smooth and efficient parameter randomisation: loops over models and draws, maps that pass or fail by design."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

import axiom_bench as ab
from axiom_bench import metrics
from axiom_bench.cutting.numerics import generators
from axiom_bench.evaluation.measurement import measure, measure_all
from axiom_bench.evaluation.plugins import with_params
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.model_parameter_randomisation import model_parameter_randomisation
from axiom_bench.metrics.model_parameter_randomisation_efficient import (
    histogram_entropy,
    model_parameter_randomisation_efficient,
)
from axiom_bench.metrics.model_parameter_randomisation_smooth import model_parameter_randomisation_smooth
from axiom_bench.metrics.shared.cells import enlarged
from axiom_bench.metrics.shared.randomised import fully_randomised, randomised
from axiom_bench.metrics.shared.similarity import spearman
from axiom_bench.testing import answered

efficient = answered(model_parameter_randomisation_efficient)
smooth = answered(model_parameter_randomisation_smooth)


def of(trace: ab.Trace, method) -> Explanation:
    return Explanation.of(trace, method(trace), method=method)


def brightness(trace: ab.Trace) -> ab.Map:
    """A map of the image alone, which no model changes."""
    return ab.Map(trace.images.mean(1))


def maps_of(model: torch.nn.Module, trace: ab.Trace, images: Tensor) -> Tensor:
    other = ab.trace(model, trace.layer, images, trace.targets)
    return (other.gradients * other.activations).sum(1)


@pytest.fixture
def random_model(trace) -> torch.nn.Module:
    return randomised(trace.cut_model.model, trace.images[:1], "cascading", 1, seed=0)[0]


def test_entropy_by_hand():
    """Four values in three bins of [0, 3]: counts 2, 1, 1. A constant map has none; one that isn't finite, infinity."""
    raw = torch.tensor([[[0.0, 0.5], [1.5, 3.0]], [[2.0, 2], [2, 2]], [[0, 1], [2, np.inf]]]).double()
    explanation = Explanation(raw_map=raw, heatmap=torch.zeros(3, 2, 2))
    actual = histogram_entropy(explanation, bins=3)
    assert actual[0].item() == pytest.approx(1.5 * np.log(2))
    assert actual[1].isnan()
    assert actual[2].isposinf()


@pytest.mark.parametrize("factor", [3, 0.1, 1e6])
def test_entropy_of_values_on_the_bins_edges_is_free_of_scale(factor):
    """Eleven values, a tenth of the range apart: one in each of ten bins, two in the last."""
    raw = factor * (torch.arange(11).double()[None, None] / 10)
    actual = histogram_entropy(Explanation(raw_map=raw, heatmap=torch.zeros(1, 1, 11)), bins=10)
    assert actual.item() == pytest.approx(stats.entropy([1] * 9 + [2]))


def test_efficient_is_the_rise_of_the_histograms_entropy(trace, explanation, random_model):
    other = Explanation.of(trace, ab.Map(maps_of(random_model, trace, trace.images)))
    actual = efficient(explanation)
    for row, (before, after) in enumerate(zip(enlarged(explanation).numpy(), enlarged(other).numpy(), strict=True)):
        H, H_random = (stats.entropy(np.histogram(each, 100)[0]) for each in (before, after))
        assert float(actual[row]) == pytest.approx((H_random - H) / H, abs=1e-12)


def test_a_map_of_the_image_alone_fails_both(trace):
    explanation = of(trace, brightness)
    assert efficient(explanation).tolist() == [0] * 4
    torch.testing.assert_close(smooth(explanation, samples=3), torch.ones(4).double(), rtol=0, atol=1e-12)


def test_a_map_that_becomes_constant_has_no_value(trace):
    model = trace.cut_model.model

    def lost(trace: ab.Trace) -> ab.Map:
        raw = trace.activations.sum(1)
        return ab.Map(raw if trace.cut_model.model is model else torch.ones_like(raw))

    for name in ("efficient", "smooth"):
        metric = f"model_parameter_randomisation_{name}"
        assert measure(metrics.get(metric), of(trace, lost), True)[metric][1] == ("constant_map",) * 4


def test_one_sample_is_the_last_stage_of_the_cascade(explanation):
    last = answered(model_parameter_randomisation)(explanation)["randomisation"][:, -1]
    torch.testing.assert_close(smooth(explanation, samples=1), last, rtol=0, atol=1e-12)


def test_smooth_compares_means_over_noisy_images_and_the_image_itself(trace, explanation, random_model):
    noise, samples, seed = 0.3, 4, 2
    random_model = randomised(trace.cut_model.model, trace.images[:1], "cascading", 1, seed)[0]
    spread = trace.images.amax((1, 2, 3)) - trace.images.amin((1, 2, 3))
    stacks: list[list[Tensor]] = [[], []]
    for sample in range(samples):
        draws = generators(trace.images, f"{seed} smooth {sample}")
        normal = torch.stack([torch.randn(3, 12, 12, generator=draw, dtype=torch.float64) for draw in draws])
        last = sample == samples - 1
        images = trace.images if last else trace.images + noise * spread[:, None, None, None] * normal
        for stack, model in zip(stacks, (trace.cut_model.model, random_model), strict=True):
            stack.append(maps_of(model, trace, images))
    expected = spearman(*(torch.stack(stack).mean(0) for stack in stacks))
    torch.testing.assert_close(smooth(explanation, samples, noise, seed=seed), expected, rtol=0, atol=1e-10)


def test_all_methods_share_the_traces_and_both_metrics_the_randomised_one(trace, explain):
    chosen = [
        metrics.get("model_parameter_randomisation_efficient"),
        with_params("metric", "model_parameter_randomisation_smooth", {"samples": 3}),
    ]
    first = explain(replace(trace))
    second = replace(first, raw_map=2 * first.raw_map)
    before = first.trace.passes.trunk_forward
    measure_all(chosen, [(first, True), (second, True)])
    assert first.trace.passes.trunk_forward - before == (2 * 3 - 1) * len(trace)


def test_the_randomised_model_is_made_once_for_a_cut(trace):
    assert fully_randomised(trace, 0) is fully_randomised(replace(trace), 0)
    assert fully_randomised(trace, 1) is not fully_randomised(trace, 0)
