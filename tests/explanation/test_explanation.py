"""The explanation that a metric sees, and heatmaps from signed maps.

An explanation has contributions, maps, and boxes and masks of the explained class.
"""

import copy
import warnings
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

import axiom_bench as ab
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import NORMALISATIONS


@pytest.fixture
def trace() -> ab.Trace:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * 16, 5),
    ).double()
    images = torch.randn(3, 3, 6, 6, dtype=torch.float64)
    return ab.trace(model, "1", images, torch.tensor([0, 2, 4]))


def gradient_cam(trace: ab.Trace) -> torch.Tensor:
    return trace.gradients.mean((2, 3), keepdim=True)


def test_contributions_are_weights_times_activations_and_a_map_has_none(trace):
    for weights in (gradient_cam(trace), trace.gradients):
        explanation = ab.Explanation.of(trace, weights)
        assert torch.equal(explanation.contributions, weights * trace.activations)
        assert torch.equal(explanation.raw_map, (weights * trace.activations).sum(1))
        assert torch.equal(explanation.channel_totals, explanation.contributions.sum((2, 3)))
        assert torch.equal(explanation.heatmap, ab.heatmap(explanation.raw_map, (6, 6)))
        assert len(explanation) == 3
    explanation = ab.Explanation.of(trace, ab.Map(torch.ones(3, 2, 2)))

    assert explanation.contributions is None
    assert explanation.heatmap.shape == (3, 6, 6)
    with pytest.raises(ab.BenchError, match="no contributions"):
        _ = explanation.channel_totals


def test_boxes_and_masks_are_of_the_explained_class_and_others_of_the_other_classes(trace):
    mask = torch.full((6, 6), -1)
    mask[:2] = 0
    mask[2:4] = 2
    boxes = torch.tensor([[0, 0, 6, 2], [0, 2, 6, 4], [1, 2, 3, 4.0]])
    annotation = ab.Annotation(torch.tensor([0, 2, 2]), boxes, mask)
    annotations = (annotation, annotation, ab.Annotation.none())
    batch = ab.Batch(trace.images, ("a", "b", "c"), trace.targets, annotations)

    explanation = ab.Explanation.of(trace, gradient_cam(trace), batch, gradient_cam)

    assert [len(boxes) for boxes in explanation.boxes] == [1, 2, 0]
    assert explanation.boxes[1].tolist() == [[0, 2, 6, 4], [1, 2, 3, 4]]
    assert explanation.masks.sum((1, 2)).tolist() == [12, 12, 0]
    assert explanation.masks[1, 2:4].all()
    first, second, none = explanation.again().others
    assert first.labels.tolist() == [2, 2]
    assert second.labels.tolist() == [0]
    assert none.labels.tolist() == []
    assert second.boxes.tolist() == [[0, 0, 6, 2]]
    assert first.mask.unique().tolist() == [-1, 2]
    assert second.mask.unique().tolist() == [-1, 0]
    assert none.mask is None
    assert mask.unique().tolist() == [-1, 0, 2]  # the data set's mask isn't changed

    unannotated = ab.Batch(trace.images, ("a", "b", "c"), trace.targets)
    assert unannotated.others(trace.targets, 5) is None
    assert unannotated.boxes(trace.targets) is None
    assert unannotated.masks(trace.targets) is None


def test_again_explains_with_the_same_method(trace):
    boxes = (torch.zeros(0, 4),) * 3
    explanation = ab.Explanation.of(trace, gradient_cam(trace), method=gradient_cam)

    noisy = explanation.again(images=trace.images + 1)
    expected = ab.Explanation.of(noisy.trace, gradient_cam(noisy.trace))
    assert torch.equal(noisy.raw_map, expected.raw_map)
    assert not torch.equal(noisy.raw_map, explanation.raw_map)
    assert torch.equal(noisy.trace.targets, trace.targets)

    other = explanation.again(targets=torch.tensor([1, 1, 1]))
    assert other.trace.targets.tolist() == [1, 1, 1]

    model = copy.deepcopy(trace.cut_model.model)
    with torch.no_grad():
        model[3].weight.mul_(2)
    torch.testing.assert_close(explanation.again(model=model).raw_map, 2 * explanation.raw_map)

    boxes = (torch.zeros(0, 4),) * 3
    assert replace(explanation, boxes=boxes).again().boxes is boxes
    with pytest.raises(ab.BenchError, match="no trace or no method"):
        ab.Explanation(heatmap=torch.ones(1, 2, 2)).again()


