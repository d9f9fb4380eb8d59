"""Tests of methods that mask the image or the layer, against their formulas: one masked copy at a
time, resized in loops.

Functions that end in `_code` follow the authors' code. They test the options that reproduce it.
"""

import itertools
import math
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench import methods
from axiom_bench.cutting.passes import HEAD_TENSORS, LIVE_OUTPUTS
from axiom_bench.methods.fd_cam import fd_cam
from axiom_bench.methods.full_grad import full_grad
from axiom_bench.methods.group_cam import group_cam
from axiom_bench.methods.gscore_cam import gscore_cam
from axiom_bench.methods.is_cam import is_cam
from axiom_bench.methods.recipro_cam import recipro_cam
from axiom_bench.methods.score_cam import score_cam, score_cam_top
from axiom_bench.methods.ss_cam import ss_cam
from axiom_bench.methods.winsor_cam import winsor_cam
from axiom_bench.testing import CASES
from tests.methods.plain import (
    CLOSE,
    EACH_CASE,
    Row,
    assert_formula,
    generator_of,
    model_of,
    normal,
    parameter_id,
    scaled,
    upsampled,
)

SCORE_CAM_CODE = {"score": "probability", "baseline": False, "channel_softmax": False}
FORMS = [
    {"score": score, "baseline": baseline, "channel_softmax": channel_softmax}
    for score in ("logit", "probability")
    for baseline in (True, False)
    for channel_softmax in (True, False)
]


def softmax(scores: list[float]) -> list[float]:
    return [math.exp(score) / sum(map(math.exp, scores)) for score in scores]


def score_cam_of(row: Row, score: str, baseline: bool, channel_softmax: bool) -> list[float]:
    black_score = row.score(torch.zeros_like(row.image), score) if baseline else 0
    scores = [row.score(row.image * mask, score) - black_score for mask in row.masks]
    return softmax(scores) if channel_softmax else scores


def best_channels(merits: list[float], top: int) -> list[int]:
    return sorted(range(len(merits)), key=lambda k: -merits[k])[:top]


def score_cam_top_of(row: Row, ranking: str) -> list[float]:
    """Return a softmax over the scores of the two best channels. Other channels have weight 0."""
    means = [F.mean().item() for F in row.F]
    variances = [F.var(correction=0).item() for F in row.F]
    best = best_channels(variances if ranking == "variance" else means, 2)
    best_weights = softmax([row.score(row.image * row.masks[k]) for k in best])
    weights = [0.0] * len(row.F)
    for k, weight in zip(best, best_weights, strict=True):
        weights[k] = weight
    return weights


def gscore_cam_of(row: Row, top: int) -> list[float]:
    """Return a softmax over the scores of all channels. Only the best channels' scores aren't 0."""
    merits = row.g.mean((1, 2)).tolist()
    scores = [0.0] * len(merits)
    for k in best_channels(merits, top):
        scores[k] = row.score(row.image * row.masks[k])
    return softmax(scores)


def is_cam_of(row: Row) -> list[float]:
    means = []
    for mask in row.masks:
        scores = [row.score(row.image * mask * step / 4) for step in (1, 2, 3, 4)]
        means.append(sum(scores) / 4)
    return softmax(means)


def is_cam_code(row: Row) -> list[float]:
    """Follow ISS_CAM2 of algo.py, github.com/r0cketr1kky/ISS-CAM_resources: one pass of the sum of
    i/10 X H_k.
    """
    weights = []
    for plane in row.F:
        masked = row.image * scaled(upsampled(plane, row.case.size))
        accumulated = sum(masked * step / 10 for step in range(1, 11))
        weights.append(row.score(accumulated, "probability"))
    return weights


def draws_of(row: Row, noise: str) -> Tensor:
    shape = (3, 1 if noise == "map" else 3, *row.case.size)
    return torch.randn(shape, generator=generator_of(row.image, 7), dtype=torch.float64)


def ss_cam_of(row: Row, noise: str) -> list[float]:
    means = []
    for mask in row.masks:
        scores = []
        for draw in draws_of(row, noise):
            image_noise = row.image * draw if noise == "map" else draw
            scores.append(row.score(row.image * mask + 0.5 * image_noise))
        means.append(sum(scores) / 3)
    return softmax(means)


