"""A map's mass on parts that have no effect on the score.

The effects are found by interventions as in Hesse et al., FunnyBirds, ICCV 2023, arXiv:2308.06248.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.parts import all_finite, positive_masses, same


def ground_reliance(explanation: Explanation, threshold: float = 0.1) -> Tensor:
    """Compute the heatmap's share on parts without an effect on the score.

    A part is an object, a mark or the ground. It has no effect if |S - S without it| is at most
    `threshold` of the image's largest effect, up to 1e-6 of it. The heatmap's ReLU cuts off
    negative evidence.

    Args:
        explanation: The explanation, with its heatmap (B, H', W') and a trace with interventions.
        threshold: The largest effect that counts as none, as a share of the largest; from 0 to
            below 1.

    Returns:
        The shares, (B,) in [0, 1]; lower is better. They are NaN if every part has an effect, since
        any map would have 0. They are infinite if an effect isn't finite.

    Raises:
        BenchError: If the threshold isn't in [0, 1).
    """
    if not 0 <= threshold < 1:
        raise BenchError(f"ground_reliance needs a threshold from 0 to below 1, not {threshold}.")
    effects = explanation.required_trace.part_effects
    rows = zip(positive_masses(explanation), effects, strict=True)
    values = [_idle_share(mass, effect.cpu().double().abs(), threshold) for mass, effect in rows]
    return torch.stack(values).masked_fill(~all_finite(effects), torch.inf)


def _idle_share(mass: Tensor, effect: Tensor, threshold: float) -> Tensor:
    """Return the share of an image's parts without an effect; mass and effect are (n_parts,)."""
    if not len(effect):
        return mass.new_tensor(torch.nan)
    is_idle = same(effect) <= threshold
    share = mass[is_idle].sum() / mass.sum()
    return share if is_idle.any() else torch.full_like(share, torch.nan)
