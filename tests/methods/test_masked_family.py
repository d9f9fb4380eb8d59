"""Methods that mask the image or the layer, against their formulas: one masked copy at a time, resized in loops."""

from __future__ import annotations

import itertools
import math
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench import methods
from axiom_bench.cutting.passes import HEAD_TENSORS, LIVE_OUTPUTS
from axiom_bench.errors import BenchError
from axiom_bench.methods.group_cam import group_cam
from axiom_bench.methods.is_cam import is_cam
from axiom_bench.methods.recipro_cam import recipro_cam
from axiom_bench.methods.score_cam import score_cam, score_cam_top
from axiom_bench.methods.ss_cam import ss_cam
from axiom_bench.testing import CASES, Case
from tests.methods.plain import chosen, generator_of, head_of, maps_of, resized, scaled, score_of

EACH_CASE = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
FORMS = [
    {"score": score, "baseline": baseline, "channel_softmax": softmax}
    for score, baseline, softmax in itertools.product(("logit", "probability"), (True, False), (True, False))
]
# float64: resizing, a tiny network and sums of some hundred terms; scores are of the size of 1.
CLOSE = {"rtol": 1e-11, "atol": 1e-12}


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


@EACH_CASE
@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(map(str, form.values())))
def test_score_cam_forms(case, form):
    expected = []
    for i, image in enumerate(case.images()):
        scores = [
            score_of(case, image * mask_of(plane, case), i % 3, form["score"])
            for plane in maps_of(case, image[None])[0]
        ]
        at_zero = score_of(case, torch.zeros_like(image), i % 3, form["score"])
        expected.append(combined(scores, at_zero, form["baseline"], form["channel_softmax"]))
    assert_weights(score_cam(case.trace(), **form), expected)


@EACH_CASE
@pytest.mark.parametrize("ranking", ["variance", "mean"])
def test_score_cam_top_runs_only_the_top_channels(case, ranking):
    expected = []
    for i, image in enumerate(case.images()):
        planes = maps_of(case, image[None])[0]
        merits = [(plane.var(correction=0) if ranking == "variance" else plane.mean()).item() for plane in planes]
        best = sorted(range(len(planes)), key=lambda k: -merits[k])[:2]
        scores = [score_of(case, image * mask_of(planes[k], case), i % 3, "logit") for k in best]
        weights = dict(zip(best, combined(scores, 0, False, True), strict=True))
        expected.append([weights.get(k, 0.0) for k in range(len(planes))])
    trace = case.trace()
    before = trace.passes.trunk_forward
    assert_weights(score_cam_top(trace, top=2, ranking=ranking), expected)
    assert trace.passes.trunk_forward - before == 2 * len(trace)


@EACH_CASE
def test_ablation_cam_top_selects_the_same_channels(case):
    top = methods.get("ablation_cam_top").call.func(case.trace(), top=2)
    kept = score_cam_top(case.trace(), top=2) != 0
    assert torch.equal(top, torch.where(kept, methods.get("ablation_cam")(case.trace()), 0))
    assert (top != 0).sum() == 2 * case.rows


def test_score_cam_top_of_all_channels_equals_score_cam():
    trace = CASES["dense"].trace()
    torch.testing.assert_close(score_cam_top(trace, top=4), score_cam(trace), **CLOSE)


@EACH_CASE
def test_is_cam_averages_over_mask_strengths(case):
    expected = []
    for i, image in enumerate(case.images()):
        scores = [
            sum(score_of(case, image * mask_of(plane, case) * step / 4, i % 3, "logit") for step in (1, 2, 3, 4)) / 4
            for plane in maps_of(case, image[None])[0]
        ]
        expected.append(combined(scores, 0, False, True))
    assert_weights(is_cam(case.trace(), steps=4), expected)


