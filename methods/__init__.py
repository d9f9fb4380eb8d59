"""CAM methods: pure functions of a Trace, one file and one YAML in conf/method/ each.

They import explanation, cutting and errors.
"""

from __future__ import annotations

from axiom_bench.evaluation import plugins


def get(name: str) -> plugins.Plugin:
    """The method of that name with its parameters bound. Raises BenchError, with the nearest names, for another."""
    return plugins.load("method", name)


def names() -> list[str]:
    """All method names, sorted."""
    return plugins.names("method")
