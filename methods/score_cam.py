"""Score-CAM: Wang et al., Score-Weighted Visual Explanations, CVPR workshops 2020,
arXiv:1910.01279.
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

    X: the image as the network takes it; X_0 = 0. A constant channel, which min-max can't scale, is
    skipped: it has weight 0 and is left out of the softmax.

    Four forms are in use. The default is Algorithm 1: f the class's logit, f(X_0) subtracted,
    softmax over channels (f(X_0) cancels in it, so it costs no pass). The authors' code is
    score="probability", baseline=False, channel_softmax=False: Section 3.3 asks for post-softmax
    scores, which it takes as the softmax over classes. pytorch-grad-cam computes the default with
    align_corners=True. The fourth form, a softmax over the batch, is not offered. Costs one forward
    pass per varying channel. Raises BenchError for another score.
    """
    scores = scores_of_all_channels(trace)[..., score_index(trace, score)]
    return weights_of(
        trace, scores, varying_channels(trace.activations), score, baseline, channel_softmax
    )


def score_cam_top(
    trace: Trace,
    top: int = 10,
    ranking: str = "variance",
    score: str = "logit",
    baseline: bool = True,
    channel_softmax: bool = True,
) -> Tensor:
    """Score-CAM of the `top` channels of largest variance, as Faster Score-CAM has it -> (B, K, 1,
    1).

    The other channels have weight 0 and are left out of the softmax. ranking: "variance" or "mean"
    of F_k over positions. Not in the paper: variance and 10 channels are those of the Faster
    Score-CAM repository (tabayashi0117) and of tf-keras-vis. The passes aren't shared with
    `score_cam`, so that no bit depends on which other methods run. Costs `top` forward passes.
    Raises BenchError for another score or ranking, and for top < 1.
    """
    channels = top_channels(trace.activations, top, ranking)
    scores = trace.once(
        ("masked image", 1.0, top, ranking), lambda: channel_scores(trace, channels)
    )
    return weights_of(
        trace, scores[..., score_index(trace, score)], channels, score, baseline, channel_softmax
    )


def weights_of(
    trace: Trace,
    scores: Tensor,
    channels: Tensor,
    score: str,
    baseline: bool,
    channel_softmax: bool,
) -> Tensor:
    """Weights (B, K, 1, 1) from scores (B, K) of `channels`, bool (B, K); see `score_cam` for the
    forms.
    """
    if channel_softmax:
        return over_space(softmax_over(scores, channels), trace.activations)
    if baseline:
        scores = (
            scores
            - trace.once("image of zeros", lambda: baseline_scores(trace))[
                ..., score_index(trace, score)
            ]
        )
    return over_space(scores.masked_fill(~channels, 0), trace.activations)
