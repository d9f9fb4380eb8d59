"""Finer-CAM: Zhang et al., CVPR 2025, arXiv:2501.11309.

Finer-CAM: Spotting the Difference Reveals Finer Details for Visual Explanation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import axes
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError, InvalidParameter, invalid_choice

WEIGHTINGS = ("equal", "probability")


def finer_cam(
    trace: Trace, gamma: float = 0.6, references: int = 3, weighting: str = "equal"
) -> Tensor:
    """w_k = mean(d(S_c - gamma S_d) / dF_k), S_d the score of similar classes -> (B, K, 1, 1).

    This is Grad-CAM of the difference between the explained class c and the classes most like it.
    Contributions sum to about S_c - gamma S_d, not to S_c. Costs one head pass backward.

    Args:
        trace: The traced batch, with gradients (B, K, H, W) and logits (B, C).
        gamma: The weight of the similar classes.
        references: The number of similar classes, at least 1: those whose logits are nearest to
            S_c, above or below. Ties go to the first class, and there are fewer if the network has
            fewer.
        weighting: "equal", as in the paper: S_d is the mean. "probability", with gamma=1 the
            authors' choice since March 2025: S_d is the mean weighted by the softmax of these
            classes' outputs, and the weights are differentiated too.

    Returns:
        The weights, (B, K, 1, 1).

    Raises:
        BenchError: If the network has one class, if references < 1, or if the weighting is unknown.
    """
    if weighting not in WEIGHTINGS:
        raise invalid_choice("weighting of Finer-CAM", weighting, WEIGHTINGS)
    if references < 1:
        raise InvalidParameter(
            f"Invalid references={references}; give the number of classes to compare with, at "
            "least 1."
        )
    if trace.logits.shape[1] < 2:
        raise BenchError(
            "Finer-CAM needs a second class to compare with: leave finer_cam out for this network."
        )
    nearest = nearest_classes(trace, references)

    def similar_score(outputs: Tensor) -> Tensor:
        # Autograd keeps the indices, which therefore must not be a tensor of inference mode.
        similar = outputs.gather(1, nearest.clone())
        return similar.mean(1) if weighting == "equal" else (similar.softmax(1) * similar).sum(1)

    difference = trace.gradients - gamma * trace.gradient_of(similar_score)
    return difference.mean(axes(difference), keepdim=True)


def nearest_classes(trace: Trace, count: int) -> Tensor:
    """Return the classes other than the target with the nearest logits, nearest first.

    Args:
        trace: The traced batch, with logits (B, C).
        count: The number of classes.

    Returns:
        The indices of the classes, (B, min(count, C - 1)).
    """
    distance = (trace.logits - trace.logits.gather(1, trace.targets[:, None])).abs()
    distance = distance.scatter(1, trace.targets[:, None], torch.inf)
    return distance.sort(dim=1, stable=True).indices[:, : min(count, distance.shape[1] - 1)]
