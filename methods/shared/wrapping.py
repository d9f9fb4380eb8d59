"""What methods that take another method have in common: whatever it answers becomes a map."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.evaluation import plugins
from axiom_bench.explanation.explanation import Method
from axiom_bench.explanation.heatmap import Map, heatmap


def raw_map_of(wrapped: str | Method, trace: Trace) -> Tensor:
    """The wrapped method's signed map: sum_k w_k F_k, or a Map's own values -> (B, h, w).

    wrapped: a method's name, a dotted path to a function, or a callable. Raises BenchError for an unknown name.
    """
    answer = plugins.of("method", wrapped)(trace)
    return answer.raw if isinstance(answer, Map) else (answer * trace.activations).sum(1)


def heatmap_of(wrapped: str | Method, trace: Trace) -> Tensor:
    """The wrapped method's heatmap: ReLU, resized to the image, divided by its maximum -> (B, H', W')."""
    height, width = trace.images.shape[-2:]
    return heatmap(raw_map_of(wrapped, trace), (height, width))
