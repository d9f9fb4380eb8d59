"""The perturbed images by hand, the confidence they leave, and ADCC and ARCC from their parts."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import ndimage

import axiom_bench as ab
from axiom_bench import methods, metrics
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.measurement import measure, measure_all
from axiom_bench.evaluation.queries import PerturbedImages
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared import perturbation
from axiom_bench.metrics.shared.perturbation import (
    Filling,
    confidence,
    highlighted,
    probabilities,
    score_function,
)
from tests.metrics.build import (
    close,
    confidence_of,
    explained,
    functions,
    of_map,
    status,
    statuses,
    tensor,
)

average_drop, average_gain, increase_in_confidence = functions(
    "average_drop", "average_gain", "increase_in_confidence"
)
confidence_drop, adcc, arcc, road_combined = functions(
    "confidence_drop", "adcc", "arcc", "road_combined"
)
FIRST_CHANNELS = [[1.0, 2.0], [3.0, 6.0]]
LAST_CHANNEL = [[0.0, 0.0], [0.0, 4.0]]
IMAGE = tensor([FIRST_CHANNELS, FIRST_CHANNELS, LAST_CHANNEL])  # (1, 3, 2, 2)
MAP = tensor([[1.0, 0.25], [0.0, 0.5]])


def test_soft_blends_each_pixel_with_its_channels_mean_or_zero():
    actual = Filling("mean").blended(IMAGE, MAP)
    close(actual[0, 0], [[3.0, 0.75 * 2 + 0.25 * 3], [3.0, 0.5 * 6 + 0.5 * 3]])  # mean 3
    close(actual[0, 2], [[1.0, 0.25], [0.0, 2.5]])  # mean 1
    close(Filling("zero").blended(IMAGE, MAP), IMAGE * (1 - MAP[:, None]))
    colour = [-2.0, 0.5, 1.0]
    everywhere = torch.ones(1, 2, 2).double()
    close(Filling(colour).blended(IMAGE, everywhere), tensor(colour)[..., None, None])


@pytest.mark.parametrize(
    ("heatmap", "fraction", "kept"),
    [
        # The fraction is the share of the pixels that are replaced, the highest first, but at
        # least one is.
        (MAP, 0.0, [[0, 2], [3, 6]]),
        (MAP, 0.25, [[0, 2], [3, 6]]),
        (MAP, 0.5, [[0, 2], [3, 0]]),
        (MAP, 1.0, [[0, 0], [0, 0]]),
        # Of pixels that are equal after rounding, the first is replaced first.
        (tensor([[0.5, 1.0], [1.0 - 1e-8, 1.0]]), 0.5, [[1, 0], [0, 6]]),
    ],
)
def test_hard_replaces_a_share_of_the_pixels(heatmap, fraction, kept):
    mask = highlighted(Explanation(heatmap=heatmap), "hard", fraction)
    actual = Filling("zero").blended(IMAGE, mask)
    close(actual[0, 0], kept)


EXACT = {"rtol": 1e-12, "atol": 1e-12}


def gaussian(image):
    """Blur by a Gaussian with sigma 2 pixels, with repeated borders."""
    return ndimage.gaussian_filter(image, (0, 2, 2), mode="nearest", radius=6)


def rise_blur(image):
    """Blur by the kernel of RISE's evaluation.py, with zeros outside."""
    impulse = np.zeros((1, 11, 11))
    impulse[0, 5, 5] = 1
    return ndimage.convolve(image, ndimage.gaussian_filter(impulse, (0, 5, 5)), mode="constant")


@pytest.mark.parametrize(
    ("filling", "blurred"),
    [(Filling("blur", 0.1), gaussian), (Filling("rise"), rise_blur)],
)
def test_blurs_are_scipys(filling, blurred):
    images = torch.randn(2, 3, 20, 30, generator=torch.Generator().manual_seed(0)).double()
    expected = np.stack([blurred(image) for image in images.numpy()])
    actual = filling.blended(images, torch.ones(2, 20, 30).double())
    torch.testing.assert_close(actual, torch.from_numpy(expected), **EXACT)


def test_confidence_is_the_softmax_in_float64_or_whether_the_class_is_predicted():
    actual = probabilities(torch.tensor([[0.0, math.log(3.0)]]), torch.tensor([1]))
    assert actual.dtype == torch.float64
    assert float(actual) == pytest.approx(0.75, abs=1e-7)  # log 3 is rounded to float32
    logits = torch.tensor([[0.0, 2.0], [3.0, 1.0]])
    assert confidence(logits, torch.tensor([1, 1]), "accuracy").tolist() == [1, 0]


@pytest.mark.parametrize("output", ["probability", "logit"])
@pytest.mark.parametrize("relative", [False, True])
def test_confidence_drop_is_before_minus_after(trace, explanation, output, relative):
    actual = confidence_drop(explanation, fill="zero", output=output, relative=relative)
    perturbed = trace.images * (1 - explanation.heatmap[:, None])
    for row in range(len(trace)):
        before = confidence_of(trace, row, trace.images[row], output)
        after = confidence_of(trace, row, perturbed[row], output)
        expected = (before - after) / abs(before) if relative else before - after
        assert float(actual[row]) == pytest.approx(expected, rel=1e-9)


def test_drop_gain_and_increase_of_what_is_highlighted(trace, explanation):
    kept = trace.images * explanation.heatmap[:, None]
    drop = average_drop(explanation)
    gain = average_gain(explanation)
    rises = increase_in_confidence(explanation)
    for row in range(len(trace)):
        before = confidence_of(trace, row, trace.images[row])
        after = confidence_of(trace, row, kept[row])
        close(drop[row], max(0, 1 - after / before))
        close(gain[row], max(0, after - before) / (1 - before))
        assert float(rises[row]) == (after > before)
    assert set(rises.tolist()) == {0, 1}  # otherwise the clipping has no effect

    all_highlighted = of_map(trace, torch.ones(6, 6))  # the image stays as it is
    assert not increase_in_confidence(all_highlighted).any()


