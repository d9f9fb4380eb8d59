"""Insertion and deletion against loops over pixels, closed forms on a linear model, and what they must ignore."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import nn

import axiom_bench as ab
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.deletion_auc import deletion_auc
from axiom_bench.metrics.insertion_auc import insertion_auc
from axiom_bench.metrics.insertion_minus_deletion import insertion_minus_deletion
from axiom_bench.metrics.shared.perturbation import confidence, filling
from axiom_bench.metrics.shared.pixel_curves import area
from axiom_bench.metrics.shared.pixel_order import pixel_ranks
from axiom_bench.testing import answered

deletion_auc = answered(deletion_auc)
insertion_auc = answered(insertion_auc)
insertion_minus_deletion = answered(insertion_minus_deletion)


EXACT = {"rtol": 1e-11, "atol": 1e-12}


def brute_force(explanation, steps, fill, output, first, inserts):
    """Pixel after pixel, an image at a time: (B, steps + 1)."""
    trace, rows = explanation.trace, []
    for row, image in enumerate(trace.images):
        base = filling(trace.images, fill, 0.0223).expand_as(trace.images)[row]
        canvas, goal = (base.clone(), image) if inserts else (image.clone(), base)
        order = pixel_ranks(explanation, first)[row].flatten().argsort().tolist()
        values, done = [], 0
        for step in range(steps + 1):
            while done < round(step * len(order) / steps):
                y, x = divmod(order[done], image.shape[2])
                canvas[:, y, x] = goal[:, y, x]
                done += 1
            values.append(confidence(trace.forward(canvas[None]), trace.targets[row : row + 1], output).item())
        rows.append(values)
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize(("steps", "output", "first"), [(9, "probability", "highest"), (7, "logit", "lowest")])
def test_curves_equal_pixel_after_pixel(explanation, steps, output, first):
    settings_ = {"steps": steps, "output": output, "first": first}
    for metric, kind, fill in ((insertion_auc, "insertion", "rise"), (deletion_auc, "deletion", "zero")):
        actual = metric(explanation, **settings_)
        expected = brute_force(explanation, steps, fill, output, first, kind == "insertion")
        torch.testing.assert_close(actual[kind], expected, **EXACT)
        by_numpy = np.trapezoid(expected.numpy(), dx=1 / steps, axis=1)
        torch.testing.assert_close(actual[f"{kind}_auc"], torch.from_numpy(by_numpy), **EXACT)


def test_the_ends_are_the_image_and_what_fills_it(trace, explanation):
    blurred = confidence(trace.forward(filling(trace.images, "rise")), trace.targets)
    blank = confidence(trace.forward(torch.zeros_like(trace.images)), trace.targets)
    unchanged = confidence(trace.logits, trace.targets)
    inserted, deleted = insertion_auc(explanation)["insertion"], deletion_auc(explanation)["deletion"]
    for curve, start, end in ((inserted, blurred, unchanged), (deleted, unchanged, blank)):
        torch.testing.assert_close(curve[:, 0], start, **EXACT)
        torch.testing.assert_close(curve[:, -1], end, **EXACT)


def linear(images: torch.Tensor, contributions: torch.Tensor) -> ab.Trace:
    """A model whose logit 0 is the sum of image 0's pixels times what makes them `contributions`; logit 1 is 0."""
    net = nn.Sequential(
        nn.Identity(), nn.Conv2d(1, 1, 1, bias=False), nn.Flatten(), nn.Linear(images[0].numel(), 2)
    ).double()
    with torch.no_grad():
        net[1].weight.fill_(1)
        net[3].weight.copy_(torch.stack([(contributions / images[0, 0]).flatten(), torch.zeros(images[0].numel())]))
        net[3].bias.zero_()
    return ab.trace(net.eval(), "1", images, torch.zeros(1, dtype=torch.long))


