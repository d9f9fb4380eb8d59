"""Signals, images and volumes: a network whose extra side is 1 gives what its twin without that side gives."""

from dataclasses import replace
from functools import cache

import pytest
import torch

from axiom_bench import methods, metrics
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.measurement import measure
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.testing import METHOD_CHECKS, METRIC_CHECKS, exemptions
from axiom_bench.testing.cases import OTHER_CASES, Case, run_checks
from axiom_bench.testing.method_checks import channel_equivariant
from axiom_bench.testing.metric_checks import IMAGES, METRIC_CASES
from tests.methods.plain import with_fewer
from tests.metrics.build import with_fewer as metric_with_fewer

# What counts the axes of space, or is of images alone, by its definition.
METHODS = {
    "augmented_xgrad_cam": "mirrored: of images, left and right",
    "recipro_cam": "the window has half its weight for each axis",
    "sobel": "the kernel sums to 4 along each axis across the edge",
}
OF_IMAGES = dict.fromkeys(
    ("focus", "grid_pointing_game", "max_box_acc", "max_box_acc_v2", "pxap"), "a protocol of images"
)
OF_AN_EDGE = "the kernel of RISE ends at the border, where zeros lie"
METRICS = OF_IMAGES | {
    **dict.fromkeys(("insertion_auc", "insertion_auc_fast", "insertion_minus_deletion"), OF_AN_EDGE),
    "insertion_minus_deletion_fast": OF_AN_EDGE,
    **dict.fromkeys(("arcc", "road_combined"), "imputation is exact of signals alone, else up to a tolerance"),
    "infidelity": "squares are shares of the shortest side",
    "local_completeness": "cells are shares of the shortest side",
    "random_logit": "SSIM's window fits the shortest side",
}
SIDES = [(12,), (8, 12)]


@cache
def explanation(name, case):
    """Of a method on a case; the refusal where it doesn't take it."""
    trace = case.trace()
    try:
        return Explanation.of(trace, with_fewer(name)(trace))
    except BenchError as error:
        return str(error)


def lifted(case, axis):
    return replace(case, size=(*case.size[:axis], 1, *case.size[axis:]))


@pytest.mark.parametrize("name", methods.names())
@pytest.mark.parametrize("size", SIDES, ids=["signals", "images"])
def test_a_method_is_the_same_with_a_side_of_1(name, size):
    case = Case("pooled", size=size, rows=2)
    low, same = explanation(name, case), True
    for axis in (0, len(size)):
        high = explanation(name, lifted(case, axis))
        if isinstance(low, str) or isinstance(high, str):
            same &= isinstance(low, str) == isinstance(high, str)
            continue
        maps, twins = (each.raw_map.flatten(1) for each in (low, high))
        same &= torch.allclose(twins, maps, rtol=0, atol=1e-11 * maps.abs().max().item())
    assert same == (name not in METHODS), METHODS.get(name)


@pytest.mark.parametrize("name", metrics.names())
@pytest.mark.parametrize("size", [(28,), IMAGES.size], ids=["signals", "images"])
def test_a_metric_is_the_same_with_a_side_of_1(name, size):
    of_weights = METRIC_CASES["weights"]
    case = replace(of_weights, case=replace(of_weights.case, size=size))
    low, same = measure(metric_with_fewer(name), case.explanation(), True), True
    for axis in (0, len(size)):
        high = measure(metric_with_fewer(name), replace(case, case=lifted(case.case, axis)).explanation(), True)
        for value, (numbers, statuses) in low.items():
            twins, of_twins = high.get(value, (numbers, ()))
            same &= statuses == of_twins and torch.allclose(twins, numbers, 1e-9, 1e-9, equal_nan=True)
    assert same == (name not in METRICS), METRICS.get(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", methods.names())
def test_a_method_of_signals_and_volumes_passes_the_common_suite(name):
    method = with_fewer(name)
    checks = [check for check in METHOD_CHECKS if (name, check) != ("opti_cam", channel_equivariant)]  # by 8e-13
    accepted = {data: case for data, case in OTHER_CASES.items() if not isinstance(explanation(name, case), str)}
    assert accepted or name == "augmented_xgrad_cam"
    run_checks(method, [check for check in checks if check.__name__ not in exemptions(method)], accepted, {})


@pytest.mark.slow
@pytest.mark.parametrize("name", metrics.names())
def test_a_metric_of_signals_and_volumes_passes_the_common_suite(name):
    metric, case = metric_with_fewer(name), METRIC_CASES["weights"]
    cases = {str(size): replace(case, case=replace(case.case, size=size)) for size in ((28,), (6, 12, 14))
             if len(size) in metric.dimensions}  # fmt: skip
    run_checks(metric, METRIC_CHECKS, cases, {})
