"""Metrics with parameters that decide how often they run the network, not what they do: few."""

from __future__ import annotations

from functools import cache

from axiom_bench import metrics
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.plugins import Plugin

FEWER = {"steps": 8, "passes": 4, "samples": 3, "subsets": 10, "squares": 10}


@cache
def with_fewer(name: str) -> Plugin:
    """The metric of conf/metric, with FEWER where it has such parameters."""
    params = metrics.get(name).params
    return plugins.with_params("metric", name, {key: FEWER[key] for key in FEWER.keys() & params})
