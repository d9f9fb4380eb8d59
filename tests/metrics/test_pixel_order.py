"""The order of a map's pixels against a sort of tuples; curves, complexity and counts that follow it, against loops."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench import metrics
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Explanation, heatmap
from axiom_bench.metrics.entropy import entropy
from axiom_bench.metrics.gini import gini
from axiom_bench.metrics.shared.perturbation import confidence, filling, highlighted
from axiom_bench.metrics.shared.pixel_order import pixel_ranks
from axiom_bench.metrics.shared.threshold_sweep import highest_in_mask
from tests.methods.plain import resized
from tests.metrics.build import close, functions, tensor, values_of

deletion_auc, insertion_auc, insertion_minus_deletion, effective_complexity = functions(
    "deletion_auc", "insertion_auc", "insertion_minus_deletion", "effective_complexity"
)


def brute_force_ranks(raw_map: list[list[float]], size: tuple[int, int], first: str) -> list[int]:
    """The ranks in reading order, from tuples (heatmap, resized raw map, position), each map rounded to 1e-6."""
    heatmap = [[max(value, 0) for value in row] for row in raw_map]
    maps = [list(itertools.chain(*resized(lines, *size))) for lines in (heatmap, raw_map)]
    largest = [max(map(abs, pixels)) or 1 for pixels in maps]
    levels = [[round(value / top, 6) for value in pixels] for pixels, top in zip(maps, largest, strict=True)]
    sign = -1 if first == "highest" else 1
    order = sorted(range(len(levels[0])), key=lambda i: (sign * levels[0][i], sign * levels[1][i], i))
    return [order.index(pixel) for pixel in range(len(order))]


LEVELS = st.sampled_from([-3.0, -1.25, -0.5, 0.0, 0.0, 0.75, 2.0])
RAW_MAPS = st.lists(st.lists(LEVELS, min_size=3, max_size=3), min_size=2, max_size=2)


@given(RAW_MAPS, st.sampled_from(["highest", "lowest"]))
def test_ranks_equal_a_sort_of_tuples(raw_map, first):
    raw = tensor(raw_map)
    explanation = Explanation(raw_map=raw, heatmap=heatmap(raw, (5, 7)))
    assert pixel_ranks(explanation, first).flatten().tolist() == brute_force_ranks(raw_map, (5, 7), first)


SIGNED = tensor([[1.0, -2.0, 0.0, -1.0, -2.0, 0.0]])


@pytest.mark.parametrize(
    ("raw_map", "shown", "highest", "lowest"),
    [  # zeros of the heatmap go by the raw map and then by position; without a raw map by position, after rounding
        (SIGNED, SIGNED.clamp(min=0), [0, 4, 1, 3, 5, 2], [5, 0, 3, 2, 1, 4]),
        (None, tensor([[0.5, 1.0], [1.0 - 1e-8, 0.5]]), [2, 0, 1, 3], [0, 2, 3, 1]),
    ],
)
def test_ranks_by_hand(raw_map, shown, highest, lowest):
    explanation = Explanation(raw_map=raw_map, heatmap=shown)
    assert pixel_ranks(explanation).flatten().tolist() == highest
    assert pixel_ranks(explanation, "lowest").flatten().tolist() == lowest
    with pytest.raises(BenchError, match="highest, lowest"):
        pixel_ranks(explanation, "middle")


@pytest.mark.parametrize("name", ["deletion_auc", "insertion_auc", "road_lerf", "road_morf", "effective_complexity"])
def test_metrics_tell_maps_apart_that_differ_below_zero_alone(explanation, name):
    """Both maps have the same heatmap, of one positive pixel; below zero one is the other upside down."""
    ramp = -torch.arange(1.0, 145.0, dtype=torch.float64).view(1, 12, 12).expand(4, -1, -1)
    maps = [ramp.clone(), ramp.flip(1, 2).clone()]
    for raw_map in maps:
        raw_map[:, 6, 6] = 1
    both = [replace(explanation, raw_map=raw_map, heatmap=heatmap(raw_map, (12, 12))) for raw_map in maps]
    assert torch.equal(both[0].heatmap, both[1].heatmap)
    params = {"output": "logit"} if "output" in metrics.get(name).params else {"tolerance": 0.01}
    (metric,) = functions(name)
    assert not torch.equal(*(values_of(metric(each, **params))[0] for each in both))


def test_hard_perturbation_and_counts_in_a_mask_follow_the_same_order():
    raw = tensor([[1.0, -2.0, 0.0, -1.0]])
    explanation = Explanation(raw_map=raw, heatmap=raw.clamp(min=0), masks=torch.tensor([[[False, True, False, True]]]))
    assert highlighted(explanation, "hard", 0.5).tolist() == [[[1, 0, 1, 0]]]
    for count, hits in ((3, 1), (0, 0)):
        assert highest_in_mask(explanation, np.array([count])).tolist() == [hits]


def test_rounding_swaps_pixels_that_are_nearly_equal_alone():
    """What another batch size does to a float32 map, 5e-7 of its maximum, moves a pixel past those within 3e-6 of it;
    some such pairs are in every map of 96 x 96, and no rounding of the map would keep all of them in order."""
    chance = torch.Generator().manual_seed(0)
    exact = torch.rand(1, 96, 96, generator=chance, dtype=torch.float64)
    exact = exact / exact.amax()
    noise = 1e-6 * (torch.rand(exact.shape, generator=chance, dtype=torch.float64) - 0.5)
    ranks = [pixel_ranks(Explanation(heatmap=map_)) for map_ in (exact, (exact + noise).clamp(0, 1))]
    assert 0 < (ranks[0] != ranks[1]).sum() < 300
    in_order = exact.flatten()[ranks[1].flatten().argsort()]
    later = in_order.flip(0).cummax(0).values.flip(0)  # the highest pixel that comes later
    assert (later - in_order).max() < 3e-6


def brute_force(explanation, steps, fill, output, first, inserts):
    """Pixel after pixel, an image at a time: (B, steps + 1)."""
    trace, rows = explanation.trace, []
    for row, image in enumerate(trace.images):
        base = filling(trace.images, fill, 0.0223).expand_as(trace.images)[row]
        before, after = (base, image) if inserts else (image, base)
        order = pixel_ranks(explanation, first)[row].flatten().argsort().tolist()
        copies = []
        for step in range(steps + 1):
            copy = before.clone()
            for y, x in (divmod(pixel, image.shape[2]) for pixel in order[: round(step * len(order) / steps)]):
                copy[:, y, x] = after[:, y, x]
            copies.append(copy)
        rows.append(confidence(trace.forward(torch.stack(copies)), trace.targets[row].expand(steps + 1), output))
    return torch.stack(rows)


@pytest.mark.parametrize(("steps", "output", "first"), [(9, "probability", "highest"), (7, "logit", "lowest")])
def test_curves_equal_pixel_after_pixel(explanation, steps, output, first):
    options = {"steps": steps, "output": output, "first": first}
    for metric, kind, fill in ((insertion_auc, "insertion", "rise"), (deletion_auc, "deletion", "zero")):
        actual = metric(explanation, **options)
        expected = brute_force(explanation, steps, fill, output, first, kind == "insertion")
        close(actual[kind], expected)
        close(actual[f"{kind}_auc"], np.trapezoid(expected.numpy(), dx=1 / steps, axis=1))


def linear(images: torch.Tensor, contributions: torch.Tensor) -> ab.Trace:
    """A model whose logit 0 is the sum of image 0's pixels times what makes them `contributions`; logit 1 is 0."""
    layers = (nn.Conv2d(1, 1, 1, bias=False), nn.Flatten(), nn.Linear(images[0].numel(), 2, bias=False))
    net = nn.Sequential(nn.Identity(), *layers).double()
    factors = (contributions / images[0, 0]).flatten()
    with torch.no_grad():
        net[1].weight.fill_(1)
        net[3].weight.copy_(torch.stack([factors, 0 * factors]))
    return ab.trace(net.eval(), "1", images, torch.zeros(1, dtype=torch.long))