@EACH_CASE
@pytest.mark.parametrize("noise", ["map", "input"])
def test_ss_cam_averages_over_noise(case, noise):
    expected = []
    for i, image in enumerate(case.images()):
        shape = (3, 1 if noise == "map" else 3, *case.size)
        draws = torch.randn(shape, generator=generator_of(image, 7), dtype=torch.float64)
        scores = []
        for plane in maps_of(case, image[None])[0]:
            mask = mask_of(plane, case)
            noisy = [image * (mask + 0.5 * n) if noise == "map" else image * mask + 0.5 * n for n in draws]
            scores.append(sum(score_of(case, copy, i % 3, "logit") for copy in noisy) / 3)
        expected.append(combined(scores, 0, False, True))
    assert_weights(ss_cam(case.trace(), samples=3, sigma=0.5, noise=noise, seed=7), expected)


def test_ss_cam_without_noise_equals_score_cam():
    trace = CASES["dense"].trace()
    torch.testing.assert_close(ss_cam(trace, samples=2, sigma=0.0), score_cam(trace), **CLOSE)


def test_is_cam_shares_passes_with_score_cam():
    trace = CASES["dense"].trace()
    weights = score_cam(trace)
    before = trace.passes.trunk_forward
    assert torch.equal(is_cam(trace, steps=1), weights)
    assert torch.equal(score_cam(trace), weights)
    assert trace.passes.trunk_forward == before
    is_cam(trace, steps=3)
    assert trace.passes.trunk_forward - before == 2 * 4 * len(trace)


def test_baseline_pass_runs_only_where_it_is_used():
    trace = CASES["dense"].trace()
    before = trace.passes.trunk_forward
    score_cam(trace)
    assert trace.passes.trunk_forward - before == 4 * len(trace)
    score_cam(trace, channel_softmax=False)
    assert trace.passes.trunk_forward - before == 4 * len(trace) + 1


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
    image = torch.randn(1, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    image[:, 1] = 0.1
    trace = readout(ThreeMaps(), image)
    before = trace.passes.trunk_forward
    weights = score_cam(trace)[0, :, 0, 0]
    assert trace.passes.trunk_forward - before == 2
    assert weights[1] == 0
    assert weights[[0, 2]].sum().item() == pytest.approx(1, abs=1e-6)  # float32
    assert torch.equal(trace.activations, image.float())
    assert torch.equal(score_cam_top(trace, top=3) != 0, score_cam(trace) != 0)
    assert score_cam(trace, channel_softmax=False)[0, 1] == 0


@pytest.mark.parametrize("name", ["score_cam", "score_cam_top", "is_cam", "ss_cam"])
def test_layer_of_constant_channels_has_zero_weights(name, readout):
    trace = readout(ThreeMaps(), torch.ones(2, 3, 4, 4))
    assert not methods.get(name)(trace).any()


def test_channel_ranking_and_ties(readout):
    plane = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    trace = readout(ThreeMaps(), torch.stack([plane + 5, 2 * plane, 2 * plane + 1])[None])
    assert (score_cam_top(trace, top=1) != 0).flatten().tolist() == [False, True, False]
    assert (score_cam_top(trace, top=1, ranking="mean") != 0).flatten().tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: score_cam(t, score="logits"), "did you mean 'logit'"),
        (lambda t: score_cam_top(t, ranking="varianc"), "did you mean 'variance'"),
        (lambda t: score_cam_top(t, top=0), "top=0"),
        (lambda t: is_cam(t, steps=0), "steps=0"),
        (lambda t: ss_cam(t, samples=0), "samples=0"),
        (lambda t: ss_cam(t, noise="maps"), "did you mean 'map'"),
        (lambda t: group_cam(t, groups=0), "groups=0"),
        (lambda t: group_cam(t, kernel=4), "kernel=4"),
        (lambda t: group_cam(t, percentile=101), "101"),
        (lambda t: recipro_cam(t, score="softmax"), "score"),
    ],
)
def test_invalid_parameters(call, message):
    with pytest.raises(BenchError, match=message):
        call(CASES["dense"].trace())
