"""gScoreCAM and FD-CAM, which run chosen channels, against their definitions: one masked copy at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from axiom_bench import methods
from axiom_bench.errors import BenchError
from axiom_bench.methods.fd_cam import fd_cam
from axiom_bench.methods.gscore_cam import gscore_cam
from axiom_bench.testing import CASES, Case

EACH_CASE = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
CLOSE = {"rtol": 1e-11, "atol": 1e-12}  # float64: a tiny network and sums of some hundred terms of the size of 1


def masked_logit(case: Case, image: Tensor, plane: Tensor, target: int) -> float:
    plane = functional.interpolate(plane[None, None], case.size, mode="bilinear", align_corners=False)[0, 0]
    mask = (plane - plane.min()) / (plane.max() - plane.min())
    with torch.no_grad():
        return case.model()((image * mask)[None])[0, target].item()


@EACH_CASE
@pytest.mark.parametrize("top", [1, 2, 300])
def test_gscore_cam_runs_the_channels_of_largest_gradient(case, top):
    trace = case.trace()
    expected = []
    for i, image in enumerate(case.images()):
        merits = trace.gradients[i].mean((1, 2)).tolist()
        best = sorted(range(4), key=lambda k: -merits[k])[:top]
        scores = [masked_logit(case, image, trace.activations[i, k], i % 3) if k in best else 0.0 for k in range(4)]
        expected.append([math.exp(score) / sum(map(math.exp, scores)) for score in scores])
    before = trace.passes.trunk_forward
    actual = gscore_cam(trace, top=top)
    assert trace.passes.trunk_forward - before == min(top, 4) * case.rows
    torch.testing.assert_close(actual[..., 0, 0], torch.tensor(expected, dtype=torch.float64), **CLOSE)


def test_gscore_cam_of_all_channels_equals_score_cam():
    trace = CASES["signed"].trace()
    torch.testing.assert_close(gscore_cam(trace), methods.get("score_cam")(trace), **CLOSE)


def scaled(values: list[float]) -> list[float]:
    low, high = min(values), max(values)
    return [(value - low) / (high - low) for value in values]


@EACH_CASE
@pytest.mark.parametrize("quantile", [0.95, 0.5, 0.0])
def test_fd_cam_switches_groups_of_similar_channels(case, quantile):
    trace = case.trace()
    after = nn.Sequential(*case.model().features[int(case.layer.split(".")[1]) + 1 :], case.model().head)
    sizes = set()
    for i, F in enumerate(trace.activations):

        def score(kept: list[bool], F: Tensor = F, target: int = i % 3) -> float:
            with torch.no_grad():
                return after((torch.tensor(kept)[:, None, None] * F)[None])[0, target].item()

        scores = []
        for k in range(4):
            cosines = [((F[k] * F[j]).sum() / (F[k].norm() * F[j].norm())).item() for j in range(4)]
            group = [cosine > np.quantile(cosines, quantile) for cosine in cosines]
            sizes.add(sum(group))
            scores.append(score(group) + score([True] * 4) - score([not member for member in group]))
        gradients = scaled([g.mean().item() for g in trace.gradients[i]])
        expected = [math.exp(s) * g - 0.5 for s, g in zip(scaled(scores), gradients, strict=True)]
        assert fd_cam(trace, quantile)[i, :, 0, 0].tolist() == pytest.approx(expected, rel=1e-10, abs=1e-12)
    assert sizes == {0.95: {1}, 0.5: {2}, 0.0: {3}}[quantile]


def test_fd_cam_costs_two_head_passes_a_channel():
    trace = CASES["dense"].trace()
    before = trace.passes.head_forward, trace.passes.trunk_forward
    fd_cam(trace)
    assert trace.passes.head_forward - before[0] == 2 * 4 * len(trace)
    assert trace.passes.trunk_forward == before[1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: gscore_cam(t, top=0), "top=0"),
        (lambda t: gscore_cam(t, score="logits"), "did you mean 'logit'"),
        (lambda t: fd_cam(t, quantile=1.5), "quantile=1.5"),
    ],
)
def test_invalid_parameters(call, message):
    with pytest.raises(BenchError, match=message):
        call(CASES["dense"].trace())
