"""True contributions mixed with those of the wrong channels."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.numerics import XY
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.methods.shared.true_map import checked, permuted, weights_of_totals
from axiom_bench.methods.spoiled.truth import weights_of


def channels(trace: Trace, degree: float, seed: int = 0) -> Tensor:
    """(1 - degree) C + degree P, over F, C the true contributions, P with every channel's total
    that of another, spread as F_k^2 -> (B, K, H, W).

    The live channels pass their totals on in one circle, seeded by the original image and `seed`.
    Raises BenchError for a network that doesn't tell its contributions, and for a degree outside of
    [0, 1].
    """
    checked(degree)
    contributions, F = trace.true_contributions, trace.activations
    if contributions is None:
        raise BenchError(
            "The network doesn't tell its contributions, as model=planted_additive does."
        )
    totals = permuted(contributions.sum(XY), F, trace.generators(seed))
    return (1 - degree) * weights_of(contributions, F) + degree * weights_of_totals(totals, F)