def test_a_linear_models_curves_are_cumulative_sums():
    """By hand: pixels that give 4, 3, 2, 1 of a score of 10; removed in their own order, 10, 6, 3, 1, 0 are left."""
    shares, images = tensor([1.0, 2.0], [3.0, 4.0]), tensor([[[2.0, -1.0], [0.5, 3.0]]])
    explanation = Explanation(trace=linear(images, shares), images=images, heatmap=shares[None] / 4)
    options = {"steps": 4, "fill": "zero", "output": "logit"}
    deleted = deletion_auc(explanation, **options)
    close(deleted["deletion"], [10, 6, 3, 1, 0])
    close(deleted["deletion_auc"], (10 / 2 + 6 + 3 + 1) / 4)
    close(insertion_auc(explanation, **options)["insertion"], [0, 4, 7, 9, 10])
    close(deletion_auc(explanation, first="lowest", **options)["deletion"], [10, 9, 7, 4, 0])


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
        close(next(iter(actual.values())), area_under)


def test_the_difference_costs_nothing_beside_both(trace, explanation):
    inserted, deleted = (metric(explanation, steps=6) for metric in (insertion_auc, deletion_auc))
    before = replace(trace.passes)
    difference = insertion_minus_deletion(explanation, steps=6)
    assert trace.passes == before
    close(difference, inserted["insertion_auc"] - deleted["deletion_auc"])


@pytest.mark.parametrize(("params", "message"), [({"first": "middle"}, "highest, lowest"), ({"steps": 0}, "steps=0")])
def test_wrong_settings_are_named(explanation, params, message):
    with pytest.raises(BenchError, match=message):
        deletion_auc(explanation, **params)


def one_row(*values: float) -> Explanation:
    """A heatmap of one row of pixels."""
    return Explanation(heatmap=tensor([values]))


