"""Methods that mask the image or the layer, against their formulas: one masked copy at a time, resized in loops."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import cache, partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench import methods
from axiom_bench.cutting.passes import HEAD_TENSORS, LIVE_OUTPUTS
from axiom_bench.methods.fd_cam import fd_cam
from axiom_bench.methods.group_cam import group_cam
from axiom_bench.methods.gscore_cam import gscore_cam
from axiom_bench.methods.is_cam import is_cam
from axiom_bench.methods.recipro_cam import recipro_cam
from axiom_bench.methods.score_cam import score_cam, score_cam_top
from axiom_bench.methods.ss_cam import ss_cam
from axiom_bench.testing import CASES, Case
from tests.methods.plain import (
    CLOSE,
    EACH_CASE,
    chosen,
    generator_of,
    head_of,
    maps_of,
    normal,
    resized,
    scaled,
    score_of,
)

FORMS = [
    {"score": score, "baseline": baseline, "channel_softmax": softmax}
    for score, baseline, softmax in itertools.product(("logit", "probability"), (True, False), (True, False))
]


def mask_of(plane: Tensor, case: Case) -> Tensor:
    return scaled(torch.tensor(resized(plane.tolist(), *case.size), dtype=torch.float64))


def combined(scores: list[float], at_zero: float, baseline: bool, channel_softmax: bool) -> list[float]:
    """The weights of the channels that were run."""
    scores = [score - at_zero if baseline else score for score in scores]
    if not channel_softmax:
        return scores
    return [math.exp(score) / sum(map(math.exp, scores)) for score in scores]


def assert_weights(actual: Tensor, expected: list[list[float]]) -> None:
    torch.testing.assert_close(actual[..., 0, 0], torch.tensor(expected, dtype=torch.float64), **CLOSE)


def weights_of(case: Case, weigh: Callable[[Tensor, Tensor, int], list[float]]) -> list[list[float]]:
    """Of each image: the weights by its maps (K, H, W) and its class."""
    rows = enumerate(zip(case.images(), maps_of(case), strict=True))
    return [weigh(image, planes, i % 3) for i, (image, planes) in rows]


@EACH_CASE
@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(map(str, form.values())))
def test_score_cam_forms(case, form):
    def weigh(image: Tensor, planes: Tensor, target: int) -> list[float]:
        copies = [image * mask_of(plane, case) for plane in planes]
        *scores, at_zero = (score_of(case, copy, target, form["score"]) for copy in (*copies, torch.zeros_like(image)))
        return combined(scores, at_zero, form["baseline"], form["channel_softmax"])

    assert_weights(score_cam(case.trace(), **form), weights_of(case, weigh))


@EACH_CASE
@pytest.mark.parametrize("ranking", ["variance", "mean"])
def test_score_cam_top_runs_only_the_top_channels(case, ranking):
    def weigh(image: Tensor, planes: Tensor, target: int) -> list[float]:
        merits = [(plane.var(correction=0) if ranking == "variance" else plane.mean()).item() for plane in planes]
        best = sorted(range(len(planes)), key=lambda k: -merits[k])[:2]
        scores = [score_of(case, image * mask_of(planes[k], case), target, "logit") for k in best]
        weights = dict(zip(best, combined(scores, 0, False, True), strict=True))
        return [weights.get(k, 0.0) for k in range(len(planes))]

    trace = case.trace()
    before = trace.passes.trunk_forward
    assert_weights(score_cam_top(trace, top=2, ranking=ranking), weights_of(case, weigh))
    assert trace.passes.trunk_forward - before == 2 * len(trace)


@EACH_CASE
def test_ablation_cam_top_selects_the_same_channels(case):
    top = methods.get("ablation_cam_top").call.func(case.trace(), top=2)
    kept = score_cam_top(case.trace(), top=2) != 0
    assert torch.equal(top, torch.where(kept, methods.get("ablation_cam")(case.trace()), 0))
    assert (top != 0).sum() == 2 * case.rows


@pytest.mark.parametrize(
    "method",
    [partial(score_cam_top, top=4), partial(ss_cam, samples=2, sigma=0.0), gscore_cam],
    ids=["all channels", "no noise", "all channels by gradient"],
)
def test_equals_score_cam(method):
    trace = CASES["signed"].trace()
    torch.testing.assert_close(method(trace), score_cam(trace), **CLOSE)


@EACH_CASE
def test_is_cam_averages_over_mask_strengths(case):
    def weigh(image: Tensor, planes: Tensor, target: int) -> list[float]:
        masked = [image * mask_of(plane, case) for plane in planes]
        scores = [sum(score_of(case, copy * n / 4, target, "logit") for n in (1, 2, 3, 4)) / 4 for copy in masked]
        return combined(scores, 0, False, True)

    assert_weights(is_cam(case.trace(), steps=4), weights_of(case, weigh))


@EACH_CASE
@pytest.mark.parametrize("noise", ["map", "input"])
def test_ss_cam_averages_over_noise(case, noise):
    def weigh(image: Tensor, planes: Tensor, target: int) -> list[float]:
        shape = (3, 1 if noise == "map" else 3, *case.size)
        draws = torch.randn(shape, generator=generator_of(image, 7), dtype=torch.float64)
        scores = []
        for mask in (mask_of(plane, case) for plane in planes):
            noisy = [image * (mask + 0.5 * n) if noise == "map" else image * mask + 0.5 * n for n in draws]
            scores.append(sum(score_of(case, copy, target, "logit") for copy in noisy) / 3)
        return combined(scores, 0, False, True)

    assert_weights(ss_cam(case.trace(), samples=3, sigma=0.5, noise=noise, seed=7), weights_of(case, weigh))


def test_passes_of_score_cam_and_is_cam():
    """The baseline is run where it is used, and masked copies once."""
    trace = CASES["dense"].trace()
    weights, before = score_cam(trace), trace.passes.trunk_forward
    assert torch.equal(is_cam(trace, steps=1), weights)
    for method, passes in (
        (score_cam, 0),
        (partial(score_cam, channel_softmax=False), 1),
        (partial(is_cam, steps=3), 2 * 4 * len(trace) + 1),
    ):
        method(trace)
        assert trace.passes.trunk_forward - before == passes
    fresh = CASES["dense"].trace()
    before = fresh.passes.trunk_forward
    score_cam(fresh)
    assert fresh.passes.trunk_forward - before == 4 * len(fresh)


def blurred(image: Tensor, kernel: int, sigma: float) -> Tensor:
    """Every pixel the weighted mean of its neighbours in two dimensions; mirrored at the borders, again and again."""

    def mirrored(place: int, length: int) -> int:
        while not 0 <= place < length:
            place = -place if place < 0 else 2 * (length - 1) - place
        return place

    def matrix(length: int) -> Tensor:
        """What each place takes of each other: (length, length), rows of sum 1."""
        weights = {d: math.exp(-(d**2) / (2 * sigma**2)) for d in range(-(kernel // 2), kernel // 2 + 1)}
        taken = torch.zeros(length, length, dtype=torch.float64)
        for place, (d, weight) in itertools.product(range(length), weights.items()):
            taken[place, mirrored(place + d, length)] += weight / sum(weights.values())
        return taken

    return matrix(image.shape[1]) @ image @ matrix(image.shape[2]).T


@cache
def blurred_image(i: int) -> Tensor:
    """Image i of every case, blurred further than its sides."""
    return blurred(CASES["dense"].images()[i], 25, 4.0)


@EACH_CASE
@pytest.mark.parametrize(("groups", "score"), [(2, "probability"), (3, "logit"), (32, "probability")])
def test_group_cam(case, groups, score):
    trace = case.trace()
    members = {2: [(0, 1), (2, 3)], 3: [(0,), (1,), (2, 3)], 32: [(0,), (1,), (2,), (3,)]}[groups]
    actual = group_cam(trace, groups=groups, kernel=25, sigma=4.0, score=score).raw
    for i, image in enumerate(case.images()):
        planes, background = maps_of(case, image[None])[0], blurred_image(i)
        gradients = trace.gradients[i].mean((1, 2))  # checked against autograd in test_replicas
        expected = torch.zeros(case.size, dtype=torch.float64)
        for group in members:
            plane = sum(gradients[k] * planes[k] for k in group).clamp(min=0)
            plane[plane <= np.percentile(plane.numpy(), 70)] = 0
            mask = mask_of(plane, case)
            kept = score_of(case, image * mask + background * (1 - mask), i % 3, score)
            expected += (kept - score_of(case, background, i % 3, score)) * mask
        torch.testing.assert_close(actual[i], expected, **CLOSE)


@EACH_CASE
@pytest.mark.parametrize(("gaussian", "score"), [(True, "probability"), (False, "logit")])
def test_recipro_cam(case, gaussian, score):
    trace = case.trace()
    actual = recipro_cam(trace, gaussian=gaussian, score=score).raw
    window = {0: 1 / 4, 1: 1 / 8, 2: 1 / 16} if gaussian else {0: 1.0}  # by |dy| + |dx|, within one step each
    for i, image in enumerate(case.images()):
        planes = maps_of(case, image[None])[0]
        for y, x in itertools.product(range(planes.shape[1]), range(planes.shape[2])):
            seen = torch.zeros_like(planes)
            for v, u in itertools.product(range(planes.shape[1]), range(planes.shape[2])):
                if abs(v - y) <= 1 and abs(u - x) <= 1:
                    seen[:, v, u] = window.get(abs(v - y) + abs(u - x), 0) * planes[:, v, u]
            with torch.no_grad():
                logits = head_of(case)(seen[None])[0].tolist()
            assert actual[i, y, x].item() == pytest.approx(chosen(logits, i % 3, score), rel=1e-11)


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
    sizes, run = [], nn.Linear.forward  # every pass goes through the network's last layers
    monkeypatch.setattr(nn.Linear, "forward", lambda self, rows: sizes.append(len(rows)) or run(self, rows))
    trace = case.trace()
    of_image = LIVE_OUTPUTS * trace.cut_model.trunk_and_head.sizes.widest * trace.images[0].nbytes
    of_maps = HEAD_TENSORS * trace.activations[0].nbytes
    trace.cut_model.limits.memory = math.ceil(rows * (of_maps if name == "recipro_cam" else of_image))
    sizes.clear()
    actual = CALLS[name](trace)
    assert max(sizes) == rows
    torch.testing.assert_close(actual, expected, **CLOSE)


@pytest.mark.parametrize("name", CALLS)
def test_values_are_bitwise_independent_of_the_batch(name):
    case = Case(dtype=torch.float32, size=(24, 20), rows=4)
    images, model = case.images(), case.model()
    others = images.clone()
    others[1:] *= torch.tensor([0.0, 3.0, -2.0])[:, None, None, None]
    actual, again = (
        CALLS[name](ab.trace(model, case.layer, batch, torch.arange(4) % 3))[0] for batch in (images, others)
    )
    assert torch.equal(actual, again)


class ThreeMaps(nn.Module):
    """Weights of the three colours' means and of one pixel."""

    def forward(self, maps: Tensor) -> Tensor:
        means = maps.mean((2, 3))
        return torch.stack([means @ torch.tensor([1.0, 2.0, -1.0]).to(maps), means[:, 0] + maps[:, 1, 0, 0]], 1)