@pytest.mark.parametrize(
    "heatmap",
    [
        torch.full((1, 2, 2), 1.0001),  # above 1
        torch.tensor([[[-1e-6, 1.0]]]),  # below 0
        torch.tensor([[[torch.nan, 1.0]]]),
        torch.tensor([[[torch.inf, 1.0]]]),
        torch.ones(2, 2),  # without a batch
        torch.ones(1, 1, 2, 2),  # with channels
        torch.ones(1, 2, 2, dtype=torch.uint8),
        torch.ones(1, 2, 2).numpy(),
    ],
)
def test_a_heatmap_that_is_none_is_refused_with_the_function_that_makes_one(heatmap):
    with pytest.raises(ab.BenchError, match=r"values in \[0, 1\]; pass ab\.heatmap"):
        ab.Explanation(heatmap=heatmap)


def test_heatmap_by_hand():
    """Resize 2 x 2 to 4 x 4 with align_corners=False.

    The weights between pixel centres are 3/4 and 1/4, and edges are repeated.
    """
    ramp = torch.tensor([1.0, 0.75, 0.25, 0.0])
    corner = torch.tensor([[[4.0, -8.0], [0.0, 0.0]]])
    assert torch.equal(ab.heatmap(corner, (4, 4))[0], ramp[:, None] * ramp)
    # ReLU comes before the resize. Otherwise the negative pixel would lower its neighbours.
    row = torch.tensor([[[1.0, -100.0]]])
    assert torch.equal(ab.heatmap(row, (1, 4))[0, 0], ramp)
    assert ab.heatmap(torch.rand(2, 3, 5), (6, 20)).shape == (2, 6, 20)  # height, then width


BOX = torch.tensor([[1, 2, 3, 4]])
ONES = torch.ones(2, 16, 16)
NO_MAPS = [torch.ones(2, 0, 0), ONES[0], ONES + 1j, ONES > 0, ONES.numpy(), None]
NO_SIZES = [(4,), (0, 4), (4.0, 4.0), "44", 0]
NO_OBJECTS = [
    {"boxes": (BOX, BOX[0])},
    {"boxes": (BOX, BOX.numpy())},
    {"boxes": (BOX, BOX.flip(1))},
    {"boxes": (BOX, BOX / 4)},
    {"boxes": [BOX]},
    {"masks": ONES},
    {"masks": ONES[:, :2] > 0},
]


def refused_calls():
    """Return pairs of a call and the sentence of its error."""
    calls = []
    for no_map in NO_MAPS:
        sentence = r"A map is a floating-point tensor \(B, h, w\) .*, not"
        calls.append((partial(ab.heatmap, no_map, (4, 4)), sentence))
    for size in NO_SIZES:
        calls.append((partial(ab.heatmap, ONES, size), "size of a heatmap"))
    for fields in NO_OBJECTS:
        call = partial(ab.Explanation, heatmap=ONES, **fields)
        calls.append((call, "^Boxes are|^The box|^Masks are"))
    return calls


@pytest.mark.parametrize(("call", "sentence"), refused_calls())
def test_what_is_no_map_size_box_or_mask_is_refused(call, sentence):
    assert len(ab.Explanation(heatmap=ONES, boxes=(BOX, BOX[:0]), masks=ONES > 0)) == 2
    with pytest.raises(BenchError, match=sentence):
        call()


def boxes_of(*boxes):
    return {"boxes": (torch.tensor(boxes),)}


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            boxes_of([0.1, 0.2, 0.5, 0.6]),
            r"shares of the image's sides; give boxes \* torch\.tensor\(\[48, 32, 48, 32\]\)",
        ),
        (boxes_of([0.0, 0.0, 1.0, 1.0]), "shares of the image's sides"),
        (  # x y width height
            boxes_of([1, 1, 5, 5], [20, 20, 9, 9]),
            r"The box \[20, 20, 9, 9\] is empty or isn.t x0 y0 x1 y1; .*torch\.cat",
        ),
        (boxes_of([4, 4, 4, 9]), "leave out empty boxes"),
        (
            boxes_of([100, 90, 200, 180]),
            "lies outside its 48 x 32 pixels. If the image was resized",
        ),
        (boxes_of([2, -9, 9, 0]), "lies outside"),
        ({"masks": torch.ones(1, 64, 96) > 0}, "^Masks are bool"),
        ({"images": torch.ones(1, 3, 64, 96)}, r"pass ab\.heatmap\(map, \(64, 96\)\)"),
    ],
)
def test_objects_in_another_scale_are_refused_with_the_way(fields, sentence):
    with pytest.raises(BenchError, match=sentence):
        ab.Explanation(heatmap=torch.rand(1, 32, 48), **fields)


