"""Energy in the regions of several classes and in a mosaic's cells.

The metrics are checked on rectangles by hand, on a planted network, and against loops.
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
    """Annotate objects, (label, x0, y0, x1, y1)."""
    table = torch.tensor(objects).reshape(-1, 5)
    return ab.Annotation(table[:, 0].long(), table[:, 1:], mask)


def one_row(trace: ab.Trace, heatmap: Tensor, note: ab.Annotation) -> Explanation:
    """Explain class 0 in the first image by a heatmap."""
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
BOTH = ((0, 0, 4, 4, 0.25), (6, 6, 8, 8, 0.5))  # an energy of 4 against 2
EVERYWHERE = (0, 0, 12, 12, 1.0)


@pytest.mark.parametrize(
    ("note", "rectangles", "share", "seen"),
    [
        (TWO, [(0, 0, 4, 4, 1.0)], 1, 0),
        (TWO, [(6, 6, 8, 8, 1.0)], 0, 3),
        (TWO, BOTH, 2 / 3, 0),
        # Pixels off the objects don't count.
        (TWO, [*BOTH, (4, 0, 12, 6, 1.0)], 2 / 3, 0),
        # A constant map has the class's share of the areas, and shows the largest class.
        (TWO, [EVERYWHERE], 16 / 52, 3),
        # A class's boxes are one region: a pixel in two of them counts once.
        (THREE, [EVERYWHERE], 24 / 56, 0),
        # Of equal classes, the one of the lowest index is seen.
        (THREE, [(0, 8, 4, 12, 1.0), (8, 8, 12, 12, 1.0)], 0, 1),
        # A pixel in the boxes of two classes counts for both. The explained class wins a tie.
        (SAME_PLACE, [(1, 1, 3, 3, 1.0)], 0.5, 0),
    ],
)
def test_energy_in_the_explained_classs_region_against_the_other_classes(
    trace, note, rectangles, share, seen
):
    actual_share, actual_seen = seen_in(one_row(trace, drawn(*rectangles), note))
    assert actual_share == pytest.approx(share, abs=1e-12)
    assert actual_seen == seen


def test_masks_where_they_are_asked_for(trace):
    mask = torch.full((12, 12), -1)
    mask[:2, :4] = 0
    mask[2:4, :4] = 3
    explanation = one_row(trace, drawn((0, 0, 4, 2, 1.0)), replace(SAME_PLACE, mask=mask))
    assert seen_in(explanation, region="masks") == (1, 0)
    assert seen_in(explanation) == (0.5, 0)


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
    """Check six images with different annotations.

    They have masks and boxes, only masks, only boxes, a mask of the class, a mask of another class,
    and nothing.
    """
    mask = torch.full((12, 12), -1)
    mask[:4, :4] = 0
    mask[6:, 6:] = 3
    masks_and_boxes = replace(TWO, mask=mask)
    only_masks = replace(annotation(), mask=mask)
    mask_of_the_class = replace(TWO, mask=mask.masked_fill(mask == 3, -1))
    mask_of_another_class = replace(TWO, mask=mask.masked_fill(mask == 0, -1))
    notes = (
        masks_and_boxes,
        only_masks,
        TWO,
        mask_of_the_class,
        mask_of_another_class,
        ab.Annotation.none(),
    )
    images = trace.images[:1].expand(6, -1, -1, -1)
    targets = torch.zeros(6, dtype=torch.long)
    batch = ab.Batch(images, ("",) * 6, targets, notes)
    repeated = trace.again(images=images, targets=targets)
    explanation = Explanation.of(repeated, repeated.gradients, batch)
    explanation = replace(explanation, heatmap=drawn(*BOTH).expand(6, -1, -1))

    by_masks = class_discriminability(explanation, region="masks")
    mask_statuses = statuses("class_discriminability", explanation, region="masks")
    box_statuses = statuses("class_discriminability", explanation, region="boxes")

    with_masks = ("ok", "ok", "no_mask", "one_class", "no_mask", "no_mask")
    with_boxes = ("ok", "no_annotation", "ok", "ok", "ok", "no_annotation")
    assert set(mask_statuses.values()) == {with_masks}
    assert set(box_statuses.values()) == {with_boxes}
    close(by_masks["class_discriminability"][:2], 2 / 3)
    assert by_masks["class_seen"][:2].tolist() == [0, 0]
    without_masks = one_row(trace, drawn((0, 0, 4, 4, 1.0)), TWO)
    assert status("class_discriminability", without_masks, region="masks") == {"no_mask"}


def test_a_class_that_the_model_does_not_have_is_no_other_class(trace):
    """Check classes 99 and 5 of a model of five classes."""
    mask = torch.full((12, 12), -1)
    mask[:4, :4] = 0
    mask[6:, 6:] = 99
    mask[0, 11] = 5
    known_object = (0, 0, 0, 4, 4)
    unknown_object = (99, 6, 6, 12, 12)
    unknown = annotation(known_object, unknown_object, (5, 0, 11, 1, 12), mask=mask)
    one_class = one_row(trace, drawn(EVERYWHERE), unknown)
    assert status("class_correlation", one_class) == {"one_class"}
    assert status("class_discriminability", one_class) == {"one_class"}
    assert status("class_discriminability", one_class, region="masks") == {"one_class"}

    mixed = annotation(known_object, unknown_object, (3, 0, 6, 3, 9))
    two_classes = one_row(trace, drawn(EVERYWHERE), mixed)
    two_classes = replace(two_classes, method=lambda trace: trace.gradients)
    other = trace[:1].again(targets=torch.tensor([3]))
    expected = pearson(two_classes.raw_map, (other.gradients * other.activations).sum(1))
    assert seen_in(two_classes) == (pytest.approx(16 / 25, abs=1e-12), 0)
    close(class_correlation(two_classes), expected, atol=1e-10)


half_pixels = st.integers(-8, 18).map(lambda half: half / 2)
edges = st.one_of(half_pixels, st.floats(-20, 20), st.just(torch.inf))


@given(st.lists(st.tuples(edges, edges, edges, edges), max_size=3))
def test_a_box_holds_the_centres_from_its_first_edge_to_before_its_second(boxes):
    actual = union(torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4), (4, 6)).tolist()
    for y, x in itertools.product(range(4), range(6)):
        inside = any(x0 <= x + 0.5 < x1 and y0 <= y + 0.5 < y1 for x0, y0, x1, y1 in boxes)
        assert actual[y][x] == inside


def test_correlation_is_with_the_class_of_the_largest_other_object(trace):
    explained_object = (0, 0, 0, 12, 12)
    largest_other = (4, 0, 6, 6, 12)
    note = annotation(explained_object, (3, 6, 6, 8, 8), largest_other, (2, 0, 0, 1, 1))
    batch = ab.Batch(trace.images, ("",) * 4, torch.zeros(4), (note,) * 4)
    trace_0 = trace.again(targets=torch.zeros(4, dtype=torch.long))
    explanation = Explanation.of(trace_0, trace_0.gradients, batch, lambda trace: trace.gradients)
    other = trace.again(targets=torch.full((4,), 4))
    expected = pearson(explanation.raw_map, (other.gradients * other.activations).sum(1))
    close(class_correlation(explanation), expected, atol=1e-10)


(class_correlation,) = functions("class_correlation")
SIDE = 8  # pixels of a cell


def colours(grid, classes):
    """Return the image (1, 3, H, W) and the annotation of a mosaic of plain colours.

    Class 0 is red, 1 is green, 2 is blue, and others are black.
    """
    side = grid * SIDE
    image = torch.zeros(1, 3, side, side)
    mask = torch.empty(side, side, dtype=torch.long)
    boxes = []
    for place, label in enumerate(classes):
        row, column = divmod(place, grid)
        x = column * SIDE
        y = row * SIDE
        mask[y : y + SIDE, x : x + SIDE] = label
        boxes.append([x, y, x + SIDE, y + SIDE])
        if label < 3:
            image[0, label, y : y + SIDE, x : x + SIDE] = 1
    labels = torch.tensor(classes)
    return image, ab.Annotation(labels, torch.tensor(boxes).float(), mask, cells=True)


def planted():
    """Build a network of nine classes whose logit c < 3 is the mean of colour c.

    It has a 1 x 1 convolution at full size, a ReLU and a global mean. The other classes' logits
    are 0.
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