def test_constant_channel_is_skipped(readout):
    """The layer is the image: its second colour is the same everywhere, but not zero."""
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
    trace = readout(ThreeMaps(), torch.stack([plane + 5, 2 * plane, 2 * plane + 1])[None])
    assert (score_cam_top(trace, top=1) != 0).flatten().tolist() == [False, True, False]
    assert (score_cam_top(trace, top=1, ranking="mean") != 0).flatten().tolist() == [True, False, False]


@EACH_CASE
@pytest.mark.parametrize("top", [1, 2, 300])
def test_gscore_cam_runs_the_channels_of_largest_gradient(case, top):
    trace = case.trace()
    merits = trace.gradients.mean((2, 3)).tolist()

    def weigh(image: Tensor, planes: Tensor, target: int) -> list[float]:
        best = sorted(range(4), key=lambda k: -merits[target][k])[:top]
        masked = {k: image * mask_of(planes[k], case) for k in best}
        scores = [score_of(case, masked[k], target, "logit") if k in best else 0.0 for k in range(4)]
        return combined(scores, 0, False, True)

    before = trace.passes.trunk_forward
    assert_weights(gscore_cam(trace, top=top), weights_of(case, weigh))
    assert trace.passes.trunk_forward - before == min(top, 4) * case.rows


