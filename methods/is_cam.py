"""IS-CAM: Naidu et al., Integrated Score-CAM for axiomatic-based explanations, 2020,
arXiv:2010.03023.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.methods.score_cam import weights_of
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

    N = `steps`: an integral over the mask's strength, from the image of zeros to Score-CAM's masked
    image, whose scores are shared with `score_cam`. accumulated=True: f of the sum of these images,
    (N + 1) / 2 X H_k, alone, as in the first author's code. X, H_k and the forms: see `score_cam`.
    Costs `steps` forward passes per varying channel, accumulated one. Raises BenchError for another
    score and for steps < 1.
    """
    if steps < 1:
        raise BenchError(
            f"Invalid steps={steps}; give the number of steps of the integral, at least 1."
        )
    strengths = [(steps + 1) / 2] if accumulated else [step / steps for step in range(1, steps + 1)]
    index = score_index(trace, score)
    scores = reduce(
        torch.add, (scores_of_all_channels(trace, x)[..., index] for x in strengths)
    ) / len(strengths)
    return weights_of(
        trace, scores, varying_channels(trace.activations), score, baseline, channel_softmax
    )
