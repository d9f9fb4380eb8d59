"""A map's mass on what has no effect on the score; effects by interventions as in Hesse et al.,
FunnyBirds, ICCV 2023, arXiv:2308.06248.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.parts import finite, positive_masses, same


def ground_reliance(explanation: Explanation, threshold: float = 0.1) -> Tensor:
    """The share of the heatmap on parts without an effect -> (B,) in [0, 1], lower is better.

    A part (object, mark or ground) has no effect where |S - S without it| is at most `threshold` of
    the largest of the image, up to 1e-6 of it. NaN where every part has an effect, since any map
    has 0 there; infinite where an effect isn't finite. Negative evidence is cut off by the
    heatmap's ReLU. Raises BenchError for a threshold not in [0, 1).
    """
    if not 0 <= threshold < 1:
        raise BenchError(f"ground_reliance needs a threshold from 0 to below 1, not {threshold}.")
    effects = explanation.required_trace.part_effects
    rows = zip(positive_masses(explanation), effects, strict=True)
    values = [_on_idle(mass, effect.cpu().double().abs(), threshold) for mass, effect in rows]
    return torch.stack(values).masked_fill(~finite(effects), torch.inf)


def _on_idle(mass: Tensor, effect: Tensor, threshold: float) -> Tensor:
    """The share on an image's parts without an effect; mass and effect: (n_parts,)."""
    if not len(effect):
        return mass.new_tensor(torch.nan)
    idle = same(effect) <= threshold
    share = mass[idle].sum() / mass.sum()
    return share if idle.any() else torch.full_like(share, torch.nan)
