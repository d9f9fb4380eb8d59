"""Tests of the check that decides whether the axioms apply to a method."""

from dataclasses import replace

import pytest
import torch

from axiom_bench import methods
from axiom_bench.evaluation.batch import scales_with_score
from axiom_bench.explanation.explanation import Map
from axiom_bench.testing import CASES
from tests.methods.plain import EACH_CASE

CALLABLES = {
    "layer_cam": (lambda trace: trace.gradients.relu(), True),
    "opposite": (lambda trace: -trace.gradients, True),
    "squared": (lambda trace: trace.gradients**2, False),
    "normalised": (
        lambda trace: trace.gradients / trace.gradients.abs().amax(1, keepdim=True),
        False,
    ),
    # Ignores the units of the input and of the output.
    "shares of the score": (
        lambda trace: trace.gradients / trace.scores[:, None, None, None],
        False,
    ),
    # Follows the output, but also the input's unit, because the activations enter twice.
    "gradient times input": (lambda trace: trace.gradients * trace.activations, False),
    "silent": (lambda trace: torch.zeros_like(trace.gradients), False),
    "undefined": (lambda trace: torch.full_like(trace.gradients, float("nan")), False),
    "a map": (lambda trace: Map((trace.gradients * trace.activations).sum(1)), False),
}


@EACH_CASE
@pytest.mark.parametrize(("method", "expected"), CALLABLES.values(), ids=CALLABLES)
def test_callables_without_yaml(method, expected, case):
    assert scales_with_score(method, case.trace()) is expected


@pytest.mark.parametrize("name", methods.names())
def test_check_in_float32(name):
    trace = replace(CASES["pooled"], dtype=torch.float32).trace()
    method = methods.get(name)
    assert scales_with_score(method, trace) == method.spec.on_score_scale


def test_single_image_off_the_scale_is_detected():
    """Check images whose contributions are only a billionth of the first image's."""

    def only_the_first(trace):
        is_first = torch.arange(len(trace))[:, None, None, None] == 0
        return torch.where(is_first, trace.gradients, 1e-9 * trace.gradients.sign())

    trace = CASES["dense"].trace()
    assert not scales_with_score(only_the_first, trace)
    assert scales_with_score(only_the_first, trace[:1])
