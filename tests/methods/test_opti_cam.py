"""Opti-CAM against torch's own optimiser, an image at a time on the plain network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

import axiom_bench as ab
from axiom_bench.errors import BenchError
from axiom_bench.methods.opti_cam import opti_cam
from axiom_bench.testing import CASES, Case


def masked(case: Case, image: Tensor, planes: Tensor, weights: Tensor) -> Tensor:
    """The image (3, H', W') times the map of the weights (K,), scaled to [0, 1]."""
    combined = sum(w * plane for w, plane in zip(weights, planes, strict=True))
    mask = interpolate(combined[None, None], size=case.size, mode="bilinear", align_corners=False)[0, 0]
    return image * (mask - mask.min()) / (mask.max() - mask.min())


def planes_of(case: Case, image: Tensor) -> Tensor:
    with torch.no_grad():
        return case.model().features[: int(case.layer.split(".")[1]) + 1](image[None])[0].clone()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_weights_equal_torch_adam(case):
    actual = opti_cam(case.trace(), iterations=20, learning_rate=0.2)[..., 0, 0]
    for i, image in enumerate(case.images()):
        planes = planes_of(case, image)
        u = torch.full((case.channels,), 0.5, dtype=torch.float64, requires_grad=True)
        adam = torch.optim.Adam([u], lr=0.2)
        for _ in range(20):
            adam.zero_grad()
            (-case.model()(masked(case, image, planes, u.softmax(0))[None])[0, i % 3]).backward()
            adam.step()
        # Adam divides by the gradient's size, which brings its rounding up to that of the step.
        torch.testing.assert_close(actual[i], u.detach().softmax(0), rtol=0, atol=1e-9)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_optimisation_raises_the_score(case):
    weights = opti_cam(case.trace())[..., 0, 0]
    for i, image in enumerate(case.images()):
        planes = planes_of(case, image)
        start = torch.full((case.channels,), 1 / case.channels, dtype=torch.float64)
        with torch.no_grad():
            before, after = (case.model()(masked(case, image, planes, w)[None])[0, i % 3] for w in (start, weights[i]))
        assert after > before


def test_memory_limit_does_not_change_weights():
    case = CASES["dense"]
    cut = ab.cut(case.model(), case.layer, ablation_memory=1)
    actual = opti_cam(cut.trace(case.images(), torch.arange(case.rows)), iterations=5)
    torch.testing.assert_close(actual, opti_cam(case.trace(), iterations=5), rtol=0, atol=1e-13)


def test_parameters_get_no_gradients():
    case = CASES["pooled"]
    model = case.model()
    opti_cam(case.trace(model), iterations=2)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


def test_zero_iterations_are_refused():
    with pytest.raises(BenchError, match="iterations=0"):
        opti_cam(CASES["dense"].trace(), iterations=0)
