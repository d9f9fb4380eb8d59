"""ROAD (Rong et al., arXiv:2202.00449) and what is made of it, from one set of imputed images for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from axiom_bench.errors import BenchError
from axiom_bench.evaluation.queries import MetricGenerator
from axiom_bench.explanation.explanation import Explanation, given
from axiom_bench.metrics.arcc import FRACTIONS as FRACTIONS_ARCC
from axiom_bench.metrics.arcc import harmonic_mean
from axiom_bench.metrics.road import FRACTIONS, FRACTIONS_COMBINED, imputed_images
from axiom_bench.metrics.shared.kept_map import kept_map
from axiom_bench.metrics.shared.perturbation import Fill, confidence_in


def road_morf_fast(
    explanation: Explanation,
    fractions: Sequence[float] = FRACTIONS,
    measured: Sequence[float] = FRACTIONS,
    noise: float = 0.01,
    output: str = "accuracy",
    seed: int = 0,
) -> MetricGenerator[Tensor]:
    """`road_morf` from images that all fast forms of ROAD share -> (B,); lower is better.

    measured: the fractions that are imputed; the curve at `fractions` is interpolated between them, and is the same
    where they are among them. Fast forms with equal `measured`, noise and seed share these passes.
    Raises BenchError where `fractions` lie outside of `measured`, and as `road_morf`.
    """
    return (yield from _mean(explanation, "highest", fractions, measured, noise, output, seed))


def road_lerf_fast(
    explanation: Explanation,
    fractions: Sequence[float] = FRACTIONS,
    measured: Sequence[float] = FRACTIONS,
    noise: float = 0.01,
    output: str = "accuracy",
    seed: int = 0,
) -> MetricGenerator[Tensor]:
    """`road_lerf` from images that all fast forms of ROAD share -> (B,); higher is better. See `road_morf_fast`."""
    return (yield from _mean(explanation, "lowest", fractions, measured, noise, output, seed))


def road_combined_fast(
    explanation: Explanation,
    fractions: Sequence[float] = FRACTIONS_COMBINED,
    measured: Sequence[float] = FRACTIONS,
    noise: float = 0.01,
    output: str = "probability",
    seed: int = 0,
) -> MetricGenerator[Tensor]:
    """`road_combined` from images that all fast forms of ROAD share -> (B,) in [-1/2, 1/2]; higher is better.

    See `road_morf_fast`.
    """
    lerf = yield from _mean(explanation, "lowest", fractions, measured, noise, output, seed)
    morf = yield from _mean(explanation, "highest", fractions, measured, noise, output, seed)
    return (lerf - morf) / 2


def arcc_fast(
    explanation: Explanation,
    fractions: Sequence[float] = FRACTIONS_ARCC,
    measured: Sequence[float] = FRACTIONS,
    noise: float = 0.01,
    fill: Fill = "zero",
    blur: float = 0.05,
    seed: int = 0,
) -> MetricGenerator[Tensor]:
    """`arcc` with `road_combined_fast` for ROAD -> (B,) in [0, 1]; higher is better.

    It shares the passes of all fast forms of ROAD, and the map of what the map keeps with `adcc`.
    """
    combined = yield from road_combined_fast(explanation, fractions, measured, noise, "probability", seed)
    kept, _ = yield kept_map(explanation, fill, blur)
    return harmonic_mean(given(explanation.heatmap, "heatmap"), kept, combined)


def weights(fractions: Sequence[float], measured: Sequence[float]) -> Tensor:
    """How much each measured point counts in the mean over fractions of the curve between them: (measured,), sum 1.

    Raises BenchError where `measured` don't rise, and for a fraction outside of them.
    """
    rise = all(low < high for low, high in pairwise(measured))
    if not measured or not rise or not fractions or not measured[0] <= min(fractions) <= max(fractions) <= measured[-1]:
        raise BenchError(
            f"ROAD's fractions {list(fractions)} must lie within rising measured ones, not {list(measured)}."
        )
    points = np.eye(len(measured))
    return torch.tensor([float(np.interp(fractions, measured, point).mean()) for point in points], dtype=torch.float64)


def _mean(
    explanation: Explanation,
    first: str,
    fractions: Sequence[float],
    measured: Sequence[float],
    noise: float,
    output: str,
    seed: int,
) -> MetricGenerator[Tensor]:
    trace, of_measured = given(explanation.trace, "trace"), weights(fractions, measured)
    logits = yield imputed_images(explanation, first, measured, noise, None, seed)
    points = [confidence_in(trace, of_fraction, trace.targets, output) for of_fraction in logits.unbind(1)]
    return torch.stack(points, dim=1) @ of_measured.to(logits.device)
