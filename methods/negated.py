"""Another method's map with its sign turned, a control."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Map, Method
from axiom_bench.methods.shared.wrapping import run_wrapped
from axiom_bench.methods.xgrad_cam import xgrad_cam


def negated(trace: Trace, wrapped: Method = xgrad_cam) -> Tensor | Map:
    """-w of the wrapped method, or -map if it returns a Map -> (B, K, 1, 1), ... or (B, h, w).

    The map highlights evidence against the class. A metric that gives both maps the same value
    reads no sign.

    Args:
        trace: The traced batch.
        wrapped: The method whose sign is turned.

    Returns:
        Weights, (B, K, 1, 1) or (B, K, H, W), or a map, (B, h, w), like the wrapped method.
    """
    answer = run_wrapped(wrapped, trace)
    return Map(-answer.raw) if isinstance(answer, Map) else -answer
