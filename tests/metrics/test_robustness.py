"""Explanation sensitivity: closed forms of linear maps, an independent loop, and what noise may not depend on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench.cutting.numerics import generators
from axiom_bench.errors import BenchError
from tests.metrics.build import explained, functions, of_map

(explanation_sensitivity,) = functions("explanation_sensitivity")


def image_itself(trace: ab.Trace) -> ab.Map:
    """Phi(x) = the first channel of x."""
    return ab.Map(trace.images[:, 0])


def noises(images: Tensor, radius: float, samples: int, seed: int = 0) -> list[Tensor]:
    """The documented draws, image by image: uniform in float64, each from a generator of the image and the sample."""
    draws = [generators(images, f"{seed} nearby {sample}") for sample in range(samples)]
    return [
        torch.stack([radius * (2 * torch.rand(image.shape, generator=draw[row], dtype=torch.float64) - 1)
                     for draw in draws])
        for row, image in enumerate(images)
    ]  # fmt: skip


def assert_moves(actual: dict[str, Tensor], row: int, moved: list[float]) -> None:
    expected = {"max_sensitivity": max(moved), "avg_sensitivity": sum(moved) / len(moved)}
    assert {name: float(values[row]) for name, values in actual.items()} == pytest.approx(expected, rel=1e-10)


def test_a_map_that_is_the_image_moves_as_the_noise_does(trace):
    actual = explanation_sensitivity(explained(trace, image_itself), radius=0.3, samples=4)
    for row, noise in enumerate(noises(trace.images, 0.3, 4)):
        assert_moves(actual, row, [float(sample[0].norm() / trace.images[row, 0].norm()) for sample in noise])
        assert 0.29 < float(noise.abs().max()) <= 0.3


def test_the_network_is_explained_again_for_the_same_class(trace, explanation):
    actual = explanation_sensitivity(explanation, radius=0.1, samples=3, seed=7)
    model, layer = trace.cut_model.model, trace.layer
    for row, noise in enumerate(noises(trace.images, 0.1, 3, seed=7)):
        near = ab.trace(model, layer, trace.images[row] + noise, trace.targets[row].expand(3))
        raw = (near.gradients * near.activations).sum(1)
        moved = (raw - explanation.raw_map[row]).flatten(1).norm(dim=1) / explanation.raw_map[row].norm()
        assert_moves(actual, row, moved.tolist())


def test_maps_that_never_move_or_are_zero(trace, explanation):
    for values in explanation_sensitivity(of_map(trace, torch.ones(12, 12)), samples=3).values():
        assert (values == 0).all()
    zero = replace(explanation, raw_map=torch.zeros_like(explanation.raw_map))
    assert all(values.isnan().all() for values in explanation_sensitivity(zero).values())  # no relative change


def test_it_costs_a_trace_for_each_sample_and_needs_one(trace, explanation):
    before = trace.passes.trunk_forward
    explanation_sensitivity(explanation, samples=5)
    assert trace.passes.trunk_forward - before == 5 * len(trace)
    with pytest.raises(BenchError, match="at least one sample"):
        explanation_sensitivity(explanation, samples=0)


def test_float32_draws_the_same_noise():
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 36, 2)).eval()
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    single = explanation_sensitivity(explained(ab.trace(model, "1", images), image_itself))
    double = explanation_sensitivity(explained(ab.trace(model.double(), "1", images.double()), image_itself))
    for name, actual in single.items():
        torch.testing.assert_close(actual, double[name], rtol=1e-5, atol=0)
