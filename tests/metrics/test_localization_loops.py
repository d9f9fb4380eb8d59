"""Localization against replicas.

The replicas are scipy's labelling at every threshold, naive loops, scikit-learn and wsolevaluation.
The stored values were printed by wsolevaluation itself (evaluation.py at commit 96f4b88, with
OpenCV 5.0.0 and 4.10.0).
"""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score

import axiom_bench as ab
from axiom_bench import metrics
from axiom_bench.data.base import Sample
from axiom_bench.data.batch import BACKGROUND, NO_VERDICT
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.whole_set import aggregate
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.localization_auc import localization_auc
from axiom_bench.metrics.mask_iou import mask_iou
from axiom_bench.metrics.mass_accuracy import mass_accuracy
from axiom_bench.metrics.pointing_game import pointing_game
from axiom_bench.metrics.shared import protocol
from axiom_bench.metrics.shared.rounding import rounded
from axiom_bench.metrics.shared.threshold_sweep import COUNT, FRACTIONS, boxes_above
from axiom_bench.metrics.shared.union_find import contour_ious
from axiom_bench.metrics.top_k_intersection import top_k_intersection
from tests.metrics.build import boxed, labelled, masked, overlap, status, tensor
from tests.metrics.test_localization import SIZE, over_images, own


def assert_equals_scipy(heatmap, boxes, connectivity):
    true_boxes = torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)
    measured = boxes_above(Explanation(heatmap=heatmap[None], boxes=(true_boxes,)), connectivity)
    shares = rounded(heatmap[None])[0].numpy()
    for step, fraction in enumerate(FRACTIONS):
        largest, regions = labelled(shares > fraction, connectivity)
        iou = measured.iou[0, step]
        best_iou = measured.best_iou[0, step]
        if largest is None:
            expected = 0 if boxes else np.nan
            np.testing.assert_array_equal([iou, best_iou], expected)
            continue
        assert tuple(measured.largest[0, step]) == largest
        if boxes:
            assert iou == max(overlap(largest, box) for box in boxes)
            assert best_iou == max(overlap(*pair) for pair in itertools.product(regions, boxes))


def box_from(place_and_size):
    x, y, width, height = place_and_size
    return x, y, x + width, y + height


places = st.floats(-2, 8)
lengths = st.floats(0.25, 9)
boxes = st.lists(st.tuples(places, places, lengths, lengths).map(box_from), max_size=3)


@settings(max_examples=60)
@given(st.data(), st.integers(1, 9), st.integers(1, 9), st.sampled_from([4, 8]), boxes)
def test_equals_a_labelling_at_every_threshold(data, height, width, connectivity, boxes):
    plateaus = st.sampled_from([0.0, 0.1, 0.15, 0.3, 0.31, 0.5, 0.500001, 0.99, 1.0])
    levels = data.draw(st.lists(plateaus, min_size=height * width, max_size=height * width))
    inside = [box for box in boxes if box[0] < width and box[1] < height and min(box[2:]) > 0]
    assert_equals_scipy(torch.tensor(levels).view(height, width), inside, connectivity)


@pytest.mark.parametrize("connectivity", [4, 8])
def test_equals_a_labelling_where_many_regions_become_one(connectivity):
    noise = torch.rand(61, 90, generator=torch.Generator().manual_seed(3))
    comb = torch.zeros(40, 41)
    comb[:, ::2] = torch.linspace(0.4, 1, 40)[:, None]
    comb[-1] = 0.2
    coarse = torch.rand(1, 1, 6, 6, generator=torch.Generator().manual_seed(4))
    smooth = functional.interpolate(coarse, size=(50, 60), mode="bilinear")[0, 0]
    for heatmap in (noise, smooth, comb):
        assert_equals_scipy(heatmap, [(3.0, 2.0, 20.5, 30.0)], connectivity)


def test_no_pixel_above_no_box_and_numbers_that_are_not_finite():
    maps = torch.zeros(4, 5, 6)
    maps[1, 2, 3] = 1.0
    maps[2, 0, 0] = torch.inf
    maps[3] = torch.nan
    box = torch.tensor([[0.0, 0.0, 6.0, 5.0]])
    no_box = torch.zeros(0, 4)

    measured = boxes_above(Explanation(raw_map=maps, heatmap=maps, boxes=(box, no_box, box, box)))

    assert (measured.iou[[0, 2, 3]] == 0).all()
    assert np.isnan(measured.iou[1]).all()
    assert (measured.largest[1] == (3, 2, 4, 3)).all()
    assert not measured.largest[[0, 2, 3]].any()


