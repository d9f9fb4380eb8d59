"""Ablation drops mixed with those of the wrong channels."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.methods.shared.true_map import checked, permuted, weights_of_totals


def drops_permuted(trace: Trace, degree: float, seed: int = 0) -> Tensor:
    """Contributions whose totals are (1 - degree) d_k + degree d_p(k), p a circle over the live
    channels -> (B, K, H, W).

    d_k = S - S_k. The circle is drawn for each original image and `seed`. The sum of all totals
    stays. Raises BenchError for a degree outside of [0, 1].
    """
    checked(degree)
    drops, F = trace.ablation_drops, trace.activations
    wrong = permuted(drops, F, trace.generators(seed))
    return weights_of_totals((1 - degree) * drops + degree * wrong, F)
