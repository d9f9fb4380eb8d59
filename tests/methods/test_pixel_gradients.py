"""Tests of gradients along a path of images and of guided backpropagation: the authors' formulas
as plain loops, completeness, captum, and images without another image.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench import methods
from axiom_bench.errors import BenchError
from axiom_bench.methods.expected_gradients import expected_gradients
from axiom_bench.methods.guided_backprop import guided_backprop
from axiom_bench.methods.integrated_gradients_pixels import integrated_gradients_pixels
from axiom_bench.testing import CASES
from tests.methods.plain import EACH_CASE, Row, assert_formula, generator_of, normal, rows_of

# A rule of three points: 5/9, 8/9, 5/9 at 0 and +-sqrt(3/5), moved from [-1, 1] to [0, 1].
POINTS = ((0.5 - 0.5 * 0.6**0.5, 5 / 18), (0.5, 8 / 18), (0.5 + 0.5 * 0.6**0.5, 5 / 18))
COLOURS = [0.5, -1.0, 2.0]
# captum rounds the points of the integral to float32; maps are about 0.01 in size.
FLOAT32_POINTS = {"rtol": 0, "atol": 1e-9}


def along_the_path(row: Row, baseline: Tensor, points: list[tuple[float, float]]) -> Tensor:
    """Return sum_c (x_c - x'_c) sum_i w_i dS/dx_c at x' + t_i (x - x'), pixel by pixel."""
    total = torch.zeros_like(row.image)
    for t, weight in points:
        total += weight * row.pixel_gradient(baseline + t * (row.image - baseline))
    height, width = row.image.shape[1:]
    expected = torch.zeros(height, width, dtype=torch.float64)
    for y in range(height):
        for x in range(width):
            for c in range(3):
                difference = row.image[c, y, x] - baseline[c, y, x]
                expected[y, x] += difference * total[c, y, x]
    return expected


def of_one_colour(row: Row, colours: list[float]) -> Tensor:
    plane = torch.ones(row.image.shape[1:], dtype=torch.float64)
    return torch.stack([colour * plane for colour in colours])


@EACH_CASE
@pytest.mark.parametrize("baseline", [0.0, -2.0, COLOURS], ids=str)
def test_integrated_gradients_equal_the_formula(case, baseline):
    colours = baseline if isinstance(baseline, list) else [baseline] * 3
    method = partial(integrated_gradients_pixels, steps=3, baseline=baseline)

    def formula(row: Row) -> Tensor:
        return along_the_path(row, of_one_colour(row, colours), list(POINTS))

    assert_formula(case, method, formula)


@EACH_CASE
def test_expected_gradients_equal_the_formula(case):
    others = iter(case.other_images())

    def formula(row: Row) -> Tensor:
        draws = torch.rand(4, generator=generator_of(row.image, 7), dtype=torch.float64)
        return along_the_path(row, next(others), [(t, 1 / 4) for t in draws.tolist()])

    assert_formula(case, partial(expected_gradients, samples=4, seed=7), formula)


class Square(nn.Module):
    """A network whose score is a quadratic form, so that two points integrate it exactly."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 2, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        return self.convolution(images).square().mean((2, 3))


def trace_of(model: nn.Module, layer: str, images: Tensor) -> ab.Trace:
    return ab.trace(model.double().eval(), layer, images, torch.tensor([1, 0]))


def test_maps_add_up_to_the_change_of_the_score():
    images = normal(2, 3, 5, 6)
    torch.manual_seed(0)
    model = Square()
    trace = trace_of(model, "convolution", images)
    baseline = torch.tensor(COLOURS, dtype=torch.float64)[:, None, None].expand_as(images)
    with torch.no_grad():
        at_baseline = model(baseline).gather(1, trace.targets[:, None])[:, 0]
    raw = integrated_gradients_pixels(trace, steps=2, baseline=COLOURS).raw
    expected = trace.scores - at_baseline
    torch.testing.assert_close(raw.sum((1, 2)), expected, rtol=1e-12, atol=1e-12)


def captum() -> object:
    return pytest.importorskip("captum.attr", reason="make peers")


@EACH_CASE
def test_integrated_gradients_equal_captum(case):
    trace = case.trace()
    explainer = captum().IntegratedGradients(case.model())
    baselines = torch.tensor(COLOURS, dtype=torch.float64)[:, None, None].expand_as(
        trace.images[:1]
    )
    for baseline, theirs in ((0.0, 0), (COLOURS, baselines)):
        expected = explainer.attribute(
            trace.images, theirs, target=trace.targets, n_steps=20, method="gausslegendre"
        )
        actual = integrated_gradients_pixels(trace, steps=20, baseline=baseline).raw
        torch.testing.assert_close(actual, expected.sum(1), **FLOAT32_POINTS)
    own = methods.get("integrated_gradients_pixels")(trace).raw
    theirs = methods.get("integrated_gradients_pixels@captum")(trace).raw
    torch.testing.assert_close(own, theirs, **FLOAT32_POINTS)


@EACH_CASE
def test_guided_backprop_equals_captum(case):
    captum()
    trace = case.trace()
    expected = methods.get("guided_backprop@captum")(trace).raw
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(guided_backprop(trace).raw, expected, rtol=1e-12, atol=1e-15)


def test_expected_gradients_equal_gradient_shap_with_the_same_draws(monkeypatch):
    """captum draws t by NumPy. With one baseline, no noise and our draws, it is the same mean."""
    attr = captum()
    case = CASES["dense"]
    trace = case.trace()
    maps = []
    for row in range(len(trace)):
        image = trace.images[row : row + 1]
        draws = torch.rand(6, generator=generator_of(image[0], 2), dtype=torch.float64).numpy()
        monkeypatch.setattr(np.random, "uniform", lambda low, high, size, draws=draws: draws)
        maps.append(
            attr.GradientShap(case.model()).attribute(
                image,
                trace.other_images[row : row + 1],
                n_samples=6,
                target=trace.targets[row : row + 1],
            )
        )
    actual = expected_gradients(trace, samples=6, seed=2).raw
    torch.testing.assert_close(actual, torch.cat(maps).sum(1), rtol=1e-11, atol=1e-14)


def test_more_samples_approach_the_integral():
    trace = CASES["dense"].trace()
    exact = [
        along_the_path(row, baseline, gauss_legendre_points(200))
        for row, baseline in zip(rows_of(CASES["dense"]), trace.other_images, strict=True)
    ]
    expected = torch.stack(exact)
    actual = expected_gradients(trace, samples=2000).raw
    # The standard error of 2000 draws is a fiftieth of the gradient's spread along the path.
    tolerance = 0.05 * expected.abs().max().item()
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


def gauss_legendre_points(steps: int) -> list[tuple[float, float]]:
    points, weights = np.polynomial.legendre.leggauss(steps)
    return list(zip(((points + 1) / 2).tolist(), (weights / 2).tolist(), strict=True))


def test_guided_methods_share_one_pass():
    trace = CASES["dense"].trace()
    before = trace.passes.trunk_backward
    guided_backprop(trace)
    methods.get("guided_grad_cam")(trace)
    assert trace.passes.trunk_backward - before == len(trace)


def test_a_single_image_has_no_expected_gradients():
    trace = replace(CASES["dense"].trace(), other_images=None)
    with pytest.raises(BenchError, match=r"needs another image .* data set of two or more images"):
        expected_gradients(trace)


def test_batches_without_other_images_give_rows_with_a_status():
    case = CASES["dense"]
    batches = [(case.images(), None)]
    with pytest.warns(UserWarning, match="'expected_gradients' is left out: This method needs"):
        rows = ab.evaluate(
            case.model(), case.layer, batches, ["expected_gradients"], ["confidence_drop"]
        )
    assert set(rows["status"]) == {"not_applicable"}


WRONG: list[tuple[Callable, dict, str]] = [
    (integrated_gradients_pixels, {"steps": 0}, "Invalid steps=0"),
    (integrated_gradients_pixels, {"baseline": [1.0, 2.0]}, "give one number, or 3"),
    (expected_gradients, {"samples": 0}, "Invalid samples=0"),
]


@pytest.mark.parametrize(("method", "params", "message"), WRONG)
def test_invalid_parameters(method, params, message):
    with pytest.raises(BenchError, match=message):
        method(CASES["dense"].trace(), **params)
