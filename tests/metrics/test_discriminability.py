"""Energy in the regions of several classes, on hand-made rectangles, and maps of two classes of an image."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.measurement import measure
from axiom_bench.evaluation.plugins import Plugin, with_params
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics import get
from axiom_bench.metrics.class_correlation import class_correlation
from axiom_bench.metrics.class_discriminability import class_discriminability
from axiom_bench.metrics.shared.regions import union
from axiom_bench.metrics.shared.similarity import pearson
from axiom_bench.testing import answered

class_correlation = answered(class_correlation)


def annotation(*objects: tuple[int, float, float, float, float], mask: Tensor | None = None) -> ab.Annotation:
    """Of (label, x0, y0, x1, y1)."""
    table = torch.tensor(objects).reshape(-1, 5)
    return ab.Annotation(table[:, 0].long(), table[:, 1:], mask)


def explained(trace: ab.Trace, heatmap: Tensor, note: ab.Annotation) -> Explanation:
    """One row that explains class 0."""
    batch = ab.Batch(trace.images[:1], ("a",), trace.targets[:1], (note,))
    return replace(Explanation.of(trace[:1], trace[:1].gradients, batch), heatmap=heatmap.double())


def value(explanation: Explanation, **params: str) -> tuple[float, float]:
    actual = class_discriminability(explanation, **params)
    return float(actual["class_discriminability"]), float(actual["class_seen"])


def picture(*rectangles: tuple[int, int, int, int, float]) -> Tensor:
    canvas = torch.zeros(12, 12)
    for x0, y0, x1, y1, level in rectangles:
        canvas[y0:y1, x0:x1] = level
    return canvas[None]


TWO = annotation((0, 0, 0, 4, 4), (3, 6, 6, 12, 12))


def test_energy_in_the_explained_classs_region_against_the_other_classes(trace):
    assert value(explained(trace, picture((0, 0, 4, 4, 1.0)), TWO)) == (1, 0)
    assert value(explained(trace, picture((6, 6, 8, 8, 1.0)), TWO)) == (0, 3)
    both = picture((0, 0, 4, 4, 0.25), (6, 6, 8, 8, 0.5))  # 4 against 2
    assert value(explained(trace, both, TWO)) == (pytest.approx(2 / 3, abs=1e-12), 0)
    outside = picture((0, 0, 4, 4, 0.25), (6, 6, 8, 8, 0.5), (4, 0, 12, 6, 1.0))
    assert value(explained(trace, outside, TWO)) == value(explained(trace, both, TWO))  # off the objects: not counted


def test_a_constant_map_has_the_classs_share_of_the_areas_and_shows_the_largest(trace):
    assert value(explained(trace, torch.ones(1, 12, 12), TWO)) == (pytest.approx(16 / 52, abs=1e-12), 3)


def test_three_classes_and_several_boxes_of_one(trace):
    """A class's boxes are one region: what they share counts once."""
    note = annotation((0, 0, 0, 4, 4), (0, 2, 0, 6, 4), (3, 8, 8, 12, 12), (1, 0, 8, 4, 12))
    assert value(explained(trace, torch.ones(1, 12, 12), note)) == (pytest.approx(24 / 56, abs=1e-12), 0)
    equal = picture((0, 8, 4, 12, 1.0), (8, 8, 12, 12, 1.0))
    assert value(explained(trace, equal, note)) == (0, 1)  # of equals the lowest index


def test_a_pixel_in_two_regions_counts_for_both_and_a_tie_is_the_explained_classs(trace):
    note = annotation((0, 0, 0, 4, 4), (3, 0, 0, 4, 4))
    assert value(explained(trace, picture((1, 1, 3, 3, 1.0)), note)) == (0.5, 0)


def test_masks_where_they_are_asked_for(trace):
    mask = torch.full((12, 12), -1)
    mask[:2, :4], mask[2:4, :4] = 0, 3
    note = annotation((0, 0, 0, 4, 4), (3, 0, 0, 4, 4), mask=mask)
    over = explained(trace, picture((0, 0, 4, 2, 1.0)), note)
    assert value(over, region="masks") == (1, 0)
    assert value(over) == (0.5, 0)
    with pytest.raises(BenchError, match="'boxes', 'cells' or 'masks'"):
        value(over, region="pixels")


def test_statuses_of_what_has_no_answer(trace):
    metric = get("class_discriminability")
    for heatmap, note, status in (
        (picture((4, 0, 6, 6, 1.0)), TWO, "off_objects"),
        (picture((0, 0, 4, 4, 1.0)), annotation((0, 0, 0, 4, 4)), "one_class"),
        (picture((0, 0, 4, 4, 1.0)), annotation((3, 0, 0, 4, 4)), "wrong_class"),
        (picture(), TWO, "zero_map"),
    ):
        for actual, statuses in measure(metric, explained(trace, heatmap, note), True).values():
            assert statuses == (status,)
            assert actual.isnan().all()


def with_region(region: str) -> Plugin:
    return with_params("metric", "class_discriminability", {"region": region})