def ss_cam_code(row: Row, noise: str) -> list[float]:
    """Follow cam/sscam.py, github.com/r0cketr1kky/SS-CAM: SSCAM1 adds noise to the map that masks
    the image, SSCAM2 adds noise to X H_k.
    """
    weights = []
    for plane in upsampled(row.F, row.case.size):
        x = plane if noise == "map" else row.image * scaled(plane)
        noisy = [x + (2 / (x.max() - x.min())) ** 2 * draw for draw in draws_of(row, noise)]
        copies = [row.image * mask for mask in noisy] if noise == "map" else noisy
        weights.append(sum(row.score(copy, "probability") for copy in copies) / 3)
    return weights


def blurred(image: Tensor, kernel: int, sigma: float) -> Tensor:
    """Blur an image with a Gaussian kernel in two dimensions. The image is mirrored at its borders
    as often as the kernel reaches.
    """
    reach = kernel // 2
    weights = {d: math.exp(-(d**2) / (2 * sigma**2)) for d in range(-reach, reach + 1)}

    def mirrored(position: int, length: int) -> int:
        while not 0 <= position < length:
            position = -position if position < 0 else 2 * (length - 1) - position
        return position

    def matrix(length: int) -> Tensor:
        """Return each position's weights for all positions (length, length). Each row sums to 1."""
        shares = torch.zeros(length, length, dtype=torch.float64)
        for position in range(length):
            for d, weight in weights.items():
                shares[position, mirrored(position + d, length)] += weight / sum(weights.values())
        return shares

    return matrix(image.shape[1]) @ image @ matrix(image.shape[2]).T


def group_cam_of(row: Row, members: list[tuple[int, ...]], score: str) -> Tensor:
    """Return the map over a background whose blur reaches further than the image's sides."""
    background = blurred(row.image, 25, 4.0)
    expected = torch.zeros(row.case.size, dtype=torch.float64)
    for group in members:
        plane = sum(row.g[k].mean() * row.F[k] for k in group).clamp(min=0)
        plane[plane <= np.percentile(plane.numpy(), 70)] = 0
        mask = row.mask(plane)
        kept = row.score(row.image * mask + background * (1 - mask), score)
        expected += (kept - row.score(background, score)) * mask
    return expected


def group_cam_code(row: Row) -> Tensor:
    """Follow cam/groupcam.py, github.com/wofmanaf/Group-CAM. Groups whose map is zero are left out:
    the authors' code gives NaN for them.
    """
    background = blurred(row.image, 5, 4.0)
    background_score = row.score(background, "probability")
    expected = torch.zeros(row.case.size, dtype=torch.float64)
    for plane, gradient in zip(row.F, row.g, strict=True):  # four groups of one channel each
        plane = upsampled((gradient.mean() * plane).relu(), row.case.size)
        if plane.max() > 0:
            mask = scaled(plane)
            mixed = row.image * mask + background * (1 - mask)
            gain = row.score(mixed, "probability") - background_score
            expected += max(gain, 0) * plane
    return expected


def recipro_cam_of(
    row: Row, window: dict[int, float], score: str, centre: bool = False
) -> list[list[float]]:
    """Return the score of each position's vector, spread over its neighbours by a window.

    Args:
        window: Weights of neighbours at most one step away in each direction, by |dy| + |dx|.
        centre: True if the neighbours repeat the vector at the centre, as _mosaic_feature does in
            src/recipro_cam.py of github.com/sybyun/ReciproCAM.
    """
    height, width = row.F.shape[1:]
    positions = list(itertools.product(range(height), range(width)))

    def window_around(y: int, x: int) -> Tensor:
        maps = torch.zeros_like(row.F)
        for v, u in positions:
            if abs(v - y) <= 1 and abs(u - x) <= 1:
                vector = row.F[:, y, x] if centre else row.F[:, v, u]
                maps[:, v, u] = window.get(abs(v - y) + abs(u - x), 0) * vector
        return maps

    return [[row.score_at(window_around(y, x), score) for x in range(width)] for y in range(height)]


