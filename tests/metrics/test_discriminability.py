"""Energy in the regions of several classes and in a mosaic's cells: rectangles by hand, a planted
network, loops.
"""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.measurement import measure
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.class_discriminability import class_discriminability
from axiom_bench.metrics.shared.regions import union
from axiom_bench.metrics.shared.similarity import pearson
from tests.metrics.build import close, functions, picture, status, statuses


def annotation(
    *objects: tuple[int, float, float, float, float], mask: Tensor | None = None
) -> ab.Annotation:
    """Of (label, x0, y0, x1, y1)."""
    table = torch.tensor(objects).reshape(-1, 5)
    return ab.Annotation(table[:, 0].long(), table[:, 1:], mask)


def one_row(trace: ab.Trace, heatmap: Tensor, note: ab.Annotation) -> Explanation:
    """That explains class 0."""
    batch = ab.Batch(trace.images[:1], ("a",), trace.targets[:1], (note,))
    return replace(Explanation.of(trace[:1], trace[:1].gradients, batch), heatmap=heatmap[None])


def seen_in(explanation: Explanation, **params: str) -> tuple[float, float]:
    actual = class_discriminability(explanation, **params)
    return float(actual["class_discriminability"]), float(actual["class_seen"])


def drawn(*rectangles: tuple[float, ...]) -> Tensor:
    return picture(*rectangles, size=(12, 12))


TWO = annotation((0, 0, 0, 4, 4), (3, 6, 6, 12, 12))
THREE = annotation((0, 0, 0, 4, 4), (0, 2, 0, 6, 4), (3, 8, 8, 12, 12), (1, 0, 8, 4, 12))
SAME_PLACE = annotation((0, 0, 0, 4, 4), (3, 0, 0, 4, 4))
BOTH = ((0, 0, 4, 4, 0.25), (6, 6, 8, 8, 0.5))  # 4 against 2
EVERYWHERE = (0, 0, 12, 12, 1.0)


@pytest.mark.parametrize(
    ("note", "rectangles", "share", "seen"),
    [
        (TWO, [(0, 0, 4, 4, 1.0)], 1, 0),
        (TWO, [(6, 6, 8, 8, 1.0)], 0, 3),
        (TWO, BOTH, 2 / 3, 0),
        (TWO, [*BOTH, (4, 0, 12, 6, 1.0)], 2 / 3, 0),  # off the objects: not counted
        (
            TWO,
            [EVERYWHERE],
            16 / 52,
            3,
        ),  # a constant map has the class's share of the areas, and shows the largest
        (
            THREE,
            [EVERYWHERE],
            24 / 56,
            0,
        ),  # a class's boxes are one region: what they share counts once
        (THREE, [(0, 8, 4, 12, 1.0), (8, 8, 12, 12, 1.0)], 0, 1),  # of equals the lowest index
        (
            SAME_PLACE,
            [(1, 1, 3, 3, 1.0)],
            0.5,
            0,
        ),  # a pixel in two counts for both; a tie is the explained class's
    ],
)
def test_energy_in_the_explained_classs_region_against_the_other_classes(
    trace, note, rectangles, share, seen
):
    assert seen_in(one_row(trace, drawn(*rectangles), note)) == (
        pytest.approx(share, abs=1e-12),
        seen,
    )


def test_masks_where_they_are_asked_for(trace):
    mask = torch.full((12, 12), -1)
    mask[:2, :4], mask[2:4, :4] = 0, 3
    over = one_row(trace, drawn((0, 0, 4, 2, 1.0)), replace(SAME_PLACE, mask=mask))
    assert seen_in(over, region="masks") == (1, 0)
    assert seen_in(over) == (0.5, 0)


@pytest.mark.parametrize(
    ("rectangles", "note", "expected"),
    [
        ([(4, 0, 6, 6, 1.0)], TWO, "off_objects"),
        ([(0, 0, 4, 4, 1.0)], annotation((0, 0, 0, 4, 4)), "one_class"),
        ([(0, 0, 4, 4, 1.0)], annotation((3, 0, 0, 4, 4)), "wrong_class"),
        ([], TWO, "zero_map"),
    ],
)
def test_statuses_of_what_has_no_answer(trace, rectangles, note, expected):
    assert status("class_discriminability", one_row(trace, drawn(*rectangles), note)) == {expected}


