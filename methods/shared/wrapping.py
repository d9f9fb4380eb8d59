"""Methods that wrap another method: its result, whatever it is, as a map, for the image or for
another one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Map, Method, heatmap, weighted


def answer_of(wrapped: Method, trace: Trace) -> Tensor | Map:
    """What the wrapped method returns: weights that broadcast to the activations, or a Map.

    Raises BenchError for a name: only a YAML file and the command line resolve names.
    """
    if not callable(wrapped):
        raise BenchError(
            f"Invalid wrapped={wrapped!r}; give a callable, such as methods.get({wrapped!r})."
        )
    return wrapped(trace)


def raw_map_of(wrapped: Method, trace: Trace) -> Tensor:
    """The wrapped method's signed map: sum_k w_k F_k, or a Map's own values -> (B, h, w).

    Raises BenchError for a name.
    """
    answer = answer_of(wrapped, trace)
    return answer.raw if isinstance(answer, Map) else weighted(answer, trace.activations).sum(1)


def heatmap_of(wrapped: Method, trace: Trace) -> Tensor:
    """The wrapped method's heatmap: ReLU, resized to the image, divided by its maximum -> (B, H',
    W').
    """
    return heatmap(raw_map_of(wrapped, trace), trace.images.shape[2:])


def other_trace(trace: Trace) -> Trace:
    """The trace of `trace.other_images`, each explained as the class that the network predicts for
    it.

    Costs one forward pass and one trace. Raises BenchError where the trace has no other images.
    """
    if trace.other_images is None:
        raise BenchError(
            "This method explains another image of the data set, and there is none; run it on a "
            "data set of two or more images, or pass axiom_bench.Batch(other_images=...)."
        )
    with torch.no_grad():
        targets = trace.network.forward_logits(trace.other_images).argmax(1)
    return trace.again(images=trace.other_images, targets=targets)