def test_metrics_share_one_sweep():
    box = torch.tensor([[1.0, 1.0, 5.0, 5.0]])
    explanation = Explanation(heatmap=torch.rand(1, 9, 9), boxes=(box,))
    assert boxes_above(explanation) is boxes_above(explanation)
    assert boxes_above(explanation) is not boxes_above(explanation, 4)


@given(st.integers(0, 2**16), st.sampled_from([1.0, 2.0, 2.5, 5.0, 15.0]))
def test_pointing_game_is_torchrays_disc_around_the_highest_pixel(seed, tolerance):
    """Check that a hit is a disc that meets the mask of the pixels in the boxes.

    The disc has the pixels with squared distances below tolerance^2.
    """
    generator = torch.Generator().manual_seed(seed)
    heatmap = torch.rand(1, 20, 30, generator=generator, dtype=torch.float64)
    fractions = torch.rand(2, 4, generator=generator, dtype=torch.float64)
    places_and_sizes = fractions * torch.tensor([28.0, 18, 6, 5])
    boxes = [box_from(numbers) for numbers in places_and_sizes.tolist()]
    row, column = divmod(int(heatmap.argmax()), 30)
    disc = set()
    mask = set()
    for y, x in itertools.product(range(20), range(30)):
        if (y - row) ** 2 + (x - column) ** 2 < tolerance**2:
            disc.add((y, x))
        if any(x0 <= x + 0.5 < x1 and y0 <= y + 0.5 < y1 for x0, y0, x1, y1 in boxes):
            mask.add((y, x))

    hit = float(pointing_game(boxed(heatmap[0], *boxes), tolerance=tolerance))
    hit_without_disc = float(pointing_game(boxed(heatmap[0], *boxes), tolerance=0))

    assert hit == bool(disc & mask)
    assert hit_without_disc == ((row, column) in mask)


@settings(max_examples=40)
@given(st.integers(0, 2**16), st.integers(1, 99))
def test_pxap_equals_scikit_learn_on_the_same_thresholds(seed, levels):
    generator = torch.Generator().manual_seed(seed)
    maps = (torch.rand(3, *SIZE, generator=generator) * levels).round().double()
    masks = torch.rand(3, *SIZE, generator=generator) < 0.3
    maps[:, 0, 0] = levels
    masks[:, 5, 5] = True
    explanation = Explanation(heatmap=maps / levels, masks=masks)
    rounded_maps = np.rint(maps.numpy() / levels * 1e6)
    steps = np.ceil(rounded_maps * COUNT / 1e6).reshape(3, -1)
    truths = masks.flatten(1).numpy()

    image_precisions = list(map(average_precision_score, truths, steps))
    total_precision = average_precision_score(truths.ravel(), steps.ravel())

    assert own("pxap", explanation) == pytest.approx(image_precisions)
    assert over_images("pxap", explanation)["pxap"] == pytest.approx(total_precision)


@settings(max_examples=30)
@given(st.integers(0, 2**16), st.integers(0, 99))
def test_mask_iou_by_naive_loops(seed, step):
    generator = torch.Generator().manual_seed(seed)
    heatmap = torch.rand(SIZE, generator=generator).double()
    mask = torch.rand(SIZE, generator=generator) < 0.4
    above = (heatmap / heatmap.max() * 1e6).round() / 1e6 > step / 100
    intersection = float((above & mask).sum())
    union = float((above | mask).sum())
    explanation = masked([heatmap], [mask.double()])

    iou_per_percent = [float(mask_iou(explanation, percent / 100)) for percent in range(100)]

    assert float(mask_iou(explanation, step / 100)) == intersection / union
    assert float(mask_iou(explanation, "best")) == max(iou_per_percent)


