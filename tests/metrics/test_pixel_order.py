"""The order of a map's pixels against a sort of Python tuples, and metrics that follow it where a heatmap is 0."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from axiom_bench import metrics
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Explanation, heatmap
from axiom_bench.metrics.shared.perturbation import highlighted
from axiom_bench.metrics.shared.pixel_order import pixel_ranks
from axiom_bench.metrics.shared.threshold_sweep import highest_in_mask
from axiom_bench.testing import answered


def resized(raw_map: list[list[float]], size: tuple[int, int]) -> list[float]:
    """A bilinear resize with align_corners=False, a pixel at a time."""
    pixels = []
    for row in range(size[0]):
        for column in range(size[1]):
            y, x = (
                min(max((place + 0.5) * length / side - 0.5, 0), length - 1)
                for place, length, side in ((row, len(raw_map), size[0]), (column, len(raw_map[0]), size[1]))
            )
            top, left = int(y), int(x)
            bottom, right = min(top + 1, len(raw_map) - 1), min(left + 1, len(raw_map[0]) - 1)
            above = raw_map[top][left] * (1 - x + left) + raw_map[top][right] * (x - left)
            below = raw_map[bottom][left] * (1 - x + left) + raw_map[bottom][right] * (x - left)
            pixels.append(above * (1 - y + top) + below * (y - top))
    return pixels


def brute_force_ranks(raw_map: list[list[float]], size: tuple[int, int], first: str) -> list[int]:
    """The ranks in reading order, from tuples (heatmap, resized raw map, position), each map rounded to 1e-6."""
    maps = resized([[max(value, 0) for value in row] for row in raw_map], size), resized(raw_map, size)
    largest = [max(map(abs, pixels)) or 1 for pixels in maps]
    levels = [[round(value / top, 6) for value in pixels] for pixels, top in zip(maps, largest, strict=True)]
    sign = -1 if first == "highest" else 1
    order = sorted(range(len(levels[0])), key=lambda i: (sign * levels[0][i], sign * levels[1][i], i))
    return [order.index(pixel) for pixel in range(len(order))]


level = st.sampled_from([-3.0, -1.25, -0.5, 0.0, 0.0, 0.75, 2.0])


@given(
    st.lists(st.lists(level, min_size=3, max_size=3), min_size=2, max_size=2), st.sampled_from(["highest", "lowest"])
)
def test_ranks_equal_a_sort_of_tuples(raw_map, first):
    raw = torch.tensor([raw_map], dtype=torch.float64)
    explanation = Explanation(raw_map=raw, heatmap=heatmap(raw, (5, 7)))
    assert pixel_ranks(explanation, first).flatten().tolist() == brute_force_ranks(raw_map, (5, 7), first)


def test_zeros_of_the_heatmap_are_ordered_by_the_raw_map_and_then_by_position():
    """Raw 1, -2, 0, -1, -2, 0: the heatmap is 1, 0, 0, 0, 0, 0."""
    raw = torch.tensor([[[1.0, -2.0, 0.0, -1.0, -2.0, 0.0]]]).double()
    explanation = Explanation(raw_map=raw, heatmap=raw.clamp(min=0))
    assert pixel_ranks(explanation).tolist() == [[[0, 4, 1, 3, 5, 2]]]
    assert pixel_ranks(explanation, "lowest").tolist() == [[[5, 0, 3, 2, 1, 4]]]


def test_the_heatmap_decides_before_the_raw_map():
    """After ReLU and resize a pixel may be positive where the resized raw map is lower than at another one."""
    raw = torch.tensor([[[3.0, -9.0, 0.0, 0.0]]]).double()
    explanation = Explanation(raw_map=raw, heatmap=heatmap(raw, (1, 8)))
    shown = explanation.heatmap[0, 0]
    in_order = shown[pixel_ranks(explanation)[0, 0].argsort()]
    assert (in_order.diff() <= 0).all()
    signed = torch.nn.functional.interpolate(raw[None], (1, 8), mode="bilinear")[0, 0, 0]
    assert not torch.equal(pixel_ranks(explanation)[0, 0].argsort(), signed.argsort(descending=True, stable=True))


def test_without_a_raw_map_ties_go_to_the_first_pixel_after_rounding():
    explanation = Explanation(heatmap=torch.tensor([[[0.5, 1.0], [1.0 - 1e-8, 0.5]]]).double())
    assert pixel_ranks(explanation).tolist() == [[[2, 0], [1, 3]]]
    assert pixel_ranks(explanation, "lowest").tolist() == [[[0, 2], [3, 1]]]


@given(st.sampled_from([2.0**-20, 3.0, 1e6]))
def test_a_positive_factor_changes_no_rank(factor):
    raw = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    one, other = (Explanation(raw_map=maps, heatmap=heatmap(maps, (6, 6))) for maps in (raw, factor * raw))
    assert torch.equal(pixel_ranks(one), pixel_ranks(other))


def test_an_unknown_order_is_named():
    with pytest.raises(BenchError, match="highest, lowest"):
        pixel_ranks(Explanation(heatmap=torch.ones(1, 2, 2)), "middle")


def signed(explanation: Explanation, raw_map: Tensor) -> Explanation:
    return replace(explanation, raw_map=raw_map, heatmap=heatmap(raw_map, (12, 12)))


@pytest.mark.parametrize("name", ["deletion_auc", "insertion_auc", "road_lerf", "road_morf", "effective_complexity"])
def test_metrics_tell_maps_apart_that_differ_below_zero_alone(explanation, name):
    """Both maps have the same heatmap, of one positive pixel; below zero one is the other upside down."""
    ramp = -torch.arange(1.0, 145.0, dtype=torch.float64).view(1, 12, 12).expand(4, -1, -1)
    maps = [ramp.clone(), ramp.flip(1, 2).clone()]
    for raw_map in maps:
        raw_map[:, 6, 6] = 1
    first, second = (signed(explanation, raw_map) for raw_map in maps)
    assert torch.equal(first.heatmap, second.heatmap)
    params = {"output": "logit"} if "output" in metrics.get(name).params else {"tolerance": 0.01}
    metric = metrics.get(name).call
    values = [answered(metric)(each, **params) for each in (first, second)]
    values = [next(iter(value.values())) if isinstance(value, dict) else value for value in values]
    assert not torch.equal(*values)


def test_hard_perturbation_and_counts_in_a_mask_follow_the_same_order():
    raw = torch.tensor([[[1.0, -2.0, 0.0, -1.0]]]).double()
    mask = torch.tensor([[[False, True, False, True]]])
    explanation = Explanation(raw_map=raw, heatmap=raw.clamp(min=0), masks=mask)
    assert highlighted(explanation, "hard", 0.5).tolist() == [[[1, 0, 1, 0]]]
    assert highest_in_mask(explanation, torch.tensor([3]).numpy()).tolist() == [1]
    assert highest_in_mask(explanation, torch.tensor([0]).numpy()).tolist() == [0]


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
