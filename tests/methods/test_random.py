"""The random baseline: weights depend on the image and the seed alone."""

from __future__ import annotations

from dataclasses import replace

import torch

from axiom_bench.methods.random import random
from axiom_bench.testing import CASES, Case


def test_weights_differ_by_image_and_seed():
    trace = CASES["dense"].trace()
    first, second = random(trace), random(trace, seed=1)
    assert len({round(value, 9) for value in torch.cat([first, second]).flatten().tolist()}) == first.numel() * 2


def test_float32_weights_equal_float64():
    """The pixels are hashed as float32, on the CPU: neither precision nor device changes the weights."""
    images = CASES["dense"].images().float()
    single = replace(CASES["dense"], dtype=torch.float32).trace().again(images=images)
    double = CASES["dense"].trace().again(images=images.double())
    torch.testing.assert_close(random(single).double(), random(double), rtol=1e-6, atol=0)


def test_weights_are_standard_normal():
    """Of 2,000 draws, mean and variance within four standard errors: 4 / sqrt(2000) and 4 sqrt(2 / 2000)."""
    weights = random(Case(channels=400, size=(2, 2), rows=5).trace()).flatten()
    assert abs(weights.mean()) < 0.09
    assert abs(weights.var() - 1) < 0.13
