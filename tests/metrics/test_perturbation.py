"""Perturbed images by hand, the confidence they leave, and ADCC and ARCC against their parts."""

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
    scoring,
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

average_drop, average_gain, confidence_drop, increase_in_confidence, adcc, arcc, road_combined = (
    functions(
        "average_drop",
        "average_gain",
        "confidence_drop",
        "increase_in_confidence",
        "adcc",
        "arcc",
        "road_combined",
    )
)
IMAGE = torch.tensor(
    [[[[1.0, 2.0], [3.0, 6.0]]] * 2 + [[[0.0, 0.0], [0.0, 4.0]]]]
).double()  # (1, 3, 2, 2)
MAP = tensor([[1.0, 0.25], [0.0, 0.5]])


def test_soft_blends_each_pixel_with_its_channels_mean_or_zero():
    actual = Filling("mean").blended(IMAGE, MAP)
    close(actual[0, 0], [[3.0, 0.75 * 2 + 0.25 * 3], [3.0, 0.5 * 6 + 0.5 * 3]])  # mean 3
    close(actual[0, 2], [[1.0, 0.25], [0.0, 2.5]])  # mean 1
    close(Filling("zero").blended(IMAGE, MAP), IMAGE * (1 - MAP[:, None]))
    colour = [-2.0, 0.5, 1.0]
    close(
        Filling(colour).blended(IMAGE, torch.ones(1, 2, 2).double()),
        tensor(colour)[..., None, None],
    )


@pytest.mark.parametrize(
    ("heatmap", "fraction", "kept"),
    [  # that share of the pixels, and at least one; the highest pixel is the first to go
        (MAP, 0.0, [[0, 2], [3, 6]]),
        (MAP, 0.25, [[0, 2], [3, 6]]),
        (MAP, 0.5, [[0, 2], [3, 0]]),
        (MAP, 1.0, [[0, 0], [0, 0]]),
        (
            tensor([[0.5, 1.0], [1.0 - 1e-8, 1.0]]),
            0.5,
            [[1, 0], [0, 6]],
        ),  # ties go to the first pixel after rounding
    ],
)
def test_hard_replaces_a_share_of_the_pixels(heatmap, fraction, kept):
    actual = Filling("zero").blended(
        IMAGE, highlighted(Explanation(heatmap=heatmap), "hard", fraction)
    )
    close(actual[0, 0], kept)


EXACT = {"rtol": 1e-12, "atol": 1e-12}


def gaussian(image):
    """Of sigma 2 pixels, with repeated borders."""
    return ndimage.gaussian_filter(image, (0, 2, 2), mode="nearest", radius=6)


def of_rises_evaluation(image):
    """Under the kernel of RISE's evaluation.py, with zeros outside."""
    impulse = np.zeros((1, 11, 11))
    impulse[0, 5, 5] = 1
    return ndimage.convolve(image, ndimage.gaussian_filter(impulse, (0, 5, 5)), mode="constant")


@pytest.mark.parametrize(
    ("filling", "blurred"),
    [(Filling("blur", 0.1), gaussian), (Filling("rise"), of_rises_evaluation)],
)
def test_blurs_are_scipys(filling, blurred):
    images = torch.randn(2, 3, 20, 30, generator=torch.Generator().manual_seed(0)).double()
    actual = filling.blended(images, torch.ones(2, 20, 30).double())
    torch.testing.assert_close(
        actual, torch.from_numpy(np.stack([*map(blurred, images.numpy())])), **EXACT
    )


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
    both = (trace.images, trace.images * (1 - explanation.heatmap[:, None]))
    for row in range(len(trace)):
        before, after = (confidence_of(trace, row, images[row], output) for images in both)
        expected = (before - after) / abs(before) if relative else before - after
        assert float(actual[row]) == pytest.approx(expected, rel=1e-9)


