"""Localization by hand-made rectangles, naive loops and scikit-learn: thresholds over a data set, masks and energy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from axiom_bench import metrics
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.measurement import measure
from axiom_bench.evaluation.whole_set import aggregate
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.box_iou import box_iou
from axiom_bench.metrics.energy_pointing_game import energy_pointing_game
from axiom_bench.metrics.mask_iou import mask_iou
from axiom_bench.metrics.mass_accuracy import mass_accuracy
from axiom_bench.metrics.shared.threshold_sweep import COUNT
from axiom_bench.metrics.top_k_intersection import top_k_intersection
from tests.metrics.build import all_boxed, boxed, masked, picture, values_of

SIZE = (10, 12)
WHOLE_SET = ("max_box_acc", "max_box_acc_v2", "pxap")


def own(name, explanation):
    """Each image's value alone, in the protocol of heatmaps, whose closed forms are simple."""
    return values_of(plugins.with_params("metric", name, {"protocol": "heatmap"})(explanation))[0].tolist()


def over_images(name, *explanations):
    """The value of the data set of these explanations, through the metric's YAML, in the protocol of heatmaps."""
    metric = plugins.with_params("metric", name, {"protocol": "heatmap"})
    answers = [metric(explanation) for explanation in explanations]
    return aggregate(metric)(
        {curve: torch.cat([answer[curve].points for answer in answers]).numpy() for curve in metric.spec.curves}
    )


NESTED = picture((0, 0, 8, 8, 0.4), (0, 0, 2, 2, 1.0))  # 64 pixels above 0 to 0.39, then 4
LARGE, SMALL = [(0, 0, 8, 8)], [(0, 0, 2, 2)]
APART = picture((0, 0, 4, 4, 1.0), (6, 6, 9, 9, 0.5))
THIRDS = {"max_box_acc_v2": 2 / 3, "max_box_acc_v2_30": 1, "max_box_acc_v2_50": 1, "max_box_acc_v2_70": 0}


@pytest.mark.parametrize(
    ("name", "maps", "boxes", "expected", "alone"),
    [
        # one threshold for all images, though each is found at thresholds of its own
        ("max_box_acc", [NESTED] * 2, [SMALL, LARGE], {"max_box_acc": 0.5, "max_box_acc_threshold": 0.0}, [1, 1]),
        ("max_box_acc", [NESTED] * 3, [SMALL, SMALL, LARGE],
         {"max_box_acc": 2 / 3, "max_box_acc_threshold": 0.4}, [1, 1, 1]),
        # an IoU of 2/4, exactly 0.5, counts
        ("max_box_acc", [picture((0, 0, 2, 3, 1))], [[(0, 0, 4, 3)]], {"max_box_acc": 1}, [1]),
        ("max_box_acc", [picture((0, 0, 2, 3, 1))], [[(0, 0, 5, 3)]], {"max_box_acc": 0}, [0]),
        ("max_box_acc_v2", [picture((0, 0, 2, 3, 1))], [[(0, 0, 4, 3)]], THIRDS, [2 / 3]),
        # every region
        ("max_box_acc", [APART], [[(6, 6, 9, 9)]], {"max_box_acc": 0}, [0]),
        ("max_box_acc_v2", [APART], [[(6, 6, 9, 9)]], {"max_box_acc_v2": 1}, [1]),
        # a low threshold finds the first two boxes to 0.36, a high one the third to 1: each IoU takes its own threshold
        ("max_box_acc_v2", [NESTED] * 3, [[(0, 0, 4.8, 4.8)], [(0, 0, 4.8, 4.8)], SMALL],
         {"max_box_acc_v2_30": 2 / 3, "max_box_acc_v2_50": 1 / 3, "max_box_acc_v2_70": 1 / 3}, [1 / 3, 1 / 3, 1]),
        # any of several boxes
        ("max_box_acc", [NESTED], [[(9, 9, 12, 10), *LARGE]], {"max_box_acc": 1}, [1]),
        ("max_box_acc_v2", [NESTED], [[(9, 9, 12, 10), *LARGE]], {"max_box_acc_v2": 1}, [1]),
    ],
)  # fmt: skip
def test_box_accuracies_by_hand(name, maps, boxes, expected, alone):
    explanation = all_boxed(maps, boxes)
    actual = over_images(name, explanation)
    assert {key: actual[key] for key in expected} == pytest.approx(expected)
    assert own(name, explanation) == pytest.approx(alone)
    if expected is THIRDS:  # the parts of an image's value have their IoUs
        answer = plugins.with_params("metric", name, {"protocol": "heatmap"})(explanation)
        parts = {key.replace("box_acc_v2_own_threshold", name): value for key, value in answer.items()}
        assert {key: float(parts[key]) for key in THIRDS} == pytest.approx(THIRDS)


