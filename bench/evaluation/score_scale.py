"""Check whether a method is on the score's scale: the axioms compare contributions with scores."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Method
from axiom_bench.explanation.heatmap import Map

ROWS = 4
FACTOR = 4.0  # a power of two: multiplying by it rounds nothing
TOLERANCE = 1e-3  # ablation drops in float32 are rounded to about 1e-4; another scale is off by a whole factor


def on_score_scale(method: Method, trace: Trace) -> bool:
    """Whether contributions grow with the head's output and ignore the unit of its input.

    They must be c times as large when the head's output is c times as large, and unchanged when the activations are
    c times as large and the head's input is divided by c. Measured on the first rows of `trace`. A `Map` has no
    contributions, and all-zero or non-finite ones show nothing: False.
    """
    rows = trace[:ROWS]
    answer = method(rows)
    if isinstance(answer, Map):
        return False
    contributions = answer * rows.activations
    of_scaled_output = _contributions(method, rows.scaled(output=FACTOR))
    of_scaled_input = _contributions(method, rows.scaled(inputs=FACTOR))
    return (
        bool(contributions.any())
        and _equal(of_scaled_output, FACTOR * contributions)
        and _equal(of_scaled_input, contributions)
    )


def _contributions(method: Method, trace: Trace) -> Tensor:
    weights = method(trace)
    assert isinstance(weights, Tensor)  # as in the first call
    return weights * trace.activations


def _equal(actual: Tensor, expected: Tensor) -> bool:
    """Whether two (B, K, H, W) are equal for every image, up to rounding relative to that image's maximum."""
    error = (actual - expected).abs().flatten(1).amax(1)
    return bool((error <= TOLERANCE * expected.abs().flatten(1).amax(1)).all())
