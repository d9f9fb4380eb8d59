"""ROAD (Rong et al., arXiv:2202.00449) from imputed images whose answers serve any output and
fractions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from axiom_bench.errors import BenchError
from axiom_bench.evaluation.queries import MetricGenerator
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.road import FRACTIONS, Imputation
from axiom_bench.metrics.shared.perturbation import confidence_in, takes_fields


@takes_fields
def road_morf_fast(
    explanation: Explanation,
    measured: Sequence[float] = FRACTIONS,
    imputation: Imputation = Imputation(),
) -> MetricGenerator[Tensor]:
    """`road_morf` from answers that serve any output -> (B,); lower is better.

    measured: the fractions that are imputed; the curve at `fractions` is interpolated between them,
    and is the same where they are among them. Metrics with equal `measured`, noise and seed share
    these passes, whatever their output. Raises BenchError where `fractions` lie outside of
    `measured`, and as `road_morf`.
    """
    return (yield from _mean(explanation, "highest", measured, imputation))


@takes_fields
def road_lerf_fast(
    explanation: Explanation,
    measured: Sequence[float] = FRACTIONS,
    imputation: Imputation = Imputation(),
) -> MetricGenerator[Tensor]:
    """`road_lerf` from answers that serve any output -> (B,); higher is better. See
    `road_morf_fast`.
    """
    return (yield from _mean(explanation, "lowest", measured, imputation))


def weights(fractions: Sequence[float], measured: Sequence[float]) -> Tensor:
    """How much each measured point counts in the mean over fractions of the curve between them:
    (measured,), sum 1.

    Raises BenchError where `measured` don't rise, and for a fraction outside of them.
    """
    rise = all(low < high for low, high in pairwise(measured))
    if (
        not measured
        or not rise
        or not fractions
        or not measured[0] <= min(fractions) <= max(fractions) <= measured[-1]
    ):
        raise BenchError(
            f"ROAD's fractions {list(fractions)} must lie within rising measured ones, not "
            f"{list(measured)}."
        )
    points = np.eye(len(measured))
    return torch.tensor(
        [float(np.interp(fractions, measured, point).mean()) for point in points],
        dtype=torch.float64,
    )


def _mean(
    explanation: Explanation, first: str, measured: Sequence[float], imputation: Imputation
) -> MetricGenerator[Tensor]:
    trace = explanation.required_trace
    of_measured = weights(imputation.fractions, measured)
    logits = yield replace(imputation, fractions=measured).request(
        explanation, first, keeps_logits=True
    )
    points = [
        confidence_in(trace, of_fraction, trace.targets, imputation.output)
        for of_fraction in logits.unbind(1)
    ]
    # No product of matrices, whose rounding may depend on a row's place in the batch.
    return (torch.stack(points, dim=1) * of_measured.to(logits.device)).sum(1)
