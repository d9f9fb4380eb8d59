"""Methods that mask the image or the layer, against their formulas: one masked copy at a time,
resized in loops.

Options that give the form of the authors' code stand beside the steps of that code.
"""

import itertools
import math
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
    named,
    normal,
    scaled,
    upsampled,
)

SCORE_CAM_CODE = {"score": "probability", "baseline": False, "channel_softmax": False}
FORMS = [
    {"score": score, "baseline": baseline, "channel_softmax": softmax}
    for score, baseline, softmax in itertools.product(
        ("logit", "probability"), (True, False), (True, False)
    )
]


def softmax(scores: list[float]) -> list[float]:
    return [math.exp(score) / sum(map(math.exp, scores)) for score in scores]


def score_cam_of(row: Row, score: str, baseline: bool, channel_softmax: bool) -> list[float]:
    at_zero = row.score(torch.zeros_like(row.image), score) if baseline else 0
    scores = [row.score(row.image * mask, score) - at_zero for mask in row.masks]
    return softmax(scores) if channel_softmax else scores


def of_best(row: Row, merits: list[float], top: int, others_count: bool) -> list[float]:
    """A softmax over the scores of the best channels; of others as well, whose scores are 0, if
    they count.
    """
    best = sorted(range(len(merits)), key=lambda k: -merits[k])[:top]
    scores = {
        k: row.score(row.image * row.masks[k]) if k in best else 0.0 for k in range(len(merits))
    }
    counted = list(scores) if others_count else best
    weights = dict(zip(counted, softmax([scores[k] for k in counted]), strict=True))
    return [weights.get(k, 0.0) for k in scores]


def score_cam_top_of(row: Row, ranking: str) -> list[float]:
    return of_best(
        row,
        [(F.var(correction=0) if ranking == "variance" else F.mean()).item() for F in row.F],
        2,
        False,
    )


def gscore_cam_of(row: Row, top: int) -> list[float]:
    return of_best(row, row.g.mean((1, 2)).tolist(), top, True)


def is_cam_of(row: Row) -> list[float]:
    return softmax(
        [sum(row.score(row.image * mask * n / 4) for n in (1, 2, 3, 4)) / 4 for mask in row.masks]
    )


def is_cam_code(row: Row) -> list[float]:
    """github.com/r0cketr1kky/ISS-CAM_resources, algo.py, ISS_CAM2: one pass of the sum of i/10 X
    H_k.
    """
    masked = [row.image * scaled(upsampled(plane, row.case.size)) for plane in row.F]
    return [
        row.score(sum(each * step / 10 for step in range(1, 11)), "probability") for each in masked
    ]


def draws_of(row: Row, noise: str) -> Tensor:
    shape = (3, 1 if noise == "map" else 3, *row.case.size)
    return torch.randn(shape, generator=generator_of(row.image, 7), dtype=torch.float64)


def ss_cam_of(row: Row, noise: str) -> list[float]:
    scores = []
    for mask in row.masks:
        copies = [row.image * (mask + 0.5 * n) if noise == "map" else row.image * mask + 0.5 * n
                  for n in draws_of(row, noise)]  # fmt: skip
        scores.append(sum(map(row.score, copies)) / 3)
    return softmax(scores)


def ss_cam_code(row: Row, noise: str) -> list[float]:
    """github.com/r0cketr1kky/SS-CAM, cam/sscam.py: SSCAM1 masks by the map with noise, SSCAM2 adds
    it to X H_k.
    """
    weights = []
    for plane in upsampled(row.F, row.case.size):
        x = plane if noise == "map" else row.image * scaled(plane)
        noisy = [x + (2 / (x.max() - x.min())) ** 2 * n for n in draws_of(row, noise)]
        copies = [row.image * n for n in noisy] if noise == "map" else noisy
        weights.append(sum(row.score(copy, "probability") for copy in copies) / 3)
    return weights


