"""Mass of the map on a spurious mark; after Adebayo et al., ICLR 2022, arXiv:2212.04629."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.explanation.explanation import Explanation, given
from axiom_bench.metrics.shared.marks import mark_region
from axiom_bench.metrics.shared.regions import energy, energy_in


def mark_mass(explanation: Explanation) -> Tensor:
    """sum of h on a spurious mark / sum of h -> (B,) in [0, 1].

    Neither high nor low is better: `mark_effect` says whether the score depends on the mark. A coarse map of a small
    mark has most of its mass beside it; `mark_share` is the value that doesn't count that. Negative evidence is cut off
    by the heatmap's ReLU.
    Raises BenchError for an explanation without interventions.
    """
    trace = given(explanation.trace, "trace")
    parts = given(trace.interventions, "trace.interventions")
    size = (trace.images.shape[2], trace.images.shape[3])
    return energy_in(explanation, [mark_region(of_image, size) for of_image in parts]) / energy(explanation)
