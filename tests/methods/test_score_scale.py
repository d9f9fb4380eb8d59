"""The check that decides to which methods the axioms apply."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from axiom_bench import methods
from axiom_bench.evaluation.batch import on_score_scale
from axiom_bench.explanation.explanation import Map
from axiom_bench.testing import CASES, accepted_cases

ON_SCORE_SCALE = ["ablation_cam_axiomatic", "cam", "grad_cam", "hires_cam", "xgrad_cam"]
OFF_THE_SCALE = ["ablation_cam", "centered", "grad_cam_pp", "guided_xgrad_cam", "random", "uniform"]


@pytest.mark.parametrize("name", [*ON_SCORE_SCALE, *OFF_THE_SCALE])
def test_methods_on_and_off_the_score_scale(name):
    for case in accepted_cases(methods.get(name)).values():
        assert on_score_scale(methods.get(name), case.trace()) == (name in ON_SCORE_SCALE)


def layer_cam(trace):
    return trace.gradients.relu()


def opposite(trace):
    return -trace.gradients


def squared(trace):
    return trace.gradients**2


def normalised(trace):
    weights = trace.gradients.mean((2, 3), keepdim=True)
    return weights / weights.abs().amax(1, keepdim=True)


def shares_of_the_score(trace):
    """Ignores the input's unit, and the output's too."""
    return trace.gradients / trace.scores[:, None, None, None]


def gradient_times_input(trace):
    """Follows the output, and the input's unit too: the activations enter twice."""
    return trace.gradients * trace.activations


def silent(trace):
    return torch.zeros_like(trace.gradients)


def undefined(trace):
    return torch.full_like(trace.gradients, float("nan"))


def a_map(trace):
    return Map((trace.gradients * trace.activations).sum(1))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (layer_cam, True),
        (opposite, True),
        (squared, False),
        (normalised, False),
        (shares_of_the_score, False),
        (gradient_times_input, False),
        (silent, False),
        (undefined, False),
        (a_map, False),
    ],
)
def test_callables_without_yaml(method, expected, case):
    assert on_score_scale(method, case.trace()) is expected


@pytest.mark.parametrize("name", methods.names())
def test_check_in_float32(name):
    trace = replace(CASES["pooled"], dtype=torch.float32).trace()
    method = methods.get(name)
    assert on_score_scale(method, trace) == method.spec.on_score_scale


def test_single_image_off_the_scale_is_detected():
    """Also where its contributions are a billionth of the others'."""

    def only_the_first(trace):
        followed = torch.arange(len(trace))[:, None, None, None] == 0
        return torch.where(followed, trace.gradients, 1e-9 * trace.gradients.sign())

    assert not on_score_scale(only_the_first, CASES["dense"].trace())
    assert on_score_scale(only_the_first, CASES["dense"].trace()[:1])


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_scaled_trace_equals_trace_of_the_scaled_network(case):
    """Scores, gradients and drops of the check's two networks, against the same networks written down."""
    trace = case.trace()
    grown = trace.scaled(output=4.0)
    torch.testing.assert_close(grown.scores, 4 * trace.scores)
    torch.testing.assert_close(grown.ablation_drops, 4 * trace.ablation_drops)
    moved = trace.scaled(inputs=4.0)
    torch.testing.assert_close(moved.activations, 4 * trace.activations)
    torch.testing.assert_close(moved.head(moved.activations), trace.logits)
    torch.testing.assert_close(moved.ablation_drops, trace.ablation_drops)
    torch.testing.assert_close(moved.gradients, trace.gradients / 4)