@EACH_CASE
@pytest.mark.parametrize("quantile", [0.95, 0.5, 0.0])
def test_fd_cam_switches_groups_of_similar_channels(case, quantile):
    trace = case.trace()
    sizes = set()
    for i, F in enumerate(trace.activations):

        def score(kept: list[bool], F: Tensor = F, target: int = i % 3) -> float:
            with torch.no_grad():
                return head_of(case)((torch.tensor(kept)[:, None, None] * F)[None])[0, target].item()

        scores = []
        for k in range(4):
            cosines = [((F[k] * F[j]).sum() / (F[k].norm() * F[j].norm())).item() for j in range(4)]
            group = [cosine > np.quantile(cosines, quantile) for cosine in cosines]
            sizes.add(sum(group))
            scores.append(score(group) + score([True] * 4) - score([not member for member in group]))
        switched = scaled(torch.tensor(scores, dtype=torch.float64))
        expected = switched.exp() * scaled(trace.gradients[i].mean((1, 2))) - 0.5
        assert fd_cam(trace, quantile)[i, :, 0, 0].tolist() == pytest.approx(expected.tolist(), rel=1e-10, abs=1e-12)
    assert sizes == {0.95: {1}, 0.5: {2}, 0.0: {3}}[quantile]


def test_fd_cam_costs_two_head_passes_a_channel():
    trace = CASES["dense"].trace()
    before = trace.passes.head_forward, trace.passes.trunk_forward
    fd_cam(trace)
    assert trace.passes.head_forward - before[0] == 2 * 4 * len(trace)
    assert trace.passes.trunk_forward == before[1]