def test_drop_gain_and_increase_of_what_is_highlighted(trace, explanation):
    kept = trace.images * explanation.heatmap[:, None]
    drop, gain, rises = (
        metric(explanation) for metric in (average_drop, average_gain, increase_in_confidence)
    )
    for row in range(len(trace)):
        p, seen = (confidence_of(trace, row, images[row]) for images in (trace.images, kept))
        close(drop[row], max(0, 1 - seen / p))
        close(gain[row], max(0, seen - p) / (1 - p))
        assert float(rises[row]) == (seen > p)
    assert set(rises.tolist()) == {0, 1}  # else the clipping isn't seen
    assert not increase_in_confidence(
        of_map(trace, torch.ones(6, 6))
    ).any()  # of an image that stays as it is


def test_gain_keeps_its_digits_where_the_class_is_nearly_certain():
    """By hand: p = 1 - 3e-20, p' = 1 - 1e-20, which float64 can't tell from 1: the gain is 2/3."""
    logits, seen = (
        torch.tensor([[0.0, math.log(rest)]], dtype=torch.float64) for rest in (3e-20, 1e-20)
    )
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


def test_of_another_output_logit_is_the_score_and_probability_stays(trace, explain):
    """A trace of margins: S is a margin, and probabilities are still those of the logits."""
    margins = ab.cut(trace.cut_model.model, trace.layer, output="margin").trace(
        trace.images, trace.targets
    )
    explanation = explain(margins)
    blank = trace.images * (1 - explanation.heatmap[:, None])
    S = margins.forward(blank).gather(1, trace.targets[:, None])[:, 0]
    actual = confidence_drop(explanation, fill="zero", output="logit")
    torch.testing.assert_close(actual, margins.scores - S, **EXACT)

    def metric(_):
        return (
            yield PerturbedImages(
                "blank", 1, lambda rows, copies: blank[rows, None], scoring(margins, "logit")
            )
        )

    torch.testing.assert_close(plugins.of("metric", metric)(explanation)[:, 0], S, **EXACT)
    p = probabilities(trace.logits, trace.targets) - probabilities(
        trace.forward(blank), trace.targets
    )
    torch.testing.assert_close(confidence_drop(explanation, fill="zero"), p, **EXACT)


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
    """Rounding of what a map keeps moves its coherency by rounding; seeded by the pixels' bits,
    random's by 0.3.
    """
    explanation = Explanation.of(trace, methods.get(name)(trace), method=methods.get(name))
    before = adcc(explanation)["coherency"]
    kept = perturbation.kept_images
    monkeypatch.setattr(
        perturbation, "kept_images", lambda *arguments: kept(*arguments) * (1 + 1e-7)
    )
    close(adcc(replace(explanation))["coherency"], before, atol=1e-5)


def test_arcc_is_the_harmonic_mean_of_its_parts(trace):
    explanation = explained(trace, grad_cam)
    actual, parts, road = (
        arcc(explanation),
        adcc(explanation),
        road_combined(explanation, (0.2, 0.4, 0.6, 0.8)),
    )
    assert (road > 0).any()
    assert (road < 0).any()
    for row in range(len(trace)):
        of_row = [
            parts["coherency"][row],
            1 - parts["complexity"][row],
            max(0, min(1, 2 * road[row])),
        ]
        close(actual[row], 3 / sum(1 / part for part in of_row) if of_row[2] > 0 else 0)


def test_beside_adcc_an_image_is_explained_again_once(trace):
    """Of two explanations of the same map the 8 copies of ROAD are classified once, and each is
    explained again.
    """
    calls: list[int] = []

    def counted(trace: ab.Trace) -> torch.Tensor:
        calls.append(len(trace))
        return grad_cam(trace)

    expected = [measure(metric, explained(trace, grad_cam), True) for metric in BOTH]
    trace = replace(trace)  # which keeps no scores of copies
    explanations = [(replace(explained(trace, grad_cam), method=counted), True) for _ in range(2)]
    before = trace.passes.trunk_forward
    for measured in measure_all(BOTH, explanations):
        for name, (values, _) in (expected[0] | expected[1]).items():
            assert torch.equal(measured.values[name][0], values)
    assert calls == [len(trace)] * 2
    assert trace.passes.trunk_forward - before == (8 + 2) * len(trace)