@settings(max_examples=40)
@given(st.integers(0, 2**16), st.integers(1, 130), st.integers(1, 5))
def test_top_pixels_by_a_naive_sort(seed, k, levels):
    generator = torch.Generator().manual_seed(seed)
    heatmap = (torch.rand(SIZE, generator=generator) * levels).round().double()
    heatmap[0, 0] = levels
    mask = torch.rand(SIZE, generator=generator) < 0.3
    mask[3, 3] = True
    order = sorted(range(120), key=lambda pixel: (-float(heatmap.ravel()[pixel]), pixel))
    is_inside = [bool(mask.ravel()[pixel]) for pixel in order]
    size = sum(is_inside)
    expected_mass = float((heatmap * mask).sum() / heatmap.sum())
    explanation = masked([heatmap / levels], [mask.double()])

    accuracies = mass_accuracy(explanation)

    assert float(top_k_intersection(explanation, k)) == sum(is_inside[:k]) / min(k, 120)
    assert float(accuracies["rank_accuracy"]) == sum(is_inside[:size]) / size
    assert float(accuracies["mass_accuracy"]) == pytest.approx(expected_mass)


@settings(max_examples=40)
@given(st.integers(0, 2**16), st.integers(1, 5), st.floats(0.05, 0.95))
def test_localization_auc_is_scikit_learns_with_equal_pixels(seed, levels, share):
    generator = torch.Generator().manual_seed(seed)
    heatmaps = torch.rand(2, *SIZE, generator=generator, dtype=torch.float64)
    heatmaps[0] = (heatmaps[0] * levels).round() / levels
    mask = torch.rand(SIZE, generator=generator) < share
    mask[0, :2] = torch.tensor([True, False])
    expected = []
    for heatmap in heatmaps:
        shares = (heatmap / heatmap.max()).round(decimals=6)
        expected.append(roc_auc_score(mask.flatten(), shares.flatten()))

    values = localization_auc(masked(list(heatmaps), [mask.double()] * 2)).tolist()

    assert values == pytest.approx(expected, abs=1e-12)


def test_localization_auc_of_no_map_and_of_no_background():
    zero = torch.zeros(SIZE)
    whole = torch.ones(SIZE)
    half = whole.clone()
    half[:3] = 0
    explanation = masked([zero, half, 1 - half], [half] * 3)
    assert localization_auc(explanation).tolist() == [0.5, 1, 0]
    assert status("localization_auc", masked([half], [whole])) == {"no_background"}


@pytest.mark.parametrize("name", ["max_box_acc", "max_box_acc_v2", "pxap"])
def test_the_aggregate_of_many_resamples_at_once_is_that_of_each(name):
    generator = np.random.default_rng(0)
    metric = metrics.get(name)
    points = np.sort(generator.random((30, COUNT)), 1)
    curves = dict.fromkeys(metric.spec.curves, points)
    if name == "pxap":
        hit = np.sort(generator.integers(0, 50, (30, COUNT + 1)), 1).astype(float)
        missed = np.sort(generator.integers(1, 50, hit.shape), 1)
        curves = {"pxap_above": hit + missed, "pxap_hit": hit}
    counts = generator.multinomial(30, np.full(30, 1 / 30), size=7).astype(float)

    at_once = aggregate(metric).call(curves, counts=counts)

    for resample, repeats in enumerate(counts.astype(int)):
        repeated = {curve: points.repeat(repeats, axis=0) for curve, points in curves.items()}
        expected = aggregate(metric)(repeated)
        actual = {key: values[resample] for key, values in at_once.items()}
        assert actual == pytest.approx(expected, rel=1e-14)
        assert all(values.shape == (7,) for values in at_once.values())


THRESHOLDS = np.arange(0, 1, 0.001)


@pytest.mark.parametrize("shape", [(7, 7), (1, 1), (14, 9), (3, 20), (300, 250)])
def test_resize_is_cubic_convolution(shape):
    """Check that a = -0.75, as in torch and OpenCV.

    OpenCV's weights are float32: places of up to 300 have errors of 2e-5.
    """
    raw_map = np.random.default_rng(0).standard_normal(shape)
    with_batch_and_channel = torch.from_numpy(raw_map)[None, None]
    expected = functional.interpolate(with_batch_and_channel, size=(60, 96), mode="bicubic")[0, 0]
    resized = protocol.resize_cubic(raw_map, (60, 96))
    np.testing.assert_allclose(resized, expected.numpy(), atol=2e-4)


