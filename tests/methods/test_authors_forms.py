"""Options that give the form of the authors' code, against the steps of that code: one image and one map at a time."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench.methods.finer_cam import finer_cam
from axiom_bench.methods.full_grad import full_grad
from axiom_bench.methods.group_cam import group_cam
from axiom_bench.methods.is_cam import is_cam
from axiom_bench.methods.recipro_cam import recipro_cam
from axiom_bench.methods.ss_cam import ss_cam
from axiom_bench.testing import CASES, Case
from tests.methods.plain import (
    CLOSE,
    EACH_CASE,
    generator_of,
    head_of,
    normal,
    scaled,
    score_of,
    seeded,
    uniform,
    upsampled,
)

SCORE_CAM_CODE = {"score": "probability", "baseline": False, "channel_softmax": False}
GAUSSIAN = [[1 / 16, 1 / 8, 1 / 16], [1 / 8, 1 / 4, 1 / 8], [1 / 16, 1 / 8, 1 / 16]]


def probability(case: Case, image: Tensor, target: int) -> float:
    return score_of(case, image, target, "probability")


@EACH_CASE
def test_recipro_cam_repeats_the_vector_at_the_centre(case):
    """github.com/sybyun/ReciproCAM, src/recipro_cam.py, _mosaic_feature."""
    trace = case.trace()
    actual = recipro_cam(trace, vectors="centre").raw
    for i, planes in enumerate(trace.activations):
        height, width = planes.shape[1:]
        for y, x in itertools.product(range(height), range(width)):
            seen = torch.zeros_like(planes)
            for dy, dx in itertools.product((-1, 0, 1), repeat=2):
                if 0 <= y + dy < height and 0 <= x + dx < width:
                    seen[:, y + dy, x + dx] = planes[:, y, x] * GAUSSIAN[dy + 1][dx + 1]
            with torch.no_grad():
                expected = head_of(case)(seen[None]).softmax(1)[0, i % 3].item()
            assert actual[i, y, x].item() == pytest.approx(expected, rel=1e-11)
    assert not torch.allclose(actual, recipro_cam(trace).raw)


@EACH_CASE
def test_recipro_cam_of_single_positions_has_one_form(case):
    maps = [recipro_cam(case.trace(), gaussian=False, vectors=vectors).raw for vectors in ("own", "centre")]
    torch.testing.assert_close(*maps, **CLOSE)


@EACH_CASE
def test_group_cam_of_the_authors_code(case):
    """github.com/wofmanaf/Group-CAM, cam/groupcam.py; its maps are nonzero for every group where one isn't NaN."""
    trace = case.trace()
    actual = group_cam(trace, groups=4, percentile=None, kernel=5, sigma=4.0, relu=True, scaled=False).raw
    distance = torch.arange(-2, 3, dtype=torch.float64)
    weights = torch.exp(-(distance**2) / 32)
    window = torch.outer(weights, weights) / weights.sum() ** 2
    negative = 0
    for i, image in enumerate(case.images()):
        padded = functional.pad(image[None], (2, 2, 2, 2), mode="reflect")
        blurred = functional.conv2d(padded, window.expand(3, 1, 5, 5), groups=3)[0]
        weighted = trace.gradients[i].mean((1, 2))[:, None, None] * trace.activations[i]
        expected = torch.zeros(case.size, dtype=torch.float64)
        for group in weighted.chunk(4):
            plane = upsampled(group.sum(0).relu(), case.size)
            if plane.max() > 0:
                mask = scaled(plane)
                gain = probability(case, image * mask + blurred * (1 - mask), i % 3) - probability(case, blurred, i % 3)
                negative += gain < 0
                expected += max(gain, 0) * plane
        torch.testing.assert_close(actual[i], expected, **CLOSE)
    assert negative  # so that the ReLU matters


@EACH_CASE
def test_full_grad_with_aligned_corners(case):
    """github.com/idiap/fullgrad-saliency, saliency/fullgrad.py: only the layers smaller than the image differ."""
    trace = case.trace()
    actual, default = full_grad(trace, align_corners=True).raw, full_grad(trace).raw
    for i, image in enumerate(case.images()):
        model, leaf = case.model(), image[None].clone().requires_grad_()
        first = model.features[0](leaf)
        second = model.features[2](first.clone().relu())
        hidden = model.features[3](second.clone())
        (score,) = model.head(hidden)[0, i % 3 : i % 3 + 1]
        gradients = torch.autograd.grad(score, [leaf, first, second])
        biases = [model.features[layer].bias.detach()[:, None, None] for layer in (0, 2)]
        expected = torch.zeros(case.size, dtype=torch.float64)
        for factor, gradient in zip([image, *biases], gradients, strict=True):
            layer = scaled((factor * gradient[0]).abs())
            expected += functional.interpolate(layer[None], case.size, mode="bilinear", align_corners=True)[0].sum(0)
        torch.testing.assert_close(actual[i], expected, **CLOSE)
    assert not torch.allclose(actual, default)