def value(metric, explanation):
    ((values, statuses),) = measure(plugins.load("metric", metric), explanation, True).values()
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
        explanation = mosaic(grid, classes, target, "random")
        inside = total = 0.0
        for (y, x), number in np.ndenumerate(explanation.heatmap[0].double().numpy()):
            total += number
            cell = grid * (y // SIDE) + x // SIDE
            if classes[cell] == target:
                inside += number

        answer, _ = value("grid_pointing_game", explanation)
        focus, _ = value("focus", explanation)
        energy, _ = value("energy_pointing_game", explanation)
        mass_accuracy = plugins.load("metric", "mass_accuracy")
        masses, _ = measure(mass_accuracy, explanation, True)["mass_accuracy"]

        # float64 sums of some hundred terms
        assert answer == pytest.approx(inside / total, rel=1e-12)
        assert answer == focus == energy
        assert float(masses[0]) == pytest.approx(answer, rel=1e-12)


@pytest.mark.parametrize("metric", ["grid_pointing_game", "focus"])
def test_statuses_of_mosaics(metric):
    explanation = mosaic(2, [0, 1, 2, 3], 0, "grad_cam")
    photograph = mosaic(2, [0, 1, 2, 3], 0, "grad_cam", cells=False)
    without_annotation = replace(explanation, cells=None)
    wrong_class = replace(explanation, wrong_class=torch.tensor([True]))
    zero_map = replace(explanation, heatmap=torch.zeros_like(explanation.heatmap))
    absent_class = mosaic(2, [0, 1, 3, 4], 2, "uniform")  # the mosaic doesn't show class 2

    assert status(metric, photograph) == {"no_cells"}
    assert status(metric, without_annotation) == {"no_cells"}
    assert status(metric, wrong_class) == {"wrong_class"}
    assert status(metric, zero_map) == {"zero_map"}
    assert status(metric, absent_class) == {"wrong_class"}