def test_a_linear_models_curves_are_cumulative_sums():
    """By hand: pixels that give 4, 3, 2, 1 of a score of 10; removed in their own order, 10, 6, 3, 1, 0 are left."""
    shares = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).double()
    images = torch.tensor([[[[2.0, -1.0], [0.5, 3.0]]]]).double()
    explanation = Explanation(trace=linear(images, shares), images=images, heatmap=shares[None] / 4)
    options = {"steps": 4, "fill": "zero", "output": "logit"}
    deleted, inserted = deletion_auc(explanation, **options), insertion_auc(explanation, **options)
    torch.testing.assert_close(deleted["deletion"], torch.tensor([[10.0, 6, 3, 1, 0]]).double(), **EXACT)
    torch.testing.assert_close(inserted["insertion"], torch.tensor([[0.0, 4, 7, 9, 10]]).double(), **EXACT)
    assert float(deleted["deletion_auc"]) == pytest.approx((10 / 2 + 6 + 3 + 1) / 4)
    upside_down = deletion_auc(explanation, first="lowest", **options)
    torch.testing.assert_close(upside_down["deletion"], torch.tensor([[10.0, 9, 7, 4, 0]]).double(), **EXACT)


@given(st.permutations(range(9)))
@settings(max_examples=25)
def test_no_order_beats_the_true_one_on_a_linear_model(order):
    images = torch.rand(1, 1, 3, 3, generator=torch.Generator().manual_seed(0)).double() + 0.5
    shares = torch.arange(1.0, 10.0).view(3, 3).double()
    trace = linear(images, shares)
    best = Explanation(trace=trace, images=images, heatmap=shares[None] / 9)
    other = replace(best, heatmap=(torch.tensor(order).double() + 1).view(1, 3, 3) / 9)
    options = {"steps": 9, "fill": "zero", "output": "logit"}
    assert insertion_auc(other, **options)["insertion_auc"] <= insertion_auc(best, **options)["insertion_auc"] + 1e-9
    assert deletion_auc(other, **options)["deletion_auc"] >= deletion_auc(best, **options)["deletion_auc"] - 1e-9


def test_curves_are_those_of_rises_evaluation(trace, explanation):
    """CausalMetric of RISE's evaluation.py written out: pixels per step, flipped argsort, its kernel, its area."""
    step, pixels = 12, 144
    impulse = np.zeros((11, 11))
    impulse[5, 5] = 1
    kernel = torch.from_numpy(ndimage.gaussian_filter(impulse, 5)).expand(3, 1, 11, 11)
    heatmap = torch.rand(4, 12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)  # without ties
    random = replace(explanation, heatmap=heatmap)
    found = insertion_auc(random, steps=pixels // step), deletion_auc(random, steps=pixels // step)
    blurred = torch.nn.functional.conv2d(trace.images, kernel, padding=5, groups=3)
    runs = ((blurred, trace.images), (trace.images, torch.zeros_like(trace.images)))
    for actual, (start, finish) in zip(found, runs, strict=True):
        order = np.flip(np.argsort(heatmap.reshape(4, pixels).numpy(), axis=1), axis=1).copy()
        canvas, scores = start.clone().reshape(4, 3, pixels), []
        for i in range(pixels // step + 1):
            scores.append(trace.forward(canvas.view_as(start)).softmax(1)[range(4), trace.targets])
            for row in range(4):
                coordinates = order[row, step * i : step * (i + 1)]
                canvas[row][:, coordinates] = finish.reshape(4, 3, pixels)[row][:, coordinates]
        curve = torch.stack(scores)
        area_under = (curve.sum(0) - curve[0] / 2 - curve[-1] / 2) / (len(curve) - 1)
        torch.testing.assert_close(next(iter(actual.values())), area_under, **EXACT)


def test_the_difference_costs_nothing_beside_both(trace, explanation):
    both = {**insertion_auc(explanation, steps=6), **deletion_auc(explanation, steps=6)}
    before = replace(trace.passes)
    difference = insertion_minus_deletion(explanation, steps=6)
    assert trace.passes == before
    torch.testing.assert_close(difference, both["insertion_auc"] - both["deletion_auc"], **EXACT)


def test_a_constant_curve_has_its_height_as_area():
    torch.testing.assert_close(area(torch.full((2, 5), 0.3).double()), torch.full((2,), 0.3).double(), **EXACT)


def test_wrong_settings_are_named(explanation):
    with pytest.raises(BenchError, match="highest, lowest"):
        deletion_auc(explanation, first="middle")
    with pytest.raises(BenchError, match="steps=0"):
        deletion_auc(explanation, steps=0)