@pytest.mark.parametrize("references", [1, 2, 3])
def test_finer_cam_weighted_by_probability(references, readout):
    """github.com/Imageomics/Finer-CAM, FinerWeightedTarget: the gradient of the whole target, softmax included."""
    head = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 9), nn.ReLU(), nn.Linear(9, 7)), 3)
    trace = readout(head, uniform(3, 3, 3, 4), target=2)
    actual = finer_cam(trace, gamma=1.0, references=references, weighting="probability")
    for row, maps in enumerate(trace.activations):
        leaf = maps[None].clone().requires_grad_()
        logits = head(leaf)[0]
        nearest = sorted((abs(logits[c].item() - logits[2].item()), c) for c in range(7) if c != 2)
        chosen = [c for _, c in nearest[:references]]
        p = logits.softmax(0)
        target = sum(p[c] * (logits[2] - logits[c]) for c in chosen) / sum(p[c] for c in chosen)
        (gradient,) = torch.autograd.grad(target, leaf)
        torch.testing.assert_close(actual[row, :, 0, 0], gradient[0].mean((1, 2)), **CLOSE)


@EACH_CASE
@pytest.mark.parametrize("noise", ["map", "input"])
def test_ss_cam_of_the_authors_code(case, noise):
    """github.com/r0cketr1kky/SS-CAM, cam/sscam.py: SSCAM1 masks by the map with noise, SSCAM2 adds it to X H_k."""
    expected = []
    for i, image in enumerate(case.images()):
        shape = (3, 1 if noise == "map" else 3, *case.size)
        draws = torch.randn(shape, generator=generator_of(image, 7), dtype=torch.float64)
        weights = []
        for plane in case.trace().activations[i]:
            plane = upsampled(plane, case.size)
            x = plane if noise == "map" else image * scaled(plane)
            noisy = [x + (2 / (x.max() - x.min())) ** 2 * n for n in draws]
            copies = [image * n for n in noisy] if noise == "map" else noisy
            weights.append(sum(probability(case, copy, i % 3) for copy in copies) / 3)
        expected.append(weights)
    mask = "raw" if noise == "map" else "scaled"
    actual = ss_cam(case.trace(), samples=3, relative=True, noise=noise, mask=mask, seed=7, **SCORE_CAM_CODE)
    torch.testing.assert_close(actual[..., 0, 0], torch.tensor(expected, dtype=torch.float64), **CLOSE)


def test_ss_cam_of_a_black_image_has_no_relative_noise():
    """X H_k is 0 everywhere, so it has no range: the score is that of the image itself."""
    case = CASES["dense"]
    trace = ab.trace(case.model(), case.layer, torch.zeros(1, 3, *case.size, dtype=torch.float64), [1])
    weights = ss_cam(trace, samples=2, relative=True, noise="input", **SCORE_CAM_CODE)
    alone = trace.logits.softmax(1)[0, 1].item()
    varying = trace.activations.amax((2, 3)) != trace.activations.amin((2, 3))
    assert varying.any()
    assert weights[..., 0, 0][varying].tolist() == pytest.approx([alone] * int(varying.sum()), rel=1e-12)


@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("noise", ["map", "input"])
def test_ss_cam_of_images_of_any_number_of_channels(channels, noise):
    layers = (nn.ReLU(), nn.Flatten(), nn.Linear(4 * 4 * 5, 3))
    model = seeded(lambda: nn.Sequential(nn.Conv2d(channels, 4, 3), *layers))
    trace = ab.trace(model, "1", normal(2, channels, 6, 7))
    weights = ss_cam(trace, samples=3, noise=noise)
    assert weights.shape == (2, 4, 1, 1)
    assert not torch.allclose(weights, ss_cam(trace, samples=3, sigma=0.0, noise=noise))


@EACH_CASE
def test_is_cam_of_the_sum_of_masked_images(case):
    """github.com/r0cketr1kky/ISS-CAM_resources, algo.py, ISS_CAM2: one pass of the sum of i/10 X H_k."""
    trace, expected = case.trace(), []
    for i, image in enumerate(case.images()):
        masked = [image * scaled(upsampled(plane, case.size)) for plane in trace.activations[i]]
        copies = [sum(copy * step / 10 for step in range(1, 11)) for copy in masked]
        expected.append([probability(case, copy, i % 3) for copy in copies])
    before = trace.passes.trunk_forward
    actual = is_cam(trace, accumulated=True, **SCORE_CAM_CODE)
    assert trace.passes.trunk_forward - before == 4 * case.rows
    torch.testing.assert_close(actual[..., 0, 0], torch.tensor(expected, dtype=torch.float64), **CLOSE)