def polygon_area(filled):
    """Return the area of the polygon through the centres of the outer pixels.

    A square of 2 x 2 pixels counts 1 if all four are filled, and 1/2 if three are.
    """
    padded = np.pad(filled, 1).astype(int)
    rows = padded[:-1] + padded[1:]
    windows = rows[:, :-1] + rows[:, 1:]
    return (windows == 4).sum() + 0.5 * (windows == 3).sum()


def contours_slowly(above):
    """Yield the area and box of each contour.

    There is a contour for every component with its holes filled, and one for the pixels around
    every hole.
    """
    labels, count = ndimage.label(above, np.ones((3, 3)))
    for label in range(1, count + 1):
        component = labels == label
        outside, num_parts = ndimage.label(np.pad(~component, 1, constant_values=True))
        holes = []
        for part in range(1, num_parts + 1):
            if part != outside[0, 0]:
                holes.append((outside == part)[1:-1, 1:-1])
        filled = component | np.any(holes, axis=0) if holes else component
        yield polygon_area(filled), box_around(component)
        for hole in holes:
            around = ndimage.binary_dilation(hole)
            yield polygon_area(around), box_around(around & ~hole)


def box_around(pixels):
    """Return the box around pixels, whose far edges are one pixel further, but in the image."""
    rows, columns = np.nonzero(pixels)
    height, width = pixels.shape
    x1 = min(columns.max() + 1, width - 1)
    y1 = min(rows.max() + 1, height - 1)
    return int(columns.min()), int(rows.min()), int(x1), int(y1)


def iou_slowly(box, true_boxes):
    """Return the best intersection over union by counting pixels, including the far edges."""
    grid = np.zeros((2, 80, 80), bool)
    best = 0.0
    for true_box in true_boxes:
        grid[:] = False
        for canvas, (x0, y0, x1, y1) in zip(grid, (box, true_box), strict=True):
            canvas[y0 : y1 + 1, x0 : x1 + 1] = True
        iou = np.count_nonzero(grid.all(0)) / np.count_nonzero(grid.any(0))
        best = max(best, iou)
    return best


TRUE_BOXES = [(1, 1, 5, 6), (4, 0, 11, 3), (3, 3, 3, 3)]


@settings(max_examples=40)
@given(
    st.integers(0, 2**16),
    st.integers(1, 9),
    st.integers(1, 12),
    st.sampled_from([0.3, 0.5, 0.7]),
)
def test_contours_of_every_threshold_by_labelling(seed, height, width, density):
    generator = np.random.default_rng(seed)
    is_filled = generator.random((height, width)) < density
    levels = np.where(is_filled, generator.choice([80, 160, 255], (height, width)), 0)

    largest, best = contour_ious(levels.astype(np.uint8), np.array(TRUE_BOXES))

    for level in (0, 79, 80, 159, 160, 254):
        contours = list(contours_slowly(levels > level))
        if not contours:
            assert largest[level] == best[level] == iou_slowly((0, 0, 0, 0), TRUE_BOXES)
            continue
        assert best[level] == max(iou_slowly(box, TRUE_BOXES) for _, box in contours)
        largest_area = max(area for area, _ in contours)
        largest_boxes = [box for area, box in contours if area == largest_area]
        assert largest[level] in {iou_slowly(box, TRUE_BOXES) for box in largest_boxes}


def test_of_contours_of_equal_area_the_one_whose_first_pixel_comes_last_is_taken():
    """Check which contour is taken: cv2.findContours lists those that it finds last first.

    A spur of single pixels encloses nothing.
    """
    levels = np.zeros((9, 16), np.uint8)
    levels[3:6, 1:4] = 200
    levels[4:7, 8:11] = 200
    levels[3, 11] = levels[2, 12] = 100  # a spur that reaches above the first square
    first = np.array([[1, 3, 4, 6]])
    second = np.array([[8, 4, 11, 7]])

    assert contour_ious(levels, second)[0][[199, 100]].tolist() == [1, 1]
    assert contour_ious(levels, first)[0][[99, 0]].tolist() == [1, 1]
    assert contour_ious(levels, second)[0][[99, 0]].max() == 0


