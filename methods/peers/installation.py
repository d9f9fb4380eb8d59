"""The error for an environment without another library."""

from __future__ import annotations

from axiom_bench.errors import BenchError


def missing(distribution: str, error: ImportError) -> BenchError:
    """Return the error for an environment without the library.

    Args:
        distribution: The name of the library's distribution.
        error: The error of its import.
    """
    return BenchError(
        f"{distribution} can't be imported ({error}): pip install '.[peers]' in axiom-bench's "
        "checkout."
    )