def test_gain_keeps_its_digits_where_the_class_is_nearly_certain():
    """Check p = 1 - 3e-20 and p' = 1 - 1e-20, whose gain is 2/3.

    float64 can't tell either from 1.
    """
    logits = tensor([0.0, math.log(3e-20)])
    new_logits = tensor([0.0, math.log(1e-20)])
    trace = SimpleNamespace(logits=logits, targets=torch.zeros(1, dtype=torch.long))
    explanation = Explanation(trace=trace, heatmap=MAP, images=IMAGE)
    asking = metrics.get("average_gain").call(explanation)
    assert next(asking).count == 1
    with pytest.raises(StopIteration) as end:
        asking.send(new_logits[:, None])
    assert float(end.value.value) == pytest.approx(2 / 3, rel=1e-9)


def test_one_pass_over_what_is_kept_serves_three_metrics(trace, explanation):
    before = replace(trace.passes)
    for metric in (average_drop, average_gain, increase_in_confidence, average_drop):
        metric(explanation)
    assert trace.passes.trunk_forward - before.trunk_forward == len(trace)
    average_drop(explanation, fill="mean")
    average_drop(replace(explanation))
    assert trace.passes.trunk_forward - before.trunk_forward == 3 * len(trace)


def test_of_another_output_logit_is_the_score_and_probability_stays(trace, explain):
    """Check a trace of margins: S is a margin, and probabilities are still those of the logits."""
    cut_model = ab.cut(trace.cut_model.model, trace.layer, output="margin")
    margins = cut_model.trace(trace.images, trace.targets)
    explanation = explain(margins)
    blank = trace.images * (1 - explanation.heatmap[:, None])
    S = margins.forward(blank).gather(1, trace.targets[:, None])[:, 0]
    actual = confidence_drop(explanation, fill="zero", output="logit")
    torch.testing.assert_close(actual, margins.scores - S, **EXACT)

    def metric(_):
        request = PerturbedImages(
            "blank", 1, lambda rows, copies: blank[rows, None], score_function(margins, "logit")
        )
        return (yield request)

    torch.testing.assert_close(plugins.plugin_for("metric", metric)(explanation)[:, 0], S, **EXACT)

    before = probabilities(trace.logits, trace.targets)
    after = probabilities(trace.forward(blank), trace.targets)
    actual = confidence_drop(explanation, fill="zero")
    torch.testing.assert_close(actual, before - after, **EXACT)


def grad_cam(trace: ab.Trace) -> torch.Tensor:
    return trace.gradients.mean((2, 3), keepdim=True)


def test_a_constant_map_has_complexity_and_no_coherency(trace):
    expected = {
        "coherency": ("constant_map",) * 4,
        "complexity": ("ok",) * 4,
        "adcc": ("constant_map",) * 4,
    }
    assert statuses("adcc", of_map(trace, torch.ones(3, 3))) == expected
    assert status("arcc", of_map(trace, torch.ones(3, 3))) == {"constant_map"}


BOTH = [metrics.get("adcc"), metrics.get("arcc")]


@pytest.mark.parametrize(
    "name", ["random", "shuffled_channels", "smooth_grad", "smoothed_xgrad_cam"]
)
def test_coherency_compares_a_method_with_itself_and_not_two_draws(trace, name, monkeypatch):
    """Check that a rounding error of the kept images moves the coherency only by rounding.

    If draws were seeded by the pixels' bits, the coherency of `random` would move by 0.3.
    """
    explanation = explained(trace, methods.get(name))
    before = adcc(explanation)["coherency"]
    kept_images = perturbation.kept_images

    def nearly_kept_images(*arguments):
        return kept_images(*arguments) * (1 + 1e-7)

    monkeypatch.setattr(perturbation, "kept_images", nearly_kept_images)
    close(adcc(replace(explanation))["coherency"], before, atol=1e-5)


def test_arcc_is_the_harmonic_mean_of_its_parts(trace):
    explanation = explained(trace, grad_cam)
    actual = arcc(explanation)
    parts = adcc(explanation)
    road = road_combined(explanation, (0.2, 0.4, 0.6, 0.8))
    assert (road > 0).any()
    assert (road < 0).any()
    for row in range(len(trace)):
        coherency = parts["coherency"][row]
        simplicity = 1 - parts["complexity"][row]
        clipped_road = max(0, min(1, 2 * road[row]))
        expected = 0
        if clipped_road > 0:
            expected = 3 / (1 / coherency + 1 / simplicity + 1 / clipped_road)
        close(actual[row], expected)


def test_beside_adcc_an_image_is_explained_again_once(trace):
    """Check two explanations of the same map.

    The 8 copies of ROAD are classified once, and each explanation is computed again once.
    """
    calls: list[int] = []

    def counted(trace: ab.Trace) -> torch.Tensor:
        calls.append(len(trace))
        return grad_cam(trace)

    expected = [measure(metric, explained(trace, grad_cam), True) for metric in BOTH]
    trace = replace(trace)  # a new trace, which keeps no scores of copies
    explanations = [(replace(explained(trace, grad_cam), method=counted), True) for _ in range(2)]
    before = trace.passes.trunk_forward
    for measured in measure_all(BOTH, explanations):
        for name, (values, _) in (expected[0] | expected[1]).items():
            assert torch.equal(measured.values[name][0], values)
    assert calls == [len(trace)] * 2
    assert trace.passes.trunk_forward - before == (8 + 2) * len(trace)
