"""Every metric that conf/metric names goes through the checks that users run on theirs."""

from __future__ import annotations

import pytest

from axiom_bench import metrics
from axiom_bench.evaluation import plugins
from axiom_bench.testing import METRIC_CASES, METRIC_CHECKS

# Parameters that decide how often a metric runs the network, not what it does.
FEWER = {
    "explanation_sensitivity": {"samples": 5},
    "model_parameter_randomisation_smooth": {"samples": 4},
    "sensitivity_n": {"subsets": 10},
}


@pytest.mark.parametrize("check", METRIC_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", metrics.names())
def test_metric(name, check):
    metric = plugins.with_params("metric", name, FEWER.get(name, {}))
    for case in METRIC_CASES.values():
        check(metric, case)
