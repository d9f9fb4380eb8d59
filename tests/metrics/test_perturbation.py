"""Perturbed images by hand, and the confidence they leave."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from scipy import ndimage

import axiom_bench as ab
from axiom_bench import metrics
from axiom_bench.cutting.passes import LIVE_OUTPUTS
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.queries import PerturbedImages
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.average_drop import average_drop
from axiom_bench.metrics.average_gain import average_gain
from axiom_bench.metrics.confidence_drop import confidence_drop
from axiom_bench.metrics.increase_in_confidence import increase_in_confidence
from axiom_bench.metrics.shared.perturbation import blended, confidence, highlighted, probabilities, scoring
from axiom_bench.testing import answered

average_drop = answered(average_drop)
average_gain = answered(average_gain)
confidence_drop = answered(confidence_drop)
increase_in_confidence = answered(increase_in_confidence)


IMAGE = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]] * 2 + [[[0.0, 0.0], [0.0, 4.0]]]]).double()  # (1, 3, 2, 2)
MAP = torch.tensor([[[1.0, 0.25], [0.0, 0.5]]]).double()
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def test_soft_mean_blends_each_pixel_with_its_channels_mean():
    actual = blended(IMAGE, MAP)
    expected = torch.tensor([[3.0, 0.75 * 2 + 0.25 * 3], [3.0, 0.5 * 6 + 0.5 * 3]]).double()  # mean 3
    torch.testing.assert_close(actual[0, 0], expected, **EXACT)
    torch.testing.assert_close(actual[0, 2], torch.tensor([[1.0, 0.25], [0.0, 2.5]]).double(), **EXACT)  # mean 1


def test_soft_zero_fades_to_zero():
    torch.testing.assert_close(blended(IMAGE, MAP, fill="zero"), IMAGE * (1 - MAP[:, None]), **EXACT)


@pytest.mark.parametrize(("fraction", "left"), [(0.0, 3), (0.25, 3), (0.5, 2), (1.0, 0)])
def test_hard_replaces_that_share_of_the_pixels_and_at_least_one(fraction, left):
    actual = blended(IMAGE, highlighted(Explanation(heatmap=MAP), "hard", fraction), fill="zero")
    assert int((actual[0, 0] != 0).sum()) == left
    assert actual[0, 0, 0, 0] == 0  # the highest pixel is the first to go


def test_hard_ties_go_to_the_first_pixel_after_rounding():
    tied = torch.tensor([[[0.5, 1.0], [1.0 - 1e-8, 1.0]]]).double()
    actual = blended(IMAGE, highlighted(Explanation(heatmap=tied), "hard", 0.5), fill="zero")
    torch.testing.assert_close(actual[0, 0], torch.tensor([[1.0, 0.0], [0.0, 6.0]]).double(), **EXACT)


def test_blur_is_scipys_gaussian_with_repeated_borders():
    images = torch.randn(2, 3, 20, 30, generator=torch.Generator().manual_seed(0)).double()
    actual = blended(images, torch.ones(2, 20, 30).double(), fill="blur", blur=0.1)  # sigma 2 pixels
    expected = ndimage.gaussian_filter(images.numpy(), (0, 0, 2, 2), mode="nearest", radius=6)
    torch.testing.assert_close(actual, torch.from_numpy(expected), **EXACT)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({"mode": "middle"}, "soft"), ({"fill": "grey"}, "blur"), ({"mode": "hard", "fraction": 2}, "2")],
)
def test_wrong_settings_are_named(explanation, wrong, named):
    with pytest.raises(BenchError, match=named):
        confidence_drop(explanation, **wrong)


def test_probability_is_the_softmax_of_the_target_in_float64():
    actual = probabilities(torch.tensor([[0.0, math.log(3.0)]]), torch.tensor([1]))
    assert actual.dtype == torch.float64
    assert float(actual) == pytest.approx(0.75, abs=1e-7)  # log 3 is rounded to float32


def probability(trace, images, row):
    logits = trace.forward(images).tolist()[row]
    return math.exp(logits[int(trace.targets[row])]) / sum(math.exp(logit) for logit in logits)


@pytest.mark.parametrize("output", ["probability", "logit"])
@pytest.mark.parametrize("relative", [False, True])
def test_confidence_drop_is_before_minus_after(trace, explanation, output, relative):
    actual = confidence_drop(explanation, fill="zero", output=output, relative=relative)
    perturbed = trace.images * (1 - explanation.heatmap[:, None])
    for row, target in enumerate(trace.targets.tolist()):
        if output == "probability":
            before, after = (probability(trace, images, row) for images in (trace.images, perturbed))
        else:
            before, after = (float(trace.forward(images)[row, target]) for images in (trace.images, perturbed))
        expected = (before - after) / abs(before) if relative else before - after
        assert float(actual[row]) == pytest.approx(expected, rel=1e-9)


def test_confidence_drop_names_a_wrong_output(explanation):
    with pytest.raises(BenchError, match="accuracy, logit, probability"):
        confidence_drop(explanation, output="softmax")


def test_average_drop_keeps_what_is_highlighted_and_clips_gains(trace, explanation):
    kept = trace.images * explanation.heatmap[:, None]
    drops = [1 - probability(trace, kept, row) / probability(trace, trace.images, row) for row in range(len(trace))]
    assert min(drops) < 0 < max(drops)  # else the clipping isn't seen
    actual = average_drop(explanation)
    torch.testing.assert_close(actual, torch.tensor(drops, dtype=torch.float64).clamp(min=0), **EXACT)


def test_a_map_of_ones_keeps_everything_and_loses_everything(trace, explanation):
    ones = replace(explanation, heatmap=torch.ones_like(explanation.heatmap))
    torch.testing.assert_close(average_drop(ones), torch.zeros(len(trace)).double(), **EXACT)
    lost = confidence_drop(ones, fill="zero")
    blank = probabilities(trace.forward(torch.zeros_like(trace.images)), trace.targets)
    torch.testing.assert_close(lost, probabilities(trace.logits, trace.targets) - blank, **EXACT)


def test_a_colour_of_ones_own_replaces_what_is_highlighted():
    actual = blended(IMAGE, torch.ones(1, 2, 2).double(), fill=[-2.0, 0.5, 1.0])
    torch.testing.assert_close(actual.amax((2, 3)), torch.tensor([[-2.0, 0.5, 1.0]]).double(), **EXACT)
    torch.testing.assert_close(actual.amin((2, 3)), torch.tensor([[-2.0, 0.5, 1.0]]).double(), **EXACT)
    with pytest.raises(BenchError, match="3 numbers"):
        blended(IMAGE, MAP, fill=[0.0])


def test_accuracy_is_whether_the_class_is_predicted():
    logits = torch.tensor([[0.0, 2.0], [3.0, 1.0]])
    assert confidence(logits, torch.tensor([1, 1]), "accuracy").tolist() == [1, 0]


def test_gain_and_increase_are_the_drops_counterparts(trace, explanation):
    kept = trace.images * explanation.heatmap[:, None]
    for row in range(len(trace)):
        p, seen = probability(trace, trace.images, row), probability(trace, kept, row)
        assert float(average_gain(explanation)[row]) == pytest.approx(max(0, seen - p) / (1 - p), abs=1e-12)
        assert float(increase_in_confidence(explanation)[row]) == (seen > p)
        assert float(average_drop(explanation)[row] * average_gain(explanation)[row]) == 0
    assert set(increase_in_confidence(explanation).tolist()) == {0, 1}


def test_gain_keeps_its_digits_where_the_class_is_nearly_certain():
    """By hand: p = 1 - 3e-20, p' = 1 - 1e-20, which float64 can't tell from 1: the gain is 2/3."""
    logits, seen = (torch.tensor([[0.0, math.log(rest)]], dtype=torch.float64) for rest in (3e-20, 1e-20))
    trace = SimpleNamespace(logits=logits, targets=torch.zeros(1, dtype=torch.long))
    explanation = Explanation(trace=trace, heatmap=MAP, images=IMAGE)
    asking = metrics.get("average_gain").call(explanation)
    assert next(asking).count == 1
    with pytest.raises(StopIteration) as end:
        asking.send(seen[:, None])
    assert float(end.value.value) == pytest.approx(2 / 3, rel=1e-9)


def test_one_pass_over_what_is_kept_serves_three_metrics(trace, explanation):
    before = replace(trace.passes)
    for metric in (average_drop, average_gain, increase_in_confidence, average_drop):
        metric(explanation)
    assert trace.passes.trunk_forward - before.trunk_forward == len(trace)
    average_drop(explanation, fill="mean")
    average_drop(replace(explanation))
    assert trace.passes.trunk_forward - before.trunk_forward == 3 * len(trace)


ROW = 3 * 12 * 12 * 8  # bytes of one of the trace's images


@pytest.mark.parametrize("rows", [1, 2, 5, 6, 12, 100])
def test_copies_do_not_depend_on_how_passes_are_cut(trace, rows, monkeypatch):
    """Five copies of each image, faded: whatever fits into a pass, the same values and as many passes."""
    sizes = []

    def faded(images, copies):
        strengths = torch.arange(1.0, 6.0)[copies].double()
        actual = trace.images[images, None] * strengths[:, None, None, None]
        sizes.append(actual.shape[0] * actual.shape[1])
        return actual

    expected = torch.stack(
        [confidence(trace.forward(trace.images * s), trace.targets, "logit") for s in range(1, 6)], dim=1
    )
    bytes_of_a_row = LIVE_OUTPUTS * trace.cut_model.trunk_and_head.sizes.widest * ROW
    monkeypatch.setattr(trace.cut_model.limits, "memory", int(rows * bytes_of_a_row) + 1)
    before = replace(trace.passes)

    def metric(explanation):
        return (yield PerturbedImages("faded", 5, faded, scoring(trace, "logit")))

    actual = plugins.of("metric", metric)(Explanation(trace=trace))
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
    assert trace.passes.trunk_forward - before.trunk_forward == 5 * len(trace) == sum(sizes)
    assert trace.passes.head_forward - before.head_forward == 5 * len(trace)
    assert max(sizes) <= rows
    assert len(set(sizes)) <= 2  # alike for every image
    if rows == 12:  # eight rows a pass
        assert sizes == [5, 5, 5, 5]
    if rows == 100:
        assert sizes == [20]


def test_of_another_output_logit_is_the_score_and_probability_stays(trace, explain):
    """A trace of margins: S is a margin, and probabilities are still those of the logits."""
    margins = ab.cut(trace.cut_model.model, trace.layer, output="margin").trace(trace.images, trace.targets)
    explanation = explain(margins)
    blank = trace.images * (1 - explanation.heatmap[:, None])
    S = margins.forward(blank).gather(1, trace.targets[:, None])[:, 0]
    actual = confidence_drop(explanation, fill="zero", output="logit")
    torch.testing.assert_close(actual, margins.scores - S, **EXACT)

    def metric(_):
        return (yield PerturbedImages("blank", 1, lambda rows, copies: blank[rows, None], scoring(margins, "logit")))

    torch.testing.assert_close(plugins.of("metric", metric)(explanation)[:, 0], S, **EXACT)
    p = probabilities(trace.logits, trace.targets) - probabilities(trace.forward(blank), trace.targets)
    torch.testing.assert_close(confidence_drop(explanation, fill="zero"), p, **EXACT)
