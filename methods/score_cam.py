"""Score-CAM: Wang et al., CVPR workshops 2020, arXiv:1910.01279.

Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks.
"""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.numerics import over_space
from axiom_bench.cutting.trace import Trace
from axiom_bench.methods.shared.masking import (
    baseline_scores,
    channel_scores,
    score_index,
    scores_of_all_channels,
    softmax_over,
    top_channels,
    varying_channels,
)


def score_cam(
    trace: Trace, score: str = "logit", baseline: bool = True, channel_softmax: bool = True
) -> Tensor:
    """w_k = softmax_k(f(X H_k) - f(X_0)), H_k the upsampled map k, min-max scaled -> (B, K, 1, 1).

    X is the image as the network takes it, and X_0 = 0. A constant channel, which min-max can't
    scale, is skipped: it has weight 0 and is left out of the softmax.

    Four forms are in use. The default is Algorithm 1: f is the class's logit, f(X_0) is subtracted,
    and the softmax is over channels (f(X_0) cancels in it, so it costs no pass). The authors' code
    is score="probability", baseline=False, channel_softmax=False: Section 3.3 asks for post-softmax
    scores, and the code takes the softmax over classes. pytorch-grad-cam computes the default with
    align_corners=True. The fourth form, a softmax over the batch, is not offered. Costs one forward
    pass per varying channel.

    Args:
        trace: The traced batch, with images X (B, 3, H', W') and activations (B, K, H, W).
        score: f: "logit" or "probability".
        baseline: Subtract f(X_0).
        channel_softmax: Weights are positive and add up to 1 over the channels.

    Returns:
        The weights, (B, K, 1, 1).

    Raises:
        BenchError: If the score is unknown.
    """
    # The trace keeps the logit and the probability, so another form needs no further pass.
    scores = scores_of_all_channels(trace)[..., score_index(trace, score)]
    channels = varying_channels(trace.activations)
    return score_cam_weights(trace, scores, channels, score, baseline, channel_softmax)


def score_cam_top(
    trace: Trace,
    top: int = 10,
    ranking: str = "variance",
    score: str = "logit",
    baseline: bool = True,
    channel_softmax: bool = True,
) -> Tensor:
    """w_k as in Score-CAM for the channels of largest variance, 0 for all others -> (B, K, 1, 1).

    The other channels are also left out of the softmax. This isn't in the paper: variance and 10
    channels are the choice of the Faster Score-CAM repository (tabayashi0117) and of tf-keras-vis.
    The passes aren't shared with `score_cam`, so that no bit depends on which other methods run.
    Costs `top` forward passes.

    Args:
        trace: The traced batch, with images (B, 3, H', W') and activations F (B, K, H, W).
        top: The number of channels with a weight, at least 1.
        ranking: "variance" or "mean" of F_k over positions.
        score: f: "logit" or "probability".
        baseline: Subtract f(X_0).
        channel_softmax: Weights are positive and add up to 1 over the channels.

    Returns:
        The weights, (B, K, 1, 1).

    Raises:
        BenchError: If the score or the ranking is unknown, or if top < 1.
    """
    channels = top_channels(trace.activations, top, ranking)
    # The key contains the choice of channels: variants of this method with another one don't share.
    scores = trace.once(
        ("masked image", 1.0, top, ranking), lambda: channel_scores(trace, channels)
    )
    scores = scores[..., score_index(trace, score)]
    return score_cam_weights(trace, scores, channels, score, baseline, channel_softmax)


def score_cam_weights(
    trace: Trace,
    scores: Tensor,
    channels: Tensor,
    score: str,
    baseline: bool,
    channel_softmax: bool,
) -> Tensor:
    """Return Score-CAM's weights from the scores of channels; see `score_cam` for the forms.

    Args:
        trace: The traced batch.
        scores: f(X H_k), (B, K).
        channels: The channels with a weight, bool (B, K).
        score: f: "logit" or "probability".
        baseline: Subtract f(X_0).
        channel_softmax: Weights are positive and add up to 1 over the channels.

    Returns:
        The weights, (B, K, 1, 1), 0 for all other channels.
    """
    # f(X_0) is the same for all channels, so it cancels in the softmax.
    if channel_softmax:
        return over_space(softmax_over(scores, channels), trace.activations)
    if baseline:
        zero_scores = trace.once("image of zeros", lambda: baseline_scores(trace))
        scores = scores - zero_scores[..., score_index(trace, score)]
    return over_space(scores.masked_fill(~channels, 0), trace.activations)
