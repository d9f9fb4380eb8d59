"""Perturbed images by hand, and the confidence they leave."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from scipy import ndimage

from bench import BenchError
from metrics.average_drop import average_drop
from metrics.confidence_drop import confidence_drop
from metrics.perturbation import perturb, probabilities

IMAGE = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]] * 2 + [[[0.0, 0.0], [0.0, 4.0]]]]).double()  # (1, 3, 2, 2)
MAP = torch.tensor([[[1.0, 0.25], [0.0, 0.5]]]).double()
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def test_soft_mean_blends_each_pixel_with_its_channels_mean():
    found = perturb(IMAGE, MAP)
    expected = torch.tensor([[3.0, 0.75 * 2 + 0.25 * 3], [3.0, 0.5 * 6 + 0.5 * 3]]).double()  # mean 3
    torch.testing.assert_close(found[0, 0], expected, **EXACT)
    torch.testing.assert_close(found[0, 2], torch.tensor([[1.0, 0.25], [0.0, 2.5]]).double(), **EXACT)  # mean 1


def test_soft_zero_fades_to_zero():
    torch.testing.assert_close(perturb(IMAGE, MAP, fill="zero"), IMAGE * (1 - MAP[:, None]), **EXACT)


@pytest.mark.parametrize(("fraction", "left"), [(0.0, 3), (0.25, 3), (0.5, 2), (1.0, 0)])
def test_hard_replaces_that_share_of_the_pixels_and_at_least_one(fraction, left):
    found = perturb(IMAGE, MAP, mode="hard", fraction=fraction, fill="zero")
    assert int((found[0, 0] != 0).sum()) == left
    assert found[0, 0, 0, 0] == 0  # the highest pixel is the first to go


def test_hard_ties_go_to_the_first_pixel_after_rounding():
    tied = torch.tensor([[[0.5, 1.0], [1.0 - 1e-8, 1.0]]]).double()
    found = perturb(IMAGE, tied, mode="hard", fraction=0.5, fill="zero")
    torch.testing.assert_close(found[0, 0], torch.tensor([[1.0, 0.0], [0.0, 6.0]]).double(), **EXACT)


def test_blur_is_scipys_gaussian_with_repeated_borders():
    images = torch.randn(2, 3, 20, 30, generator=torch.Generator().manual_seed(0)).double()
    found = perturb(images, torch.ones(2, 20, 30).double(), fill="blur", blur=0.1)  # sigma 2 pixels
    expected = ndimage.gaussian_filter(images.numpy(), (0, 0, 2, 2), mode="nearest", radius=6)
    torch.testing.assert_close(found, torch.from_numpy(expected), **EXACT)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({"mode": "middle"}, "soft"), ({"fill": "grey"}, "blur"), ({"mode": "hard", "fraction": 2}, "2")],
)
def test_wrong_settings_are_named(wrong, named):
    with pytest.raises(BenchError, match=named):
        perturb(IMAGE, MAP, **wrong)


def test_probability_is_the_softmax_of_the_target_in_float64():
    found = probabilities(torch.tensor([[0.0, math.log(3.0)]]), torch.tensor([1]))
    assert found.dtype == torch.float64
    assert float(found) == pytest.approx(0.75, abs=1e-7)  # log 3 is rounded to float32


def probability(trace, images, row):
    logits = trace.forward(images).tolist()[row]
    return math.exp(logits[int(trace.targets[row])]) / sum(math.exp(logit) for logit in logits)


@pytest.mark.parametrize("output", ["probability", "logit"])
@pytest.mark.parametrize("relative", [False, True])
def test_confidence_drop_is_before_minus_after(trace, explanation, output, relative):
    found = confidence_drop(explanation, fill="zero", output=output, relative=relative)
    perturbed = trace.images * (1 - explanation.heatmap[:, None])
    for row, target in enumerate(trace.targets.tolist()):
        if output == "probability":
            before, after = (probability(trace, images, row) for images in (trace.images, perturbed))
        else:
            before, after = (float(trace.forward(images)[row, target]) for images in (trace.images, perturbed))
        expected = (before - after) / abs(before) if relative else before - after
        assert float(found[row]) == pytest.approx(expected, rel=1e-9)


def test_confidence_drop_names_a_wrong_output(explanation):
    with pytest.raises(BenchError, match="'probability' or 'logit'"):
        confidence_drop(explanation, output="softmax")


def test_average_drop_keeps_what_is_highlighted_and_clips_gains(trace, explanation):
    kept = trace.images * explanation.heatmap[:, None]
    drops = [1 - probability(trace, kept, row) / probability(trace, trace.images, row) for row in range(len(trace))]
    assert min(drops) < 0 < max(drops)  # else the clipping isn't seen
    found = average_drop(explanation)
    torch.testing.assert_close(found, torch.tensor(drops, dtype=torch.float64).clamp(min=0), **EXACT)


def test_a_map_of_ones_keeps_everything_and_loses_everything(trace, explanation):
    ones = replace(explanation, heatmap=torch.ones_like(explanation.heatmap))
    torch.testing.assert_close(average_drop(ones), torch.zeros(len(trace)).double(), **EXACT)
    lost = confidence_drop(ones, fill="zero")
    blank = probabilities(trace.forward(torch.zeros_like(trace.images)), trace.targets)
    torch.testing.assert_close(lost, probabilities(trace.logits, trace.targets) - blank, **EXACT)
