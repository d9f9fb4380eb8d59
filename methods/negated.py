"""Another method's map with its sign turned, a control."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Map, Method
from axiom_bench.methods.shared.wrapping import answer_of
from axiom_bench.methods.xgrad_cam import xgrad_cam


def negated(trace: Trace, wrapped: Method = xgrad_cam) -> Tensor | Map:
    """-w of the wrapped method, or -map of one that returns a Map -> (B, K, 1, 1), (B, K, H, W) or
    (B, h, w).

    It highlights what speaks against the class: a metric that can't tell it from the wrapped method
    reads no sign.
    """
    answer = answer_of(wrapped, trace)
    return Map(-answer.raw) if isinstance(answer, Map) else -answer