def test_max_box_acc_v2_names_its_values_by_its_ious():
    metric = plugins.with_params("metric", "max_box_acc_v2", {"ious": [0.5, 0.75]})
    assert metric.spec.as_dict()["aggregate_values"] == {
        "max_box_acc_v2": {"title": "MaxBoxAccV2"},
        "max_box_acc_v2_50": {"title": "MaxBoxAccV2, IoU 0.5"},
        "max_box_acc_v2_75": {"title": "MaxBoxAccV2, IoU 0.75"},
    }
    own = metric.spec.values["box_acc_v2_own_threshold_75"]
    assert (own.title, own.better) == ("Box accuracy V2, own best threshold, IoU 0.75", "none")
    curves = {"max_box_acc_v2_iou": np.array([[0.6, 0.8], [0.5, 0.2]])}
    expected = {"max_box_acc_v2": 0.75, "max_box_acc_v2_50": 1, "max_box_acc_v2_75": 0.5}
    assert dict(aggregate(metric)(curves)) == pytest.approx(expected)


def test_rows_without_a_box_have_no_value():
    for name, params in (("max_box_acc", {}), ("max_box_acc_v2", {}), ("box_iou", {"fraction": "best"})):
        answer = plugins.with_params("metric", name, params)(boxed(NESTED))
        assert values_of(answer)[0].isnan().all(), name


def test_the_published_name_is_of_the_published_protocol_alone():
    for name, title in (("max_box_acc", "MaxBoxAcc"), ("max_box_acc_v2", "MaxBoxAccV2"), ("pxap", "PxAP")):
        published, ours = (
            plugins.with_params("metric", name, {"protocol": protocol}).spec for protocol in ("wsol", "heatmap")
        )
        assert published.aggregate_values[name].title == title
        for spec in (published, ours):
            assert {value.better for value in spec.values.values()} == {"none"}  # never bold
            titles = {value.title for value in spec.values.values()}
            titles |= {value.title for value in spec.aggregate_values.values()} if spec is ours else set()
            assert not any(title in each for each in titles)


@pytest.mark.parametrize("protocol", ["wsol", "heatmap"])
@pytest.mark.parametrize("number", [0.0, float("nan")])
def test_a_method_without_a_map_misses(protocol, number):
    """8 images are right and 12 have no map: 8 of 20, not 8 of 8."""
    right = picture((2, 2, 6, 7, 1.0))
    maps = torch.stack([right] * 8 + [torch.full(SIZE, number, dtype=torch.float64)] * 12)
    boxes = (torch.tensor([[2.0, 2.0, 6.0, 7.0]]),) * 20
    masks = torch.stack([right > 0] * 20)
    explanation = Explanation(raw_map=maps, heatmap=maps, boxes=boxes, masks=masks)
    # wsol's boxes are a pixel too wide and too high: 20 of 30 pixels, below an IoU of 0.7
    expected = {"max_box_acc": 0.4, "max_box_acc_v2": 0.4 if protocol == "heatmap" else 0.4 * 2 / 3}
    # of the first 8 * 20 pixels all hit, then all others at once: 400 of 20 * 120
    expected["pxap"] = 0.4 + 0.6 * 400 / 2400
    for name, value in expected.items():
        metric = plugins.with_params("metric", name, {"protocol": protocol})
        points = {curve: measure(metric, explanation, True)[curve] for curve in metric.spec.curves}
        assert {status for _, statuses in points.values() for status in statuses} == {"ok"}
        whole_set = aggregate(metric)({curve: values.numpy() for curve, (values, _) in points.items()})
        assert whole_set[name] == pytest.approx(value)


def test_max_box_acc_by_naive_loops():
    generator = torch.Generator().manual_seed(4)
    maps = [torch.rand(SIZE, generator=generator, dtype=torch.float64) for _ in range(5)]
    boxes = [[(1, 1, 9, 8)], [(0, 0, 5, 5), (3, 3, 12, 10)], [(2, 0, 12, 9)], [(0, 0, 12, 10)], [(5, 5, 6, 6)]]
    explanation = all_boxed(maps, boxes)
    for name, regions, bounds in (("max_box_acc", "largest", [0.5]), ("max_box_acc_v2", "all", [0.3, 0.5, 0.7])):
        by_threshold = torch.stack([box_iou(explanation, step / 100, regions=regions) for step in range(100)])
        best = [max(float((row >= bound).double().mean()) for row in by_threshold) for bound in bounds]
        assert over_images(name, explanation)[name] == pytest.approx(sum(best) / len(best), abs=1e-12)


@settings(max_examples=40)
@given(st.integers(0, 2**16), st.integers(1, 99))
def test_pxap_equals_scikit_learn_on_the_same_thresholds(seed, levels):
    generator = torch.Generator().manual_seed(seed)
    maps = (torch.rand(3, *SIZE, generator=generator) * levels).round().double()
    masks = torch.rand(3, *SIZE, generator=generator) < 0.3
    maps[:, 0, 0], masks[:, 5, 5] = levels, True
    explanation = Explanation(heatmap=maps / levels, masks=masks)
    steps = np.ceil(np.rint(maps.numpy() / levels * 1e6) * COUNT / 1e6).reshape(3, -1)
    truths = masks.flatten(1).numpy()
    assert own("pxap", explanation) == pytest.approx([*map(average_precision_score, truths, steps)])
    of_all_pixels = average_precision_score(truths.ravel(), steps.ravel())
    assert over_images("pxap", explanation)["pxap"] == pytest.approx(of_all_pixels)


