"""Metrics: pure functions of an `Explanation` that return one value per image.

Each metric has one file here and one YAML file in conf/metric/.
"""

from __future__ import annotations

from axiom_bench.evaluation import plugins


def get(name: str) -> plugins.Metric:
    """Return the metric with this name, its parameters bound.

    Args:
        name: The name of a file in conf/metric/, without its ending.

    Returns:
        The plug-in, which is called with an explanation.

    Raises:
        BenchError: If no metric has this name. The message lists the nearest names.
    """
    return plugins.load("metric", name)


def names() -> list[str]:
    """Return the names of all metrics, sorted."""
    return plugins.names("metric")
