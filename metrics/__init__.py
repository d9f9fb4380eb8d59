"""Metrics: pure functions of an Explanation, one value per image. One file and one YAML in
conf/metric/ each.
"""

from __future__ import annotations

from axiom_bench.evaluation import plugins


def get(name: str) -> plugins.Plugin:
    """The metric of that name with its parameters bound. Raises BenchError, with the nearest names,
    for another.
    """
    return plugins.load("metric", name)


def names() -> list[str]:
    """All metric names, sorted."""
    return plugins.names("metric")
