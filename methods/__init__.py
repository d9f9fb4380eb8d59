"""CAM methods: pure functions of a Trace, one file and one YAML in conf/method/ each.

They import explanation, cutting and errors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from axiom_bench.evaluation.plugins import Plugin


def get(name: str) -> Plugin:
    """The method of that name with its parameters bound. Raises BenchError, with the nearest names,
    for another.
    """
    from axiom_bench.evaluation import (
        plugins,
    )  # here, so that the methods themselves don't import the engine

    return plugins.load("method", name)


def names() -> list[str]:
    """The names of the methods of `method=all`, sorted: those that need no setting and explain any
    network.
    """
    from axiom_bench.evaluation import plugins

    return plugins.names_of_all("method")
