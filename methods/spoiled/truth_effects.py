"""The total effects of an image's parts: how much the score loses without each part."""

from __future__ import annotations

from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.shared.true_map import map_of_parts


def truth_effects(trace: Trace) -> Map:
    """Effect of each part, S - S without it, spread over its area -> (B, H', W').

    The effects are measured by interventions. If two objects are both needed, both have all of the
    score; if either is enough, neither has any. `truth` shares the score by Shapley values.

    Args:
        trace: The traced batch of images with interventions.

    Returns:
        The map, (B, H', W').

    Raises:
        BenchError: If the images have no interventions.
    """
    return Map(map_of_parts(trace, trace.part_effects))
