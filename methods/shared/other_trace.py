"""The trace of another image of the data set, in the place of each image's own."""

from __future__ import annotations

import torch

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError


def other_trace(trace: Trace) -> Trace:
    """The trace of `trace.other_images`, each explained as the class that the network predicts for it.

    Costs one forward pass and one trace. Raises BenchError where the trace has no other images.
    """
    if trace.other_images is None:
        raise BenchError(
            "This method explains another image of the data set, and there is none; run it on a data set of two or "
            "more images, or pass axiom_bench.Batch(other_images=...)."
        )
    with torch.no_grad():
        targets = trace.forward_logits(trace.other_images).argmax(1)
    return trace.again(images=trace.other_images, targets=targets)