def fd_cam_of(row: Row, quantile: float) -> Tensor:
    """Return the weights from scores with groups of similar channels switched on and off."""
    scores = []
    for k in range(4):
        cosines = []
        for F in row.F:
            cosine = (row.F[k] * F).sum() / (row.F[k].norm() * F.norm())
            cosines.append(cosine.item())
        threshold = np.quantile(cosines, quantile)
        group = torch.tensor([cosine > threshold for cosine in cosines])[:, None, None]
        scores.append(row.score_at(group * row.F) + row.S - row.score_at(~group * row.F))
    switched = scaled(torch.tensor(scores, dtype=torch.float64))
    return switched.exp() * scaled(row.g.mean((1, 2))) - 0.5


def full_grad_code(row: Row) -> Tensor:
    """Follow saliency/fullgrad.py, github.com/idiap/fullgrad-saliency: only the layers smaller than
    the image differ.
    """
    model = model_of(row.case)
    leaf = row.image[None].clone().requires_grad_()
    first = model.features[0](leaf)
    second = model.features[2](first.clone().relu())
    score = model.head(model.features[3](second.clone()))[0, row.target]
    gradients = torch.autograd.grad(score, [leaf, first, second])
    biases = [model.features[layer].bias.detach()[:, None, None] for layer in (0, 2)]

    total = torch.zeros(row.case.size, dtype=torch.float64)
    for factor, gradient in zip([row.image, *biases], gradients, strict=True):
        layer = scaled((factor * gradient[0]).abs())[None]
        planes = functional.interpolate(layer, row.case.size, mode="bilinear", align_corners=True)
        total += planes[0].sum(0)
    return total


def winsor_cam_code(row: Row, percentile: float) -> Tensor:
    """Follow winsorcam.py, github.com/USD-AI-ResearchLab/Winsor-CAM, with the settings of its
    example.
    """
    model = model_of(row.case)
    leaf = row.image[None].clone().requires_grad_()
    first = model.features[0](leaf)
    second = model.features[2](first.clone().relu())
    score = model.head(model.features[3](second.clone()))[0, row.target]
    gradients = torch.autograd.grad(score, [first, second])

    maps = []
    importances = []
    for F, g in zip((first, second), gradients, strict=True):
        weights = g.mean((2, 3))[0]
        maps.append(scaled((weights[:, None, None] * F[0].detach()).sum(0).relu()))
        importances.append(max(weights.mean().item(), 0))
    positive = [importance for importance in importances if importance > 0]
    limit = np.percentile(positive, percentile) if positive else 0
    clipped = [min(importance, limit) for importance in importances]
    low = min([importance for importance in clipped if importance > 0], default=0)
    high = max(clipped)

    size = max(plane.shape for plane in maps)
    total = torch.zeros(size, dtype=torch.float64)
    for plane, importance in zip(maps, clipped, strict=True):
        if importance == 0:
            continue
        weight = 1 if high == low else 0.1 + (importance - low) / (high - low) * 0.9
        total += weight * upsampled(plane, size)
    return upsampled(total, row.case.size)


# Weights of a window by |dy| + |dx|.
GAUSSIAN = {0: 1 / 4, 1: 1 / 8, 2: 1 / 16}
POINT = {0: 1.0}
# The channels of each group, by the number of groups.
GROUPS = {
    1: [(0, 1, 2, 3)],
    2: [(0, 1), (2, 3)],
    3: [(0,), (1,), (2, 3)],
    32: [(0,), (1,), (2,), (3,)],
}
GROUP_CAM_CODE = {
    "groups": 4,
    "percentile": None,
    "kernel": 5,
    "sigma": 4.0,
    "relu": True,
    "scaled": False,
}
SS_CAM_CODE = {"samples": 3, "relative": True, "seed": 7, **SCORE_CAM_CODE}