FLAT = torch.ones(SIZE, dtype=torch.float64)


@settings(max_examples=30)
@given(st.integers(0, 2**16), st.integers(0, 99))
def test_mask_iou_by_naive_loops(seed, step):
    generator = torch.Generator().manual_seed(seed)
    heatmap, mask = torch.rand(SIZE, generator=generator).double(), torch.rand(SIZE, generator=generator) < 0.4
    above = (heatmap / heatmap.max() * 1e6).round() / 1e6 > step / 100
    explanation = masked([heatmap], [mask.double()])
    assert float(mask_iou(explanation, step / 100)) == float((above & mask).sum()) / float((above | mask).sum())
    every = [float(mask_iou(explanation, percent / 100)) for percent in range(100)]
    assert float(mask_iou(explanation, "best")) == max(every)


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        ([(0, 0, 4, 5)], 20 / 25),
        ([(0, 0, 2, 5), (0, 0, 4, 5)], 20 / 25),  # what two boxes share counts once
        ([(0, 0, 2, 5), (6, 5, 8, 10)], 15 / 25),
        ([(-9, -9, 4, 99)], 20 / 25),  # what lies outside is cut off
        ([(0, 0, 3.5, 5)], 15 / 25),  # centres: 3.5 is not inside
        ([(0, 0, 3.6, 5)], 20 / 25),
    ],
)
def test_energy_pointing_game_closed_forms(boxes, expected):
    heatmap = picture((0, 0, 4, 5, 1.0), (6, 5, 8, 10, 0.5))  # 20 and 5
    assert float(energy_pointing_game(boxed(heatmap, *boxes))) == expected
    assert float(energy_pointing_game(boxed(FLAT, (0, 0, 6, 10)))) == 0.5


def test_energies_are_the_same_on_any_number_of_threads():
    heatmap = torch.rand(2, 224, 224, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    explanation = {"heatmap": heatmap, "boxes": (torch.tensor([[9.0, 9, 200, 180]]),) * 2, "masks": heatmap < 0.9}
    before, energies = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        values = Explanation(**explanation)
        energies.append([energy_pointing_game(values), mass_accuracy(values)["mass_accuracy"]])
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    for first, second in zip(*energies, strict=True):
        assert torch.equal(first, second)


@settings(max_examples=40)
@given(st.integers(0, 2**16), st.integers(1, 130), st.integers(1, 5))
def test_top_pixels_by_a_naive_sort(seed, k, levels):
    generator = torch.Generator().manual_seed(seed)
    heatmap = (torch.rand(SIZE, generator=generator) * levels).round().double()
    heatmap[0, 0] = levels
    mask = torch.rand(SIZE, generator=generator) < 0.3
    mask[3, 3] = True
    order = sorted(range(120), key=lambda pixel: (-float(heatmap.ravel()[pixel]), pixel))
    inside = [bool(mask.ravel()[pixel]) for pixel in order]
    explanation = masked([heatmap / levels], [mask.double()])
    assert float(top_k_intersection(explanation, k)) == sum(inside[:k]) / min(k, 120)
    size = sum(inside)
    assert float(mass_accuracy(explanation)["rank_accuracy"]) == sum(inside[:size]) / size
    expected = float((heatmap * mask).sum() / heatmap.sum())
    assert float(mass_accuracy(explanation)["mass_accuracy"]) == pytest.approx(expected)


@pytest.mark.parametrize("name", WHOLE_SET)
def test_the_aggregate_of_many_resamples_at_once_is_that_of_each(name):
    generator = np.random.default_rng(0)
    metric = metrics.get(name)
    points = np.sort(generator.random((30, COUNT)), 1)
    curves = dict.fromkeys(metric.spec.curves, points)
    if name == "pxap":
        hit = np.sort(generator.integers(0, 50, (30, COUNT + 1)), 1).astype(float)
        curves = {"pxap_above": hit + np.sort(generator.integers(1, 50, hit.shape), 1), "pxap_hit": hit}
    counts = generator.multinomial(30, np.full(30, 1 / 30), size=7).astype(float)
    at_once = aggregate(metric).call(curves, counts=counts)
    for place, row in enumerate(counts.astype(int)):
        expected = aggregate(metric)({curve: points.repeat(row, axis=0) for curve, points in curves.items()})
        assert {key: values[place] for key, values in at_once.items()} == pytest.approx(expected, rel=1e-14)
        assert all(values.shape == (7,) for values in at_once.values())
