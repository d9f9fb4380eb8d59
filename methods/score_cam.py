"""Score-CAM: Wang et al., Score-Weighted Visual Explanations, CVPR workshops 2020, arXiv:1910.01279."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.methods.shared.masking import (
    baseline_scores,
    channel_scores,
    column,
    scores_of_all_channels,
    softmax_over,
    top_channels,
    varying_channels,
)


def score_cam(trace: Trace, score: str = "logit", baseline: bool = True, channel_softmax: bool = True) -> Tensor:
    """w_k = softmax_k(f(X H_k) - f(X_0)), H_k the upsampled map k, min-max scaled -> (B, K, 1, 1).

    X is the image as the network takes it, X_0 = 0 what no mask lets through. A constant channel, which min-max can't
    scale, is skipped: weight 0, and no part of the softmax.

    Four forms are in use. Algorithm 1, and the default: f the class's logit, X_0 subtracted, softmax over channels
    (in which f(X_0) cancels, so it costs no pass). Section 3.3 asks for post-softmax scores: taken here as that
    softmax over channels; score="probability", baseline=False, channel_softmax=False is the authors' code, which takes
    the softmax over classes. pytorch-grad-cam computes the default with align_corners=True. A softmax over what
    happens to share a batch, the fourth, is not offered. Raises BenchError for another score.
    """
    scores = scores_of_all_channels(trace)[..., column(score)]
    return weights_of(trace, scores, varying_channels(trace.activations), score, baseline, channel_softmax)


def score_cam_top(
    trace: Trace,
    top: int = 10,
    ranking: str = "variance",
    score: str = "logit",
    baseline: bool = True,
    channel_softmax: bool = True,
) -> Tensor:
    """Score-CAM of the `top` channels of largest variance, as Faster Score-CAM has it -> (B, K, 1, 1).

    All others have weight 0 and no part of the softmax. ranking: "variance" or "mean" of F_k over positions. The paper
    knows no such restriction; variance and 10 channels are those of the Faster Score-CAM repository (tabayashi0117)
    and of tf-keras-vis. These channels are passes of their own even where `score_cam` has run them among all, so that
    no bit depends on which other methods run. Raises BenchError for another score or ranking, or top < 1.
    """
    channels = top_channels(trace.activations, top, ranking)
    scores = trace.once(("masked image", 1.0, top, ranking), lambda: channel_scores(trace, channels))
    return weights_of(trace, scores[..., column(score)], channels, score, baseline, channel_softmax)


def weights_of(
    trace: Trace, scores: Tensor, channels: Tensor, score: str, baseline: bool, channel_softmax: bool
) -> Tensor:
    """Weights (B, K, 1, 1) from scores (B, K) of the chosen channels, bool (B, K); see `score_cam` for the forms."""
    if channel_softmax:
        return softmax_over(scores, channels)[..., None, None]
    if baseline:
        scores = scores - trace.once("image of zeros", lambda: baseline_scores(trace))[..., column(score)]
    return scores.masked_fill(~channels, 0)[..., None, None]
