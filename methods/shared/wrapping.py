"""Run a wrapped method and return its result as a map, for the image or for another image."""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError, InvalidParameter
from axiom_bench.explanation.explanation import Map, Method, heatmap, weighted


def run_wrapped(wrapped: Method, trace: Trace) -> Tensor | Map:
    """Return what the wrapped method returns: weights that broadcast to the activations, or a Map.

    Args:
        wrapped: The method to run.
        trace: The trace to explain.

    Raises:
        BenchError: If `wrapped` is a name. Only a YAML file and the command line resolve names.
    """
    if not callable(wrapped):
        raise InvalidParameter(
            f"Invalid wrapped={wrapped!r}; give a callable, such as methods.get({wrapped!r})."
        )
    return wrapped(trace)


def wrapped_raw_map(wrapped: Method, trace: Trace) -> Tensor:
    """Return the wrapped method's signed map: sum_k w_k F_k, or a Map's own values.

    Args:
        wrapped: The method to run.
        trace: The trace to explain.

    Returns:
        The map, (B, h, w).

    Raises:
        BenchError: If `wrapped` is a name.
    """
    answer = run_wrapped(wrapped, trace)
    return answer.raw if isinstance(answer, Map) else weighted(answer, trace.activations).sum(1)


def wrapped_heatmap(wrapped: Method, trace: Trace) -> Tensor:
    """Return the wrapped method's heatmap: ReLU, resized to the image, divided by its maximum.

    Args:
        wrapped: The method to run.
        trace: The trace to explain.

    Returns:
        The heatmap, (B, H', W').

    Raises:
        BenchError: If `wrapped` is a name.
    """
    return heatmap(wrapped_raw_map(wrapped, trace), trace.images.shape[2:])


def trace_of_other_images(trace: Trace) -> Trace:
    """Return the trace of `trace.other_images`, each explained as the class predicted for it.

    This costs one forward pass and one trace.

    Args:
        trace: The trace of a batch with other images.

    Raises:
        BenchError: If the trace has no other images.
    """
    images = required_other_images(trace)
    with torch.no_grad():
        targets = trace.network.forward_logits(images).argmax(1)
    return trace.again(images=images, targets=targets)


def required_other_images(trace: Trace) -> Tensor:
    """Return `trace.other_images`: another image of the data set for each image.

    Args:
        trace: The trace of a batch with other images.

    Returns:
        The images, (B, 3, H', W').

    Raises:
        BenchError: If the trace has no other images.
    """
    if trace.other_images is None:
        raise BenchError(
            "This method needs another image of the data set, and there is none; run it on a "
            "data set of two or more images, or pass axiom_bench.Batch(other_images=...)."
        )
    return trace.other_images
