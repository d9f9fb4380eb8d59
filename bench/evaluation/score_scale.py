"""Is a method on the score's scale? Only then do the axioms, which compare contributions with scores, apply to it."""

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
    few = trace[:ROWS]
    answer = method(few)
    if isinstance(answer, Map):
        return False
    contributions = answer * few.activations
    grown = _contributions(method, few.scaled(output=FACTOR))
    kept = _contributions(method, few.scaled(inputs=FACTOR))
    return bool(contributions.any()) and _equal(grown, FACTOR * contributions) and _equal(kept, contributions)


def _contributions(method: Method, trace: Trace) -> Tensor:
    weights = method(trace)
    assert isinstance(weights, Tensor)  # the same method answered with weights a moment ago
    return weights * trace.activations


def _equal(actual: Tensor, expected: Tensor) -> bool:
    """Equal for every image, up to rounding of that image's range. (B, K, H, W) both."""
    error = (actual - expected).abs().flatten(1).amax(1)
    return bool((error <= TOLERANCE * expected.abs().flatten(1).amax(1)).all())
