"""CASE: Williamson et al., 2025, arXiv:2506.07327.

Contrastive Activation for Saliency Estimation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import axes
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError, InvalidParameter


def case(trace: Trace, contrasts: int = 5) -> Tensor:
    """w_k = a_k - (a b / b b) b_k, a Grad-CAM's weights, b of similar classes -> (B, K, 1, 1).

    b are Grad-CAM's weights for the mean score of the contrast classes, and products are summed
    over channels. So w is the part of a that is orthogonal to b; it is a itself if b is 0. Costs
    one head pass backward.

    Args:
        trace: The traced batch, with gradients (B, K, H, W) and logits (B, C).
        contrasts: The number of contrast classes, at least 1: those with the largest logits except
            the explained class. Ties go to the first class, and there are fewer if the network has
            fewer. The paper takes the classes that are most often mistaken for the explained one,
            according to a confusion matrix of the data set.

    Returns:
        The weights, (B, K, 1, 1).

    Raises:
        BenchError: If contrasts < 1 or the network has one class.
    """
    if contrasts < 1:
        raise InvalidParameter(
            f"Invalid contrasts={contrasts}; give the number of classes to contrast with, at "
            "least 1."
        )
    if trace.logits.shape[1] < 2:
        raise BenchError(
            "CASE needs a second class to contrast with: leave case out for this network."
        )
    other_logits = trace.logits.scatter(1, trace.targets[:, None], -torch.inf)
    count = min(contrasts, trace.logits.shape[1] - 1)
    classes = other_logits.sort(dim=1, descending=True, stable=True).indices[:, :count]
    # Autograd keeps the indices, which therefore must not be a tensor of inference mode: a clone.
    contrast = trace.gradient_of(lambda outputs: outputs.gather(1, classes.clone()).mean(1))
    a = trace.gradients.mean(axes(trace.gradients), keepdim=True)
    b = contrast.mean(axes(contrast), keepdim=True)
    squared = b.square().sum(1, keepdim=True)
    return a - (a * b).sum(1, keepdim=True) / squared.masked_fill(squared == 0, 1) * b