def test_masks_need_masks_and_no_boxes(trace):
    """Images with masks and boxes, masks alone, boxes alone, a mask of the class, of another class,
    and nothing.
    """
    mask = torch.full((12, 12), -1)
    mask[:4, :4], mask[6:, 6:] = 0, 3
    notes = (
        replace(TWO, mask=mask), replace(annotation(), mask=mask), TWO,
        *(replace(TWO, mask=mask.masked_fill(mask == label, -1)) for label in (3, 0)), ab.Annotation.none(),
    )  # fmt: skip
    images, targets = trace.images[:1].expand(6, -1, -1, -1), torch.zeros(6, dtype=torch.long)
    repeated = trace.again(images=images, targets=targets)
    explanation = Explanation.of(
        repeated, repeated.gradients, ab.Batch(images, ("",) * 6, targets, notes)
    )
    explanation = replace(explanation, heatmap=drawn(*BOTH).expand(6, -1, -1))
    for region, expected in (
        ("masks", ("ok", "ok", "no_mask", "one_class", "no_mask", "no_mask")),
        ("boxes", ("ok", "no_annotation", "ok", "ok", "ok", "no_annotation")),
    ):
        assert set(statuses("class_discriminability", explanation, region=region).values()) == {
            expected
        }
    by_masks = class_discriminability(explanation, region="masks")
    close(by_masks["class_discriminability"][:2], 2 / 3)
    assert by_masks["class_seen"][:2].tolist() == [0, 0]
    alone = one_row(trace, drawn((0, 0, 4, 4, 1.0)), TWO)
    assert status("class_discriminability", alone, region="masks") == {"no_mask"}


def test_a_class_that_the_model_does_not_have_is_no_other_class(trace):
    mask = torch.full((12, 12), -1)
    mask[:4, :4], mask[6:, 6:], mask[0, 11] = 0, 99, 5  # of five classes
    only = annotation((0, 0, 0, 4, 4), (99, 6, 6, 12, 12), (5, 0, 11, 1, 12), mask=mask)
    alone, name = one_row(trace, drawn(EVERYWHERE), only), "class_discriminability"
    for actual in (
        status("class_correlation", alone),
        status(name, alone),
        status(name, alone, region="masks"),
    ):
        assert actual == {"one_class"}
    both = one_row(
        trace, drawn(EVERYWHERE), annotation((0, 0, 0, 4, 4), (99, 6, 6, 12, 12), (3, 0, 6, 3, 9))
    )
    assert seen_in(both) == (pytest.approx(16 / 25, abs=1e-12), 0)
    other = trace[:1].again(targets=torch.tensor([3]))
    expected = pearson(both.raw_map, (other.gradients * other.activations).sum(1))
    close(
        class_correlation(replace(both, method=lambda trace: trace.gradients)), expected, atol=1e-10
    )


edges = st.one_of(
    st.integers(-8, 18).map(lambda half: half / 2), st.floats(-20, 20), st.just(torch.inf)
)


@given(st.lists(st.tuples(edges, edges, edges, edges), max_size=3))
def test_a_box_holds_the_centres_from_its_first_edge_to_before_its_second(boxes):
    actual = union(torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4), (4, 6)).tolist()
    for y, x in itertools.product(range(4), range(6)):
        inside = any(x0 <= x + 0.5 < x1 and y0 <= y + 0.5 < y1 for x0, y0, x1, y1 in boxes)
        assert actual[y][x] == inside


def test_correlation_is_with_the_class_of_the_largest_other_object(trace):
    note = annotation((0, 0, 0, 12, 12), (3, 6, 6, 8, 8), (4, 0, 6, 6, 12), (2, 0, 0, 1, 1))
    batch = ab.Batch(trace.images, ("",) * 4, torch.zeros(4), (note,) * 4)
    of_class_0 = trace.again(targets=torch.zeros(4, dtype=torch.long))
    explanation = Explanation.of(
        of_class_0, of_class_0.gradients, batch, lambda trace: trace.gradients
    )
    other = trace.again(targets=torch.full((4,), 4))
    expected = pearson(explanation.raw_map, (other.gradients * other.activations).sum(1))
    close(class_correlation(explanation), expected, atol=1e-10)


