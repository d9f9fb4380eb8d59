"""The total effects of an image's parts: what the score loses without each."""

from __future__ import annotations

from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.shared.true_map import map_of_parts


def truth_effects(trace: Trace) -> Map:
    """Each part's effect S - S without it over its area, from interventions -> (B, H', W').

    Where two objects are both needed, both have all of the score; where either is enough, neither
    has any. `truth` shares it by Shapley values. Raises BenchError for images without
    interventions.
    """
    return Map(map_of_parts(trace, trace.part_effects))
