"""Show which method explains an image, and how many of its passes are done.

The commands `run` and `explain` both show it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from axiom_bench.cutting.trace import Trace, rows_of_images
from axiom_bench.evaluation.plugins import Method
from axiom_bench.evaluation.specs import pass_count
from axiom_bench.run.progress import Step, show_step


@contextmanager
def show_method(method: Method, trace: Trace) -> Iterator[None]:
    """Show a method as the step of an image while the block runs.

    Args:
        method: The method.
        trace: The trace that it explains.
    """
    passes = trace.passes

    def count() -> int:
        return passes.trunk_forward + passes.trunk_backward

    show_step(Step(method.spec.title or method.name, count, expected_passes(method, trace)))
    try:
        yield
    finally:
        show_step(None)


def expected_passes(method: Method, trace: Trace) -> int | None:
    """Return the number of passes of the whole network that a method takes for a trace, or None if
    its YAML file doesn't say how many.
    """
    if method.spec.passes is None:
        return None
    rows = trace.num_valid
    if method.spec.shares_passes:
        rows = int(rows_of_images(trace).numbers.max()) + 1
    return rows * pass_count(method.spec.passes, trace.activations.shape[1])
