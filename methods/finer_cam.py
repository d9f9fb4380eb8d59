"""Finer-CAM: Zhang et al., Spotting the Difference Reveals Finer Details, CVPR 2025,
arXiv:2501.11309.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import axes
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError, unknown

WEIGHTINGS = ("equal", "probability")


def finer_cam(
    trace: Trace, gamma: float = 0.6, references: int = 3, weighting: str = "equal"
) -> Tensor:
    """w_k = mean(d(S_c - gamma S_d) / dF_k), S_d the mean score of the classes most like c -> (B,
    K, 1, 1).

    Grad-CAM of the difference to `references` similar classes: those whose logits are nearest to
    S_c, above or below (ties go to the first; fewer where the network has fewer). weighting:
    "equal", the paper's; "probability", with gamma=1 the authors' since March 2025: S_d is the mean
    weighted by the softmax of these classes' outputs, whose weights are differentiated too.
    Contributions sum to about S_c - gamma S_d, not to S_c. Costs one head pass backward. Raises
    BenchError for a network of one class, for references < 1 and for another weighting.
    """
    if weighting not in WEIGHTINGS:
        raise unknown("weighting of Finer-CAM", weighting, WEIGHTINGS)
    if references < 1:
        raise BenchError(
            f"Invalid references={references}; give the number of classes to compare with, at "
            "least 1."
        )
    if trace.logits.shape[1] < 2:
        raise BenchError(
            "Finer-CAM needs a second class to compare with: leave finer_cam out for this network."
        )
    nearest = nearest_classes(trace, references)

    def compared(outputs: Tensor) -> Tensor:
        similar = outputs.gather(
            1, nearest.clone()
        )  # which autograd keeps: no tensor of inference mode
        return similar.mean(1) if weighting == "equal" else (similar.softmax(1) * similar).sum(1)

    compared_gradients = trace.gradients - gamma * trace.gradient_of(compared)
    return compared_gradients.mean(axes(compared_gradients), keepdim=True)


def nearest_classes(trace: Trace, count: int) -> Tensor:
    """The classes other than the target with the nearest logits, nearest first: (B, min(count, C -
    1)).
    """
    distance = (trace.logits - trace.logits.gather(1, trace.targets[:, None])).abs()
    distance = distance.scatter(1, trace.targets[:, None], torch.inf)
    return distance.sort(dim=1, stable=True).indices[:, : min(count, distance.shape[1] - 1)]