(class_correlation,) = functions("class_correlation")
SIDE = 8  # of a cell


def colours(grid, classes):
    """(image (1, 3, H, W), annotation) of a mosaic of plain colours: class 0 is red, 1 green, 2
    blue, others black.
    """
    side = grid * SIDE
    image, mask, boxes = (
        torch.zeros(1, 3, side, side),
        torch.empty(side, side, dtype=torch.long),
        [],
    )
    for place, label in enumerate(classes):
        y, x = (SIDE * number for number in divmod(place, grid))
        mask[y : y + SIDE, x : x + SIDE] = label
        boxes.append([x, y, x + SIDE, y + SIDE])
        if label < 3:
            image[0, label, y : y + SIDE, x : x + SIDE] = 1
    return image, ab.Annotation(
        torch.tensor(classes), torch.tensor(boxes).float(), mask, cells=True
    )


def planted():
    """A network of nine classes whose logit c < 3 is the mean of colour c: a 1 x 1 convolution at
    full size, ReLU, global mean. The other classes' logits are 0.
    """
    net = nn.Sequential(
        nn.Conv2d(3, 9, 1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    nn.init.eye_(net[0].weight.data.view(9, 3))
    return net.eval()


def mosaic(grid, classes, target, method, cells=True):
    image, note = colours(grid, classes)
    trace = ab.trace(planted(), "1", image, torch.tensor([target]))
    batch = ab.Batch(image, ("mosaic",), torch.tensor([target]), (replace(note, cells=cells),))
    explain = plugins.load("method", method) if isinstance(method, str) else method
    return Explanation.of(trace, explain(trace), batch, explain)


def value(metric, of):
    ((values, statuses),) = measure(plugins.load("metric", metric), of, True).values()
    return float(values[0]), str(statuses[0])


GRIDS = [
    (2, [0, 1, 2, 3]),
    (2, [5, 0, 1, 2]),
    (3, [3, 4, 5, 6, 1, 7, 2, 8, 0]),
    (2, [0, 3, 1, 0]),
    (2, [1, 2, 0, 0]),
]


@pytest.mark.parametrize(("grid", "classes"), GRIDS)
def test_equals_brute_force_and_the_other_shares_of_energy(grid, classes):
    for target in {0, 1, 2} & set(classes):
        of = mosaic(grid, classes, target, "random")
        heat = of.heatmap[0].double().numpy()
        inside = total = 0.0
        for (y, x), number in np.ndenumerate(heat):
            total += number
            inside += number * (classes[grid * (y // SIDE) + x // SIDE] == target)
        answer, _ = value("grid_pointing_game", of)
        # float64 sums of some hundred terms
        assert answer == pytest.approx(inside / total, rel=1e-12)
        assert answer == value("focus", of)[0] == value("energy_pointing_game", of)[0]
        mass = measure(plugins.load("metric", "mass_accuracy"), of, True)["mass_accuracy"][0]
        assert float(mass[0]) == pytest.approx(answer, rel=1e-12)


@pytest.mark.parametrize("metric", ["grid_pointing_game", "focus"])
def test_statuses_of_mosaics(metric):
    of = mosaic(2, [0, 1, 2, 3], 0, "grad_cam")
    for explanation, expected in (
        (mosaic(2, [0, 1, 2, 3], 0, "grad_cam", cells=False), "no_cells"),
        (replace(of, cells=None), "no_cells"),
        (replace(of, wrong_class=torch.tensor([True])), "wrong_class"),
        (replace(of, heatmap=torch.zeros_like(of.heatmap)), "zero_map"),
        (
            mosaic(2, [0, 1, 3, 4], 2, "uniform"),
            "wrong_class",
        ),  # a class that the mosaic doesn't show
    ):
        assert status(metric, explanation) == {expected}
