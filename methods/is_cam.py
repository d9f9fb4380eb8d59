"""IS-CAM: Naidu et al., 2020, arXiv:2010.03023.

IS-CAM: Integrated Score-CAM for axiomatic-based explanations.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import InvalidParameter
from axiom_bench.methods.score_cam import score_cam_weights
from axiom_bench.methods.shared.masking import score_index, scores_of_all_channels, varying_channels


def is_cam(
    trace: Trace,
    steps: int = 10,
    score: str = "logit",
    baseline: bool = True,
    channel_softmax: bool = True,
    accumulated: bool = False,
) -> Tensor:
    """w_k = softmax_k of the mean over i = 1..N of f(i/N X H_k) - f(X_0) -> (B, K, 1, 1).

    The mean is an integral over the mask's strength, from the image of zeros to Score-CAM's masked
    image, whose scores are shared with `score_cam`. See `score_cam` for X, H_k and the forms. Costs
    `steps` forward passes per varying channel, or one if accumulated.

    Args:
        trace: The traced batch, with images (B, 3, H', W') and activations (B, K, H, W).
        steps: N, the number of steps of the integral, at least 1.
        score: f: "logit" or "probability".
        baseline: Subtract f(X_0).
        channel_softmax: Apply the softmax over channels.
        accumulated: Take f only of the sum of these images, (N + 1) / 2 X H_k, as in the first
            author's code.

    Returns:
        The weights, (B, K, 1, 1).

    Raises:
        BenchError: If the score is unknown or steps < 1.
    """
    if steps < 1:
        raise InvalidParameter(
            f"Invalid steps={steps}; give the number of steps of the integral, at least 1."
        )
    strengths = [(steps + 1) / 2] if accumulated else [step / steps for step in range(1, steps + 1)]
    index = score_index(trace, score)
    # The last of several strengths is 1, and the trace keeps its scores for Score-CAM.
    scores = (scores_of_all_channels(trace, strength)[..., index] for strength in strengths)
    mean_scores = reduce(torch.add, scores) / len(strengths)
    channels = varying_channels(trace.activations)
    return score_cam_weights(trace, mean_scores, channels, score, baseline, channel_softmax)
