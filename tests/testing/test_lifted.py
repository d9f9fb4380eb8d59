"""The same values for signals, images and volumes.

A network whose extra side is 1 must have the same values as its twin without that side.
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

# The checks whose data are images, whatever the case.
OF_IMAGES = (ignores_the_maps_scale, prefers_an_exact_map)
SIDES = [(12,), (8, 12)]


@cache
def explanation(name, case):
    """Return a method's explanation of a case, or the message with which the method refuses it."""
    trace = case.trace()
    try:
        return Explanation.of(trace, with_fewer(name)(trace))
    except BenchError as error:
        return str(error)


def lifted(case, axis):
    return replace(case, size=(*case.size[:axis], 1, *case.size[axis:]))


def weights_case(size):
    """Return the metrics' case of an explanation by weights, with images of another size."""
    case = METRIC_CASES["weights"]
    return replace(case, case=replace(case.case, size=size))


def assert_claim(plugin, size, differences):
    """Check that the YAML gives a reason if values differ, and none otherwise."""
    twin = "signals" if len(size) == 1 else "volumes"
    reason = plugin.spec.differs_on.get(twin)
    if differences and not reason:
        raise AssertionError(
            f"{yaml_place(plugin)}: values of {twin} differ from those of the same images: "
            f"{differences[0]} was measured. "
            f'Write `differs_on: {{{twin}: "the reason"}}`, or fix {plugin.target}.'
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
        maps = low.raw_map.flatten(1)
        twin_maps = high.raw_map.flatten(1)
        difference = float((twin_maps - maps).abs().max())
        largest = float(maps.abs().max())
        if not difference <= 1e-11 * largest:
            differences.append(f"{difference:.3g} of {largest:.3g}")
    assert_claim(method, size, differences)


@pytest.mark.parametrize("name", metrics.names())
@pytest.mark.parametrize(
    ("size", "axis"), [((28,), 0), (IMAGES.size, len(IMAGES.size))], ids=["signals", "images"]
)
def test_a_metric_is_the_same_with_a_side_of_1(name, size, axis):
    """Check a first side of 1 for signals, and a last side of 1 for images."""
    metric = metric_with_fewer(name)
    if not {len(size), len(size) + 1} <= metric.dimensions:
        return
    case = weights_case(size)
    low = measure(metric, case.explanation(), True)
    differences = []
    twin = replace(case, case=lifted(case.case, axis))
    high = measure(metric, twin.explanation(), True)
    for value, (numbers, statuses) in low.items():
        twin_numbers, twin_statuses = high[value]
        is_close = torch.allclose(twin_numbers, numbers, 1e-9, 1e-9, equal_nan=True)
        if statuses != twin_statuses or not is_close:
            differences.append(f"{value} of {twin_numbers.tolist()}, and {numbers.tolist()}")
    assert_claim(metric, size, differences)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name in methods.names() if methods.get(name).dimensions != {2}]
)
def test_a_method_of_signals_and_volumes_passes_the_common_suite(name):
    method = with_fewer(name)
    failing = set(exemptions(method))
    if name == "opti_cam":
        failing.add(channel_equivariant.__name__)  # it fails by 8e-13
    checks = [check for check in METHOD_CHECKS if check.__name__ not in failing]
    accepted = {}
    for data, case in OTHER_CASES.items():
        if not isinstance(explanation(name, case), str):
            accepted[data] = case
    assert accepted
    run_checks(method, checks, accepted, {})


@pytest.mark.slow
@pytest.mark.parametrize("name", metrics.names())
def test_a_metric_of_signals_and_volumes_passes_the_common_suite(name):
    metric = metric_with_fewer(name)
    checks = [check for check in METRIC_CHECKS if check not in OF_IMAGES]
    cases = {}
    for size in ((28,), (6, 12, 14)):
        if len(size) in metric.dimensions:
            cases[str(size)] = weights_case(size)
    metric_each(metric, checks, cases)