@pytest.mark.parametrize(
    ("pixels", "sparseness", "nats"),
    [
        ((1, 1, 1, 1), 0, math.log(4)),
        ((0, 0, 1, 0), 3 / 4, 0),  # 1 - 1/n
        # sorted 1 2 5 fifths, sum 8: 1 - 2 (1/8 * 2.5/3 + 2/8 * 1.5/3 + 5/8 * 0.5/3) = 1/3
        ((0.4, 1, 0.2), 1 / 3, -sum(share * math.log(share) for share in (1 / 8, 2 / 8, 5 / 8))),
        ((1, 0.5, 0.5, 0), 3 / 8, 1.5 * math.log(2)),
        ((0, 0), math.nan, math.nan),
    ],
)
def test_gini_and_entropy_by_hand(pixels, sparseness, nats):
    assert float(gini(one_row(*pixels))) == pytest.approx(sparseness, abs=1e-15, nan_ok=True)
    assert float(entropy(one_row(*pixels))) == pytest.approx(nats, abs=1e-15, nan_ok=True)


def test_gini_is_half_the_relative_mean_difference():
    h = torch.rand(3, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for actual, pixels in zip(gini(Explanation(heatmap=h)).tolist(), h.flatten(1).tolist(), strict=True):
        pairs = sum(abs(a - b) for a in pixels for b in pixels)
        assert actual == pytest.approx(pairs / (2 * len(pixels) * sum(pixels)), abs=1e-14)


@given(st.integers(0, 2**16), st.floats(1e-3, 1))
def test_bounds_and_invariances(seed, factor):
    h = torch.rand(2, 6, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).relu()
    for metric, highest in ((gini, 1 - 1 / 30), (entropy, math.log(30))):
        actual = metric(Explanation(heatmap=h))
        assert ((actual >= 0) & (actual <= highest + 1e-12)).all()
        for same in (factor * h, h.flip(1), h.transpose(1, 2)):
            torch.testing.assert_close(metric(Explanation(heatmap=same)), actual, rtol=1e-10, atol=1e-12)


def linear_explanation(weights: Tensor, heatmap: Tensor) -> Explanation:
    """Of an image of ones and a model whose probability is the sigmoid of sum(weights x red): logits (that, 0)."""
    red = torch.ones(1, 1, *heatmap.shape[1:], dtype=torch.float64)
    return Explanation(trace=linear(red, weights), heatmap=heatmap, images=red)


def test_effective_complexity_by_hand():
    """Ten pixels in a row, of which the last three carry all of the score, 6 = 3 + 2 + 1."""
    weights, right = tensor(*[0.0] * 7, 3.0, 2.0, 1.0)[None], torch.arange(10.0, dtype=torch.float64)[None, None] / 9
    probability = {kept: 1 / (1 + math.exp(-score)) for kept, score in ((0, 0), (1, 1), (2, 3), (3, 6))}
    for tolerance in (0.04, 0.05, 0.27, 0.6):
        first = next(kept for kept in (1, 2, 3) if probability[3] - probability[kept] < tolerance)
        close(effective_complexity(linear_explanation(weights, right), tolerance, steps=10, fill="zero"), first / 10)
    wrong = effective_complexity(linear_explanation(weights, right.flip(2)), steps=10, fill="zero")
    close(wrong, 0.8)  # seven idle pixels, and the 3 is enough


def test_effective_complexity_is_the_first_step_that_is_enough(trace, explanation):
    """A loop over single images, pixels and steps."""
    steps, tolerance = 6, 0.02
    actual = effective_complexity(explanation, tolerance, steps)
    rounded = replace(explanation, raw_map=None, heatmap=explanation.heatmap)
    kept = brute_force(rounded, steps, "mean", "probability", "highest", inserts=True)
    for row, curve in enumerate(kept.tolist()):
        enough = [step / steps for step, probability in enumerate(curve) if abs(curve[-1] - probability) < tolerance]
        close(actual[row], next(share for share in enough if share > 0))


def test_more_tolerance_needs_no_more_pixels(explanation):
    actual = [effective_complexity(explanation, tolerance) for tolerance in (0.0, 0.01, 0.1, 0.5, 1.0)]
    assert (torch.stack(actual).diff(dim=0) <= 0).all()
    assert (actual[0] == 1).all()  # no loss is below zero: all pixels are needed
    assert (actual[-1] == 1 / 20).all()  # any loss but a whole probability


def test_effective_complexity_of_tied_pixels_and_wrong_steps(explanation):
    flat = replace(explanation, heatmap=torch.ones_like(explanation.heatmap))
    nearly = replace(flat, heatmap=flat.heatmap - 1e-8 * torch.rand(4, 12, 12, dtype=torch.float64))
    assert torch.equal(effective_complexity(flat), effective_complexity(nearly))
    assert (effective_complexity(explanation, steps=1) == 1).all()
    with pytest.raises(BenchError, match="at least one step"):
        effective_complexity(explanation, steps=0)