def blurred(image: Tensor, kernel: int, sigma: float) -> Tensor:
    """Every pixel the weighted mean of its neighbours in two dimensions; mirrored at the borders,
    again and again.
    """

    def mirrored(place: int, length: int) -> int:
        while not 0 <= place < length:
            place = -place if place < 0 else 2 * (length - 1) - place
        return place

    def matrix(length: int) -> Tensor:
        """What each place takes of each other: (length, length), rows of sum 1."""
        weights = {
            d: math.exp(-(d**2) / (2 * sigma**2)) for d in range(-(kernel // 2), kernel // 2 + 1)
        }
        taken = torch.zeros(length, length, dtype=torch.float64)
        for place, (d, weight) in itertools.product(range(length), weights.items()):
            taken[place, mirrored(place + d, length)] += weight / sum(weights.values())
        return taken

    return matrix(image.shape[1]) @ image @ matrix(image.shape[2]).T


def group_cam_of(row: Row, members: list[tuple[int, ...]], score: str) -> Tensor:
    """Over a background blurred further than the image's sides."""
    background, expected = (
        blurred(row.image, 25, 4.0),
        torch.zeros(row.case.size, dtype=torch.float64),
    )
    for group in members:
        plane = sum(row.g[k].mean() * row.F[k] for k in group).clamp(min=0)
        plane[plane <= np.percentile(plane.numpy(), 70)] = 0
        mask = row.mask(plane)
        kept = row.score(row.image * mask + background * (1 - mask), score)
        expected += (kept - row.score(background, score)) * mask
    return expected


def group_cam_code(row: Row) -> Tensor:
    """github.com/wofmanaf/Group-CAM, cam/groupcam.py; its maps are nonzero for every group where
    one isn't NaN.
    """
    background, expected = (
        blurred(row.image, 5, 4.0),
        torch.zeros(row.case.size, dtype=torch.float64),
    )
    for plane, gradient in zip(row.F, row.g, strict=True):  # four groups of one channel each
        plane = upsampled((gradient.mean() * plane).relu(), row.case.size)
        if plane.max() > 0:
            mixed = row.image * scaled(plane) + background * (1 - scaled(plane))
            expected += (
                max(row.score(mixed, "probability") - row.score(background, "probability"), 0)
                * plane
            )
    return expected


def recipro_cam_of(
    row: Row, window: dict[int, float], score: str, centre: bool = False
) -> list[list[float]]:
    """window: by |dy| + |dx|, within one step each. github.com/sybyun/ReciproCAM,
    src/recipro_cam.py, _mosaic_feature, repeats the vector at the centre.
    """
    height, width = row.F.shape[1:]

    def seen(y: int, x: int) -> Tensor:
        maps = torch.zeros_like(row.F)
        for v, u in itertools.product(range(height), range(width)):
            if abs(v - y) <= 1 and abs(u - x) <= 1:
                maps[:, v, u] = (
                    window.get(abs(v - y) + abs(u - x), 0)
                    * row.F[:, (y if centre else v), x if centre else u]
                )
        return maps

    return [[row.score_at(seen(y, x), score) for x in range(width)] for y in range(height)]


def fd_cam_of(row: Row, quantile: float) -> Tensor:
    """Groups of similar channels, switched on and off."""
    scores = []
    for k in range(4):
        cosines = [((row.F[k] * F).sum() / (row.F[k].norm() * F.norm())).item() for F in row.F]
        group = torch.tensor([cosine > np.quantile(cosines, quantile) for cosine in cosines])[
            :, None, None
        ]
        scores.append(row.score_at(group * row.F) + row.S - row.score_at(~group * row.F))
    switched = scaled(torch.tensor(scores, dtype=torch.float64))
    return switched.exp() * scaled(row.g.mean((1, 2))) - 0.5


def full_grad_code(row: Row) -> Tensor:
    """github.com/idiap/fullgrad-saliency, saliency/fullgrad.py: only the layers smaller than the
    image differ.
    """
    model, leaf = model_of(row.case), row.image[None].clone().requires_grad_()
    first = model.features[0](leaf)
    second = model.features[2](first.clone().relu())
    score = model.head(model.features[3](second.clone()))[0, row.target]
    gradients = torch.autograd.grad(score, [leaf, first, second])
    biases = [model.features[layer].bias.detach()[:, None, None] for layer in (0, 2)]
    layers = [
        scaled((factor * g[0]).abs())
        for factor, g in zip([row.image, *biases], gradients, strict=True)
    ]
    sizes = {"size": row.case.size, "mode": "bilinear", "align_corners": True}
    return sum(functional.interpolate(layer[None], **sizes)[0].sum(0) for layer in layers)


def winsor_cam_code(row: Row, percentile: float) -> Tensor:
    """github.com/USD-AI-ResearchLab/Winsor-CAM, winsorcam.py, with the settings of its example."""
    model, leaf = model_of(row.case), row.image[None].clone().requires_grad_()
    first = model.features[0](leaf)
    second = model.features[2](first.clone().relu())
    score = model.head(model.features[3](second.clone()))[0, row.target]
    maps, importances = [], []
    for F, g in zip((first, second), torch.autograd.grad(score, [first, second]), strict=True):
        weights = g.mean((2, 3))[0]
        maps.append(scaled((weights[:, None, None] * F[0].detach()).sum(0).relu()))
        importances.append(max(weights.mean().item(), 0))
    positive = [each for each in importances if each > 0]
    limit = np.percentile(positive, percentile) if positive else 0
    cut = [min(each, limit) for each in importances]
    low, high = min([each for each in cut if each > 0], default=0), max(cut)
    weights = [
        0 if each == 0 else 1 if high == low else 0.1 + (each - low) / (high - low) * 0.9
        for each in cut
    ]
    size = max(each.shape for each in maps)
    total = sum(weight * upsampled(each, size) for weight, each in zip(weights, maps, strict=True))
    return upsampled(total, row.case.size)


GAUSSIAN, POINT = {0: 1 / 4, 1: 1 / 8, 2: 1 / 16}, {0: 1.0}
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
FORMULAS = [
    *((score_cam, form, partial(score_cam_of, **form)) for form in FORMS),
    *((score_cam_top, {"top": 2, "ranking": ranking}, partial(score_cam_top_of, ranking=ranking))
      for ranking in ("variance", "mean")),
    *((gscore_cam, {"top": top}, partial(gscore_cam_of, top=top)) for top in (1, 2, 300)),
    (is_cam, {"steps": 4}, is_cam_of),
    (is_cam, {"accumulated": True, **SCORE_CAM_CODE}, is_cam_code),
    *((ss_cam, {"samples": 3, "sigma": 0.5, "noise": noise, "seed": 7}, partial(ss_cam_of, noise=noise))
      for noise in ("map", "input")),
    *((ss_cam, {"noise": noise, "mask": mask, **SS_CAM_CODE}, partial(ss_cam_code, noise=noise))
      for noise, mask in (("map", "raw"), ("input", "scaled"))),
    *((group_cam, {"groups": groups, "kernel": 25, "sigma": 4.0, "score": score},
       partial(group_cam_of, members=GROUPS[groups], score=score))
      for groups, score in ((1, "logit"), (2, "probability"), (3, "logit"), (32, "probability"))),
    (group_cam, GROUP_CAM_CODE, group_cam_code),
    (recipro_cam, {}, partial(recipro_cam_of, window=GAUSSIAN, score="probability")),
    (recipro_cam, {"gaussian": False, "score": "logit"}, partial(recipro_cam_of, window=POINT, score="logit")),
    (recipro_cam, {"vectors": "centre"}, partial(recipro_cam_of, window=GAUSSIAN, score="probability", centre=True)),
    *((fd_cam, {"quantile": quantile}, partial(fd_cam_of, quantile=quantile)) for quantile in (0.95, 0.5, 0.0)),
    (full_grad, {"align_corners": True}, full_grad_code),
    *((winsor_cam, {"percentile": each}, partial(winsor_cam_code, percentile=each)) for each in (0.0, 40.0, 90.0)),
]  # fmt: skip


@EACH_CASE
@pytest.mark.parametrize(("method", "params", "formula"), FORMULAS, ids=named)
def test_equals_the_formula(case, method, params, formula):
    assert_formula(case, partial(method, **params), formula)


@EACH_CASE
def test_ablation_cam_top_selects_the_same_channels(case):
    top = methods.get("ablation_cam_top").call.func(case.trace(), top=2)
    kept = score_cam_top(case.trace(), top=2) != 0
    assert torch.equal(top, torch.where(kept, methods.get("ablation_cam")(case.trace()), 0))
    assert (top != 0).sum() == 2 * case.rows


@pytest.mark.parametrize(
    ("method", "trunk", "head"),  # passes of an image of four channels; None: not looked at
    [
        (score_cam, 4, None), (partial(score_cam_top, top=2), 2, None), (partial(gscore_cam, top=2), 2, None),
        (partial(gscore_cam, top=300), 4, None), (partial(is_cam, accumulated=True), 4, None), (fd_cam, 0, 2 * 4),
    ],
)  # fmt: skip
def test_passes(method, trunk, head):
    trace = CASES["dense"].trace()
    before = trace.passes.trunk_forward, trace.passes.head_forward
    method(trace)
    assert trace.passes.trunk_forward - before[0] == trunk * len(trace)
    assert head in (None, (trace.passes.head_forward - before[1]) / len(trace))


def test_score_cam_and_is_cam_share_passes():
    """The baseline is run where it is used, and masked copies once."""
    trace = CASES["dense"].trace()
    weights, before = score_cam(trace), trace.passes.trunk_forward
    assert torch.equal(is_cam(trace, steps=1), weights)
    without_softmax = partial(score_cam, channel_softmax=False)
    for method, passes in (
        (score_cam, 0),
        (without_softmax, 1),
        (partial(is_cam, steps=3), 2 * 4 * len(trace) + 1),
    ):
        method(trace)
        assert trace.passes.trunk_forward - before == passes


def test_ss_cam_of_a_black_image_has_no_relative_noise():
    """X H_k is 0 everywhere, so it has no range: the score is that of the image itself."""
    case = CASES["dense"]
    trace = ab.trace(
        case.model(), case.layer, torch.zeros(1, 3, *case.size, dtype=torch.float64), [1]
    )
    weights = ss_cam(trace, samples=2, relative=True, noise="input", **SCORE_CAM_CODE)
    alone = trace.logits.softmax(1)[0, 1].item()
    varying = trace.activations.amax((2, 3)) != trace.activations.amin((2, 3))
    assert varying.any()
    assert weights[..., 0, 0][varying].tolist() == pytest.approx(
        [alone] * int(varying.sum()), rel=1e-12
    )


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
    monkeypatch.setattr(
        nn.Linear, "forward", lambda self, rows: sizes.append(len(rows)) or run(self, rows)
    )
    trace = case.trace()
    of_image = LIVE_OUTPUTS * trace.cut_model.trunk_and_head.sizes.widest * trace.images[0].nbytes
    of_maps = HEAD_TENSORS * trace.activations[0].nbytes
    trace.cut_model.limits.memory = math.ceil(
        rows * (of_maps if name == "recipro_cam" else of_image)
    )
    sizes.clear()
    actual = CALLS[name](trace)
    assert max(sizes) == rows
    torch.testing.assert_close(actual, expected, **CLOSE)


class ThreeMaps(nn.Module):
    """Weights of the three colours' means and of one pixel."""

    def forward(self, maps: Tensor) -> Tensor:
        means = maps.mean((2, 3))
        return torch.stack(
            [means @ torch.tensor([1.0, 2.0, -1.0]).to(maps), means[:, 0] + maps[:, 1, 0, 0]], 1
        )


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
    assert (score_cam_top(trace, top=1, ranking="mean") != 0).flatten().tolist() == [
        True,
        False,
        False,
    ]
