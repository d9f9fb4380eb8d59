"""Every metric that conf/metric names goes through the checks that users run on theirs."""

from __future__ import annotations

import pytest

from axiom_bench import metrics
from axiom_bench.testing import METRIC_CASES, METRIC_CHECKS, metric_checks
from tests.metrics.fewer import with_fewer

OF_MAPS = (
    metric_checks.returns_declared_values,
    metric_checks.values_are_finite,
    metric_checks.broken_row_changes_no_other,
)
AS_BY_WEIGHTS = [check for check in METRIC_CHECKS if check not in OF_MAPS]


@pytest.mark.parametrize("check", METRIC_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", metrics.names())
def test_metric(name, check):
    check(with_fewer(name), METRIC_CASES["weights"])


@pytest.mark.parametrize(
    "check",
    [*OF_MAPS, *(pytest.param(check, marks=pytest.mark.slow) for check in AS_BY_WEIGHTS)],
    ids=lambda check: check.__name__,
)
@pytest.mark.parametrize("name", metrics.names())
def test_metric_of_a_map(name, check):
    """An explanation without contributions; what is the same with them runs in `make test-all`."""
    check(with_fewer(name), METRIC_CASES["map"])