def test_masks_need_masks_and_no_boxes(trace):
    """Images with masks and boxes, masks alone, boxes alone, a mask of the class, of another class, and nothing."""
    mask = torch.full((12, 12), -1)
    mask[:4, :4], mask[6:, 6:] = 0, 3
    no_box = torch.zeros(0, 4)
    notes = (
        replace(TWO, mask=mask),
        ab.Annotation(torch.zeros(0).long(), no_box, mask),
        TWO,
        replace(TWO, mask=mask.masked_fill(mask == 3, -1)),
        replace(TWO, mask=mask.masked_fill(mask == 0, -1)),
        ab.Annotation.none(),
    )
    images, targets = trace.images[:1].expand(6, -1, -1, -1), torch.zeros(6, dtype=torch.long)
    repeated = trace.again(images=images, targets=targets)
    explanation = Explanation.of(repeated, repeated.gradients, ab.Batch(images, ("",) * 6, targets, notes))
    explanation = replace(
        explanation, heatmap=picture((0, 0, 4, 4, 0.25), (6, 6, 8, 8, 0.5)).double().expand(6, -1, -1)
    )

    def statuses(region: str, rows: Explanation) -> tuple[str, ...]:
        return measure(with_region(region), rows, True)["class_discriminability"][1]

    by_masks = measure(with_region("masks"), explanation, True)
    assert statuses("masks", explanation) == ("ok", "ok", "no_mask", "one_class", "no_mask", "no_mask")
    assert statuses("boxes", explanation) == ("ok", "no_annotation", "ok", "ok", "ok", "no_annotation")
    assert by_masks["class_discriminability"][0][:2].tolist() == pytest.approx([2 / 3] * 2, abs=1e-12)
    assert by_masks["class_seen"][0][:2].tolist() == [0, 0]
    alone = explained(trace, picture((0, 0, 4, 4, 1.0)), TWO)
    assert statuses("masks", alone) == ("no_mask",)


def test_a_class_that_the_model_does_not_have_is_no_other_class(trace):
    mask = torch.full((12, 12), -1)
    mask[:4, :4], mask[6:, 6:], mask[0, 11] = 0, 99, 5  # of five classes
    only = annotation((0, 0, 0, 4, 4), (99, 6, 6, 12, 12), (5, 0, 11, 1, 12), mask=mask)
    both = annotation((0, 0, 0, 4, 4), (99, 6, 6, 12, 12), (3, 0, 6, 3, 9))
    over = picture((0, 0, 12, 12, 1.0))
    for metric in (get("class_correlation"), get("class_discriminability"), with_region("masks")):
        for _, statuses in measure(metric, explained(trace, over, only), True).values():
            assert statuses == ("one_class",)
    assert value(explained(trace, over, both)) == (pytest.approx(16 / 25, abs=1e-12), 0)
    other = trace[:1].again(targets=torch.tensor([3]))
    explanation = replace(explained(trace, over, both), method=lambda trace: trace.gradients)
    expected = pearson(explanation.raw_map, (other.gradients * other.activations).sum(1))
    torch.testing.assert_close(class_correlation(explanation), expected, rtol=0, atol=1e-10)


def test_a_pixel_belongs_to_a_box_by_its_centre():
    boxes = torch.tensor([[1.4, 0.0, 3.5, 2.0], [1.6, 3.0, 9.0, 4.0]])
    actual = union(boxes, (4, 5))
    assert actual.int().tolist() == [[0, 1, 1, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0], [0, 0, 1, 1, 1]]
    assert not union(torch.zeros(0, 4), (4, 5)).any()


edges = st.one_of(st.integers(-8, 18).map(lambda half: half / 2), st.floats(-20, 20), st.just(torch.inf))


@given(st.lists(st.tuples(edges, edges, edges, edges), max_size=3))
def test_a_box_holds_the_centres_from_its_first_edge_to_before_its_second(boxes):
    actual = union(torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4), (4, 6)).tolist()
    for y, x in itertools.product(range(4), range(6)):
        inside = any(x0 <= x + 0.5 < x1 and y0 <= y + 0.5 < y1 for x0, y0, x1, y1 in boxes)
        assert actual[y][x] == inside


@given(st.integers(0, 2**16), st.floats(1e-3, 1))
def test_bounds_and_invariance_to_a_factor(seed, factor):
    generator = torch.Generator().manual_seed(seed)
    heatmap = torch.rand(1, 12, 12, generator=generator, dtype=torch.float64)
    trace = _TRACE
    share, seen = value(explained(trace, heatmap, TWO))
    assert 0 <= share <= 1
    assert seen == (0 if share >= 0.5 else 3)  # two classes: the one with more than half
    assert value(explained(trace, factor * heatmap, TWO)) == (pytest.approx(share, rel=1e-12), seen)


_TRACE = ab.trace(
    nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(200, 5)).double(),
    "1", torch.zeros(1, 3, 12, 12, dtype=torch.float64), torch.tensor([0]),
)  # fmt: skip


def test_correlation_is_with_the_class_of_the_largest_other_object(trace):
    note = annotation((0, 0, 0, 12, 12), (3, 6, 6, 8, 8), (4, 0, 6, 6, 12), (2, 0, 0, 1, 1))
    batch = ab.Batch(trace.images, ("",) * 4, torch.zeros(4), (note,) * 4)
    of_class_0 = trace.again(targets=torch.zeros(4, dtype=torch.long))
    explanation = Explanation.of(of_class_0, of_class_0.gradients, batch, lambda trace: trace.gradients)
    other = trace.again(targets=torch.full((4,), 4))
    expected = pearson(explanation.raw_map, (other.gradients * other.activations).sum(1))
    torch.testing.assert_close(class_correlation(explanation), expected, rtol=0, atol=1e-10)


def test_a_map_that_ignores_the_class_correlates_fully(trace, explain):
    def activity(trace: ab.Trace) -> ab.Map:
        return ab.Map(trace.activations.sum(1))

    blind = replace(explain(trace), raw_map=trace.activations.sum(1), method=activity)
    torch.testing.assert_close(class_correlation(blind), torch.ones(4, dtype=torch.float64), rtol=0, atol=1e-12)