def counts_slowly(score_map, mask):
    """Count the pixels of the mask with at least each of 1, 0.999, ... 0."""
    edges = np.append(THRESHOLDS, 1.0)[::-1]
    return [np.count_nonzero((score_map >= edge) & mask) for edge in edges]


def test_pixel_counts_by_naive_loops():
    generator = torch.Generator().manual_seed(1)
    raw_maps = torch.randn(2, 6, 5, generator=generator, dtype=torch.float64)
    masks, ignored = torch.rand(2, 2, 40, 30, generator=generator).gt(0.6).unbind()
    masks &= ~ignored
    no_heatmap = torch.zeros(2, 40, 30)
    explanation = Explanation(raw_map=raw_maps, heatmap=no_heatmap, masks=masks, ignored=ignored)

    above, hit = protocol.pixel_counts(explanation, "wsol")

    for row, score_map in enumerate(protocol.score_maps(explanation)):
        assert (score_map.min(), score_map.max()) == (0, 1)
        assert above[row].tolist() == counts_slowly(score_map, ~ignored[row].numpy())
        assert hit[row].tolist() == counts_slowly(score_map, masks[row].numpy())


def test_pixels_at_a_threshold_and_beside_it_are_counted_exactly():
    edges = np.append(THRESHOLDS, 1.0)
    just_below = np.nextafter(edges[1:], 0)
    just_above = np.nextafter(edges[:-1], 1)
    scores = np.concatenate([edges, just_below, just_above])[None, None]
    maps = torch.from_numpy(scores)
    above, _ = protocol.pixel_counts(Explanation(heatmap=maps, masks=maps > 2), "wsol")
    assert above[0].tolist() == counts_slowly(scores[0], np.ones(scores[0].shape, bool))


@pytest.mark.parametrize("number", [0.0, 3.0, float("nan"), float("inf")])
def test_maps_that_are_constant_or_not_finite_become_zero(number):
    raw_map = torch.full((1, 7, 7), number).double()
    if not np.isfinite(number):
        raw_map = torch.randn(1, 7, 7).double().index_fill(2, torch.tensor([3]), number)
    explanation = Explanation(raw_map=raw_map, heatmap=torch.zeros(1, 30, 30))
    assert not protocol.score_maps(explanation).any()


def test_negative_values_count_and_a_heatmap_alone_is_taken_as_it_is():
    signed_map = tensor([[-2.0, 0.0], [1.0, 2.0]])
    explanation = Explanation(raw_map=signed_map, heatmap=torch.zeros(1, 2, 2))
    assert protocol.score_maps(explanation).tolist() == [[[0.0, 0.5], [0.75, 1.0]]]

    heatmap = torch.rand(1, 9, 7, dtype=torch.float64)
    from_zero = heatmap - heatmap.min()
    expected = from_zero / from_zero.max()
    scores = protocol.score_maps(Explanation(heatmap=heatmap))
    np.testing.assert_array_equal(scores, expected.numpy())


SQUASH = Preprocessing(resize=(224, 224), crop=None, mean=(0, 0, 0), std=(1, 1, 1))


@settings(max_examples=60)
@given(st.data(), st.integers(2, 700), st.integers(2, 700))
def test_boxes_are_those_of_the_stored_image_cut_to_whole_pixels(data, width, height):
    left = data.draw(st.integers(0, width - 1))
    top = data.draw(st.integers(0, height - 1))
    last_column = data.draw(st.integers(left, width - 1))
    last_row = data.draw(st.integers(top, height - 1))
    stored_box = (float(left), float(top), last_column + 1.0, last_row + 1.0)
    sample = Sample(Image.new("RGB", (width, height)), "a", 0, ((0, stored_box),))
    expected = [
        int(left * 224.0 / width),
        int(top * 224.0 / height),
        int(last_column * 224.0 / width),
        int(last_row * 224.0 / height),
    ]

    _, annotation = SQUASH(sample)
    boxes = protocol.inclusive_boxes(annotation.boxes.double().numpy(), annotation.stored_pixel)

    assert boxes.tolist() == [expected]


