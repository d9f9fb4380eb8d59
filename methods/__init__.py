"""CAM methods: pure functions of a Trace, one file and one YAML in conf/method/ each.

The package imports only `explanation`, `cutting` and `errors`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from axiom_bench.evaluation.plugins import Method


def get(name: str) -> Method:
    """Return the method of this name with its parameters bound.

    Args:
        name: The name of an entry of conf/method/, such as "grad_cam".

    Raises:
        BenchError: If the name is unknown. The message lists the nearest names.
    """
    # imported here, so that the methods themselves don't import the engine
    from axiom_bench.evaluation import plugins

    return plugins.load("method", name)


def names() -> list[str]:
    """Return the sorted names of the methods of `method=all`.

    These are the methods that need no setting and explain any network.
    """
    from axiom_bench.evaluation import plugins

    return plugins.names_of_all("method")
