"""Axiom-CAM, by this project: all points from exact sensitivity to exact conservation.

These points are the axiom floor: no weights have a smaller sum of both errors. The axioms are
those of Fu et al., BMVC 2020, arXiv:2008.02312. Derivation and measurements are in
docs/studies/axiom-cam.md.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import axes, dead_channels, guarded_channels, guarded_divide
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import InvalidParameter, invalid_choice


def _gradient_totals(trace: Trace) -> Tensor:
    return (trace.gradients * trace.activations).sum(axes(trace.activations)).abs()


def _activation_totals(trace: Trace) -> Tensor:
    return trace.activations.sum(axes(trace.activations)).abs()


# Each function returns (B, K), at least 0. A channel's share of the gap is proportional to it.
# Only shares count, so its unit is free, and no share changes with the unit of the score or of
# the activations.
SPLITS: dict[str, Callable[[Trace], Tensor]] = {
    "positive_drops": lambda trace: trace.ablation_drops.clamp(min=0),
    "drops": lambda trace: trace.ablation_drops.abs(),
    "gradients": _gradient_totals,
    "activations": _activation_totals,
    "uniform": lambda trace: torch.ones_like(trace.ablation_drops),
}


def axiom_cam(trace: Trace, t: float = 1.0, split: str = "positive_drops") -> Tensor:
    """w_k = m_k / sum(F_k), m_k = d_k + t a_k (S - sum_j d_j), d_k = S - S_k -> (B, K, 1, 1).

    a_k is the channel's share of the gap S - sum_j d_j. A dead or guarded channel has weight 0 and
    no share, and isn't in sum_j d_j, so that t = 1 stays exact. If all channels are dead or
    guarded, all weights are 0.

    Args:
        trace: The traced batch, with scores S (B,) and ablation drops d (B, K).
        t: The place on the axiom floor, in [0, 1]. 0 is ablation_cam_axiomatic (m_k = d_k,
            sensitivity is exact), 1 gives sum m_k = S (conservation is exact).
        split: What a_k is proportional to: "positive_drops" (relu d_k), "drops" (|d_k|),
            "gradients" (|sum g_k F_k|, XGrad-CAM's total), "activations" (|sum F_k|) or "uniform".
            If all of these are 0, shares are uniform.

    Returns:
        The weights, (B, K, 1, 1).

    Raises:
        BenchError: If t is outside [0, 1] or the split is unknown.
    """
    if not 0 <= t <= 1:
        raise InvalidParameter(
            f"Invalid t={t} of axiom_cam; give 0 (exact sensitivity) to 1 (exact conservation)."
        )
    if split not in SPLITS:
        raise invalid_choice("split of axiom_cam", split, SPLITS)
    F = trace.activations
    open_channels = ~(dead_channels(F) | guarded_channels(F))
    d = trace.ablation_drops * open_channels  # (B, K)
    gap = trace.scores[:, None] - d.sum(1, keepdim=True)
    return guarded_divide(d + t * gap * _shares(SPLITS[split](trace), open_channels), F)


def _shares(parts: Tensor, open_channels: Tensor) -> Tensor:
    """Return the parts (B, K) divided by their sum over the open channels, 0 for the others."""
    parts = parts * open_channels
    # equal shares if all parts are 0
    parts = torch.where((parts > 0).any(1, keepdim=True), parts, open_channels.to(parts))
    return parts / parts.sum(1, keepdim=True).clamp(min=torch.finfo(parts.dtype).tiny)