def stored_case():
    """Return eight signed maps of 7 x 7 on 224 x 224 pixels, with one or two boxes and a mask each.

    One map is constant, and one has a NaN.
    """
    rows, columns = np.mgrid[:7, :7]
    maps = np.zeros((8, 7, 7))
    masks = np.full((8, 224, 224), BACKGROUND)
    annotations = []
    for i in range(8):
        bump = 9.0 - (rows - 2 - i % 3) ** 2 - (columns - 3 + i % 2) ** 2
        maps[i] = bump + (5 * i + rows * columns**2) % 7
        x0 = 8 * i
        y0 = 10 + 5 * i
        x1 = 110 + 15 * i
        y1 = 140 + 12 * i
        boxes = [(x0, y0, x1, y1)]
        if i % 2:
            boxes.append((150, 20 + i, 210, 80))
        masks[i, y0:y1, x0:x1] = 0
        masks[i, :, 200:] = NO_VERDICT
        labels = torch.zeros(len(boxes), dtype=torch.long)
        mask = torch.from_numpy(masks[i])
        annotations.append(ab.Annotation(labels, torch.tensor(boxes).float(), mask))
    maps[5] = 4.0
    maps[6, 0, 0] = np.nan
    targets = torch.zeros(8, dtype=torch.long)
    images = torch.zeros(8, 3, 224, 224)
    batch = ab.Batch(images, tuple(map(str, range(8))), targets, tuple(annotations))
    return Explanation(
        raw_map=torch.from_numpy(maps),
        heatmap=torch.zeros(8, 224, 224),
        boxes=batch.boxes(targets),
        masks=batch.masks(targets),
        ignored=batch.ignored(),
    )


STORED = {
    "max_box_acc": 0.375,
    "max_box_acc_threshold": 0.624,
    "max_box_acc_v2": 0.41666666666666663,
    "max_box_acc_v2_30": 0.75,
    "max_box_acc_v2_50": 0.375,
    "max_box_acc_v2_70": 0.125,
    "pxap": 0.6065803204270277,
}


def test_values_are_those_that_wsolevaluation_printed():
    values = {}
    for name in ("max_box_acc", "max_box_acc_v2", "pxap"):
        metric = plugins.load("metric", name)
        curves = metric(stored_case())
        points = {curve: curves[curve].points.numpy() for curve in metric.spec.curves}
        for key, value in aggregate(metric)(points).items():
            values[key] = float(value)
    assert values == pytest.approx(STORED, rel=1e-15, abs=0)


SHAPES_AND_SIZES = [
    ((7, 7), (224, 224)),
    ((13, 9), (60, 96)),
    ((1, 4), (50, 40)),
    ((300, 250), (224, 224)),
]


def test_opencv_resizes_to_the_same_bits():
    cv2 = pytest.importorskip("cv2", reason="make peers")
    generator = np.random.default_rng(2)
    for shape, size in SHAPES_AND_SIZES:
        raw_map = generator.standard_normal(shape)
        expected = cv2.resize(raw_map, size[::-1], interpolation=cv2.INTER_CUBIC)
        np.testing.assert_array_equal(protocol.resize_cubic(raw_map, size), expected)


def test_opencv_has_the_same_contours():
    cv2 = pytest.importorskip("cv2", reason="make peers")
    generator = np.random.default_rng(3)
    for trial in range(24):
        height, width = generator.integers(1, 40, 2)
        levels = generator.integers(0, 256, (height, width)).astype(np.uint8)
        if trial % 2:
            levels = generator.choice(np.array([0, 90, 180, 255], np.uint8), (height, width))
        largest, best = contour_ious(levels, np.array(TRUE_BOXES))
        for level in range(0, 255, 7):
            above = (levels > level).astype(np.uint8)
            contours, _ = cv2.findContours(above, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
            boxes = []
            for contour in contours:
                x, y, w, h = cv2.boundingRect(contour)
                boxes.append((x, y, min(x + w, width - 1), min(y + h, height - 1)))
            if not boxes:
                boxes = [(0, 0, 0, 0)]
            ious = [iou_slowly(box, TRUE_BOXES) for box in boxes]
            areas = [cv2.contourArea(contour) for contour in contours] or [0]
            assert best[level] == max(ious)
            assert largest[level] == ious[int(np.argmax(areas))]  # the first of equals