def formulas() -> Iterator[tuple]:
    """Yield methods, their parameters and the formula of the paper or its code for one image."""
    for form in FORMS:
        yield score_cam, form, partial(score_cam_of, **form)
    for ranking in ("variance", "mean"):
        params = {"top": 2, "ranking": ranking}
        yield score_cam_top, params, partial(score_cam_top_of, ranking=ranking)
    for top in (1, 2, 300):
        yield gscore_cam, {"top": top}, partial(gscore_cam_of, top=top)
    yield is_cam, {"steps": 4}, is_cam_of
    yield is_cam, {"accumulated": True, **SCORE_CAM_CODE}, is_cam_code
    for noise in ("map", "input"):
        params = {"samples": 3, "sigma": 0.5, "noise": noise, "seed": 7}
        yield ss_cam, params, partial(ss_cam_of, noise=noise)
    for noise, mask in (("map", "raw"), ("input", "scaled")):
        params = {"noise": noise, "mask": mask, **SS_CAM_CODE}
        yield ss_cam, params, partial(ss_cam_code, noise=noise)
    for groups, score in ((1, "logit"), (2, "probability"), (3, "logit"), (32, "probability")):
        params = {"groups": groups, "kernel": 25, "sigma": 4.0, "score": score}
        yield group_cam, params, partial(group_cam_of, members=GROUPS[groups], score=score)
    yield group_cam, GROUP_CAM_CODE, group_cam_code
    gaussian = partial(recipro_cam_of, window=GAUSSIAN, score="probability")
    yield recipro_cam, {}, gaussian
    point = partial(recipro_cam_of, window=POINT, score="logit")
    yield recipro_cam, {"gaussian": False, "score": "logit"}, point
    yield recipro_cam, {"vectors": "centre"}, partial(gaussian, centre=True)
    for quantile in (0.95, 0.5, 0.0):
        yield fd_cam, {"quantile": quantile}, partial(fd_cam_of, quantile=quantile)
    yield full_grad, {"align_corners": True}, full_grad_code
    for percentile in (0.0, 40.0, 90.0):
        params = {"percentile": percentile}
        yield winsor_cam, params, partial(winsor_cam_code, percentile=percentile)


@EACH_CASE
@pytest.mark.parametrize(("method", "params", "formula"), list(formulas()), ids=parameter_id)
def test_equals_the_formula(case, method, params, formula):
    assert_formula(case, partial(method, **params), formula)


@EACH_CASE
def test_ablation_cam_top_selects_the_same_channels(case):
    trace = case.trace()
    top = methods.get("ablation_cam_top").call.func(trace, top=2)
    is_selected = score_cam_top(case.trace(), top=2) != 0
    ablation_weights = methods.get("ablation_cam")(case.trace())
    assert torch.equal(top, torch.where(is_selected, ablation_weights, 0))
    assert (top != 0).sum() == 2 * case.rows


@pytest.mark.parametrize(
    # Passes per image of four channels. If `head` is None, the head's passes aren't checked.
    ("method", "trunk", "head"),
    [
        (score_cam, 4, None),
        (partial(score_cam_top, top=2), 2, None),
        (partial(gscore_cam, top=2), 2, None),
        (partial(gscore_cam, top=300), 4, None),
        (partial(is_cam, accumulated=True), 4, None),
        (fd_cam, 0, 2 * 4),
    ],
)
def test_passes(method, trunk, head):
    trace = CASES["dense"].trace()
    trunk_before = trace.passes.trunk_forward
    head_before = trace.passes.head_forward
    method(trace)
    assert trace.passes.trunk_forward - trunk_before == trunk * len(trace)
    assert head in (None, (trace.passes.head_forward - head_before) / len(trace))


def test_score_cam_and_is_cam_share_passes():
    """Check that the baseline runs only when it is used, and that masked copies run once."""
    trace = CASES["dense"].trace()
    weights = score_cam(trace)
    before = trace.passes.trunk_forward

    assert torch.equal(is_cam(trace, steps=1), weights)
    score_cam(trace)
    assert trace.passes.trunk_forward == before
    score_cam(trace, channel_softmax=False)
    assert trace.passes.trunk_forward == before + 1
    is_cam(trace, steps=3)
    assert trace.passes.trunk_forward == before + 1 + 2 * 4 * len(trace)


