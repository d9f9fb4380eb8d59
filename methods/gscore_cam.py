"""gScoreCAM: Chen et al., What Objects Is CLIP Looking At?, ACCV 2022."""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import axes, over_space
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import InvalidParameter
from axiom_bench.methods.shared.masking import channel_scores, score_index, varying_channels


def gscore_cam(trace: Trace, top: int = 300, score: str = "logit") -> Tensor:
    """w_k = softmax_k(s), s_k = f(X H_k) for the channels of largest mean(g_k) -> (B, K, 1, 1).

    This is Score-CAM of the channels that the gradient chooses. As in the authors' code, all other
    channels keep the score 0 in the softmax. So does a constant channel, which min-max can't
    scale. See `score_cam` for X and H_k. Costs up to `top` forward passes.

    Args:
        trace: The traced batch, with activations F and gradients g, (B, K, H, W) each.
        top: The number of channels to run, at least 1.
        score: f: "logit" or "probability".

    Returns:
        The weights, (B, K, 1, 1).

    Raises:
        BenchError: If the score is unknown or top < 1.
    """
    if top < 1:
        raise InvalidParameter(
            f"Invalid top={top}; give the number of channels to run, at least 1."
        )
    index = score_index(trace, score)
    varying = varying_channels(trace.activations)
    order = trace.gradients.mean(axes(trace.gradients)).argsort(dim=1, descending=True, stable=True)
    channels = torch.zeros_like(varying).scatter(1, order[:, :top], True) & varying
    scores = trace.once(
        ("masked image", "largest gradients", top), lambda: channel_scores(trace, channels)
    )
    # The softmax is over all channels: those that don't run have the score 0.
    return over_space(scores[..., index].softmax(1), trace.activations)
