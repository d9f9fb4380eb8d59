"""True contributions mixed with those of the wrong channels."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.numerics import XY
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.methods.shared.true_map import (
    check_degree,
    permute_live_totals,
    weights_from_totals,
)
from axiom_bench.methods.spoiled.truth import weights_from_contributions


def channels(trace: Trace, degree: float, seed: int = 0) -> Tensor:
    """((1 - degree) C + degree P) / F, P the contributions of wrong channels -> (B, K, H, W).

    C are the true contributions. In P every channel has another channel's total, spread as F_k^2.
    The live channels pass their totals on in one circle, seeded by the original image and `seed`.

    Args:
        trace: The traced batch of a network that reports its contributions, with activations F
            (B, K, H, W).
        degree: The degree of spoiling, from 0 to 1.
        seed: The seed of the circle.

    Returns:
        The weights, (B, K, H, W).

    Raises:
        BenchError: If the network doesn't report its contributions, or if the degree is outside
            [0, 1].
    """
    check_degree(degree)
    contributions = trace.true_contributions
    F = trace.activations
    if contributions is None:
        raise BenchError(
            "The network doesn't tell its contributions, as model=planted_additive does."
        )
    totals = permute_live_totals(contributions.sum(XY), F, trace.generators(seed))
    # Contributions are linear in the weights, so a mixture of weights is one of contributions.
    true_weights = weights_from_contributions(contributions, F)
    wrong_weights = weights_from_totals(totals, F)
    return (1 - degree) * true_weights + degree * wrong_weights
