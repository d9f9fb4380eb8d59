"""Signals, images and volumes: a network whose extra side is 1 gives what its twin without that
side gives.
"""

from dataclasses import replace
from functools import cache

import pytest
import torch

from axiom_bench import methods, metrics
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.measurement import measure
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.testing import METHOD_CHECKS, METRIC_CHECKS, exemptions
from axiom_bench.testing.cases import OTHER_CASES, Case, run_checks, yaml_place
from axiom_bench.testing.method_checks import channel_equivariant
from axiom_bench.testing.metric_checks import (
    IMAGES,
    METRIC_CASES,
    ignores_the_maps_scale,
    prefers_an_exact_map,
)
from tests.methods.plain import with_fewer
from tests.metrics.build import run_each as metric_each
from tests.metrics.build import with_fewer as metric_with_fewer

OF_IMAGES = (ignores_the_maps_scale, prefers_an_exact_map)  # which every room of data shares
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


def assert_claim(plugin, size, differences):
    """Fail if the values differ and the YAML gives no reason, or the other way round."""
    twin = "signals" if len(size) == 1 else "volumes"
    reason = plugin.spec.differs_on.get(twin)
    if differences and not reason:
        raise AssertionError(
            f"{yaml_place(plugin)}: values of {twin} differ from those of the same images: "
            f"{differences[0]} was "
            f'measured. Write `differs_on: {{{twin}: "the reason"}}`, or fix {plugin.target}.'
        )
    assert differences or not reason, (
        f"{yaml_place(plugin)}: nothing differs. Remove `{twin}` from `differs_on`."
    )


@pytest.mark.parametrize("name", methods.names())
@pytest.mark.parametrize("size", SIDES, ids=["signals", "images"])
def test_a_method_is_the_same_with_a_side_of_1(name, size):
    method = with_fewer(name)
    if not {len(size), len(size) + 1} <= method.dimensions:
        return
    case = Case("pooled", size=size, rows=2)
    low = explanation(name, case)
    differences = []
    for axis in (0, len(size)):
        high = explanation(name, lifted(case, axis))
        if isinstance(low, str) or isinstance(high, str):
            if isinstance(low, str) != isinstance(high, str):
                differences.append(f"{low}, and {high}")
            continue
        maps, twins = (each.raw_map.flatten(1) for each in (low, high))
        difference = float((twins - maps).abs().max())
        largest = float(maps.abs().max())
        if not difference <= 1e-11 * largest:
            differences.append(f"{difference:.3g} of {largest:.3g}")
    assert_claim(method, size, differences)


@pytest.mark.parametrize("name", metrics.names())
@pytest.mark.parametrize("size", [(28,), IMAGES.size], ids=["signals", "images"])
def test_a_metric_is_the_same_with_a_side_of_1(name, size):
    metric = metric_with_fewer(name)
    if not {len(size), len(size) + 1} <= metric.dimensions:
        return
    of_weights = METRIC_CASES["weights"]
    case = replace(of_weights, case=replace(of_weights.case, size=size))
    low = measure(metric, case.explanation(), True)
    differences = []
    for axis in (0, len(size)):
        high = measure(metric, replace(case, case=lifted(case.case, axis)).explanation(), True)
        for value, (numbers, statuses) in low.items():
            twins, twin_statuses = high[value]
            is_same = statuses == twin_statuses and torch.allclose(
                twins, numbers, 1e-9, 1e-9, equal_nan=True
            )
            differences += (
                [] if is_same else [f"{value} of {twins.tolist()}, and {numbers.tolist()}"]
            )
    assert_claim(metric, size, differences)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name in methods.names() if methods.get(name).dimensions != {2}]
)
def test_a_method_of_signals_and_volumes_passes_the_common_suite(name):
    method = with_fewer(name)
    # by 8e-13
    checks = [
        check for check in METHOD_CHECKS if (name, check) != ("opti_cam", channel_equivariant)
    ]
    accepted = {
        data: case
        for data, case in OTHER_CASES.items()
        if not isinstance(explanation(name, case), str)
    }
    assert accepted
    run_checks(
        method,
        [check for check in checks if check.__name__ not in exemptions(method)],
        accepted,
        {},
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", metrics.names())
def test_a_metric_of_signals_and_volumes_passes_the_common_suite(name):
    metric, case = metric_with_fewer(name), METRIC_CASES["weights"]
    cases = {str(size): replace(case, case=replace(case.case, size=size)) for size in ((28,), (6, 12, 14))
             if len(size) in metric.dimensions}  # fmt: skip
    metric_each(metric, [check for check in METRIC_CHECKS if check not in OF_IMAGES], cases)