def test_ss_cam_of_a_black_image_has_no_relative_noise():
    """Check that the score is the image's own: X H_k is 0 everywhere, so it has no range."""
    case = CASES["dense"]
    black = torch.zeros(1, 3, *case.size, dtype=torch.float64)
    trace = ab.trace(case.model(), case.layer, black, [1])

    weights = ss_cam(trace, samples=2, relative=True, noise="input", **SCORE_CAM_CODE)

    probability = trace.logits.softmax(1)[0, 1].item()
    varying = trace.activations.amax((2, 3)) != trace.activations.amin((2, 3))
    assert varying.any()
    expected = [probability] * int(varying.sum())
    assert weights[..., 0, 0][varying].tolist() == pytest.approx(expected, rel=1e-12)


CALLS = {
    "score_cam": score_cam,
    "is_cam": lambda trace: is_cam(trace, steps=2),
    "ss_cam": lambda trace: ss_cam(trace, samples=3),
    "group_cam": lambda trace: group_cam(trace, groups=3).raw,
    "recipro_cam": lambda trace: recipro_cam(trace).raw,
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("rows", [1, 2])
def test_memory_limits_rows_of_a_pass_without_changing_values(name, rows, monkeypatch):
    case = CASES["dense"]
    expected = CALLS[name](case.trace())
    sizes = []
    run = nn.Linear.forward  # every pass goes through the network's last layers

    def forward(self, rows):
        sizes.append(len(rows))
        return run(self, rows)

    monkeypatch.setattr(nn.Linear, "forward", forward)
    trace = case.trace()
    if name == "recipro_cam":
        bytes_per_row = HEAD_TENSORS * trace.activations[0].nbytes
    else:
        widest = trace.cut_model.trunk_and_head.sizes.widest
        bytes_per_row = LIVE_OUTPUTS * widest * trace.images[0].nbytes
    trace.cut_model.limits.memory = math.ceil(rows * bytes_per_row)
    sizes.clear()

    actual = CALLS[name](trace)

    assert max(sizes) == rows
    torch.testing.assert_close(actual, expected, **CLOSE)


class ThreeMaps(nn.Module):
    """A head of two logits: a weighted sum of the three channels' means, and a sum of one mean and
    one pixel.
    """

    def forward(self, maps: Tensor) -> Tensor:
        means = maps.mean((2, 3))
        weights = torch.tensor([1.0, 2.0, -1.0]).to(maps)
        return torch.stack([means @ weights, means[:, 0] + maps[:, 1, 0, 0]], 1)


def test_constant_channel_is_skipped(readout):
    """Check a layer that equals the image. Its second channel is constant, but not zero."""
    image = normal(1, 3, 4, 5)
    image[:, 1] = 0.1
    trace = readout(ThreeMaps(), image)
    before = trace.passes.trunk_forward

    weights = score_cam(trace)[0, :, 0, 0]

    assert trace.passes.trunk_forward - before == 2
    assert weights[1] == score_cam(trace, channel_softmax=False)[0, 1] == 0
    assert weights[[0, 2]].sum().item() == pytest.approx(1, abs=1e-6)  # float32
    assert torch.equal(trace.activations, image.float())
    assert torch.equal(score_cam_top(trace, top=3) != 0, score_cam(trace) != 0)


@pytest.mark.parametrize("name", ["score_cam", "score_cam_top", "is_cam", "ss_cam"])
def test_layer_of_constant_channels_has_zero_weights(name, readout):
    trace = readout(ThreeMaps(), torch.ones(2, 3, 4, 4))
    assert not methods.get(name)(trace).any()


def test_channel_ranking_and_ties(readout):
    plane = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    maps = torch.stack([plane + 5, 2 * plane, 2 * plane + 1])[None]
    trace = readout(ThreeMaps(), maps)
    is_best_by_variance = score_cam_top(trace, top=1) != 0
    assert is_best_by_variance.flatten().tolist() == [False, True, False]
    is_best_by_mean = score_cam_top(trace, top=1, ranking="mean") != 0
    assert is_best_by_mean.flatten().tolist() == [True, False, False]
