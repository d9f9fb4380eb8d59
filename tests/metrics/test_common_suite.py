"""Every metric that conf/metric names goes through the checks that users run on theirs."""

from __future__ import annotations

import pytest

from axiom_bench import metrics
from axiom_bench.testing import METRIC_CASES, METRIC_CHECKS


@pytest.mark.parametrize("check", METRIC_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", metrics.names())
def test_metric(name, check):
    for case in METRIC_CASES.values():
        check(metrics.get(name), case)