def test_boxes_beyond_the_image_are_a_warning_and_the_ways_give_the_same_boxes():
    heatmap = torch.rand(1, 32, 48)
    box = torch.tensor([[6.0, 4.0, 24.0, 16.0]])
    sides = torch.tensor([48, 32, 48, 32])
    message = r"reach beyond the image's 48 x 32 pixels.*torch\.tensor\(\[48, 32, 48, 32\]\)"

    with pytest.warns(UserWarning, match=message):
        ab.Explanation(heatmap=heatmap, boxes=(box * 4,))  # a box of an image of 192 x 128 pixels
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for shift in (8, 9):
            ab.Explanation(heatmap=heatmap, boxes=(box - shift,))
    assert len({str(warning.message) for warning in warned}) == 1  # Python shows it once
    with warnings.catch_warnings(action="error"):
        clipped = (box - 8).clamp(min=0).minimum(sides)
        ab.Explanation(heatmap=heatmap, boxes=(clipped,))

    # The two ways that the messages suggest.
    original_sides = torch.tensor([192, 128, 192, 128])
    assert torch.equal(box * 4 * sides / original_sides, box)
    assert torch.equal(box / original_sides * 4 * sides, box)
    start = box[:, :2]
    size = box[:, 2:] - start
    assert torch.equal(torch.cat([start, start + size], 1), box)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # The box is rounded, or counts pixels from 1.
        almost_inside = torch.tensor([[-0.5, 0, 49, 32]])
        ab.Explanation(heatmap=heatmap, boxes=(almost_inside,))
        # A signal.
        ab.Explanation(
            heatmap=heatmap[:, 0],
            images=heatmap[:, :1],
            boxes=(torch.tensor([[3.0, 9.0]]),),
        )


def test_a_map_without_a_positive_value_stays_zero():
    for raw in (torch.zeros(1, 2, 2), -torch.rand(1, 2, 2)):
        for normalise in NORMALISATIONS:
            assert (ab.heatmap(raw, (8, 8), normalise) == 0).all()


def test_normalisations_by_hand():
    # Each map is divided by its own maximum.
    maps = torch.tensor([[[2.0]], [[1e-30]]])
    assert torch.equal(ab.heatmap(maps, (3, 3)), torch.ones(2, 3, 3))

    raw = torch.tensor([[[-5.0, 3.0], [7.0, 0.0]]])
    expected = torch.tensor([[[0.0, 3 / 7], [1.0, 0.0]]])
    torch.testing.assert_close(ab.heatmap(raw, (2, 2)), expected)

    raw = torch.tensor([[[1.0, 3.0], [1.0, 2.0]]])
    expected = torch.tensor([[0.0, 1.0], [0.0, 0.5]])
    assert torch.equal(ab.heatmap(raw, (2, 2), "minmax")[0], expected)
    assert (ab.heatmap(torch.ones(1, 2, 2), (2, 2), "minmax") == 0).all()
    assert (ab.heatmap(torch.ones(1, 2, 2), (2, 2)) == 1).all()

    # At the layer's size the maximum is 4. Halfway between pixels an enlarged map is
    # (4 x 3 + 2) / 4 = 3.5.
    raw = torch.tensor([[[4.0, 2.0]]])
    rows = {
        "maximum": [1, 3.5 / 4, 2.5 / 4, 0.5],
        "maximum_at_layer": [1, 3.5 / 4, 2.5 / 4, 0.5],
        "minmax_at_layer": [1, 0.75, 0.25, 0],
    }
    for normalise, row in rows.items():
        actual = ab.heatmap(raw, (1, 4), normalise)[0]
        assert torch.equal(actual, torch.tensor([row])), normalise

    # No pixel of six lies in the middle of the highest of three.
    peak = torch.tensor([[[0.0, 4.0, 0.0]]])
    assert ab.heatmap(peak, (1, 6)).max() == 1
    assert ab.heatmap(peak, (1, 6), "maximum_at_layer").max() == 0.75

    message = r"no normalisation of heatmaps .min_max.; did you mean .minmax."
    with pytest.raises(ab.BenchError, match=message):
        ab.heatmap(torch.ones(1, 2, 2), (2, 2), "min_max")


def test_nan_is_not_hidden_and_kept_for_its_row_alone(trace):
    raw = torch.ones(3, 2, 2, dtype=torch.float64)
    raw[1, 0, 0] = torch.nan
    heatmaps = ab.heatmap(raw, (2, 2))
    assert heatmaps.isnan().any((1, 2)).tolist() == [False, True, False]
    assert ab.Explanation.of(trace, ab.Map(raw)).finite.tolist() == [True, False, True]
