"""CASE: Williamson et al., Contrastive Activation for Saliency Estimation, 2025,
arXiv:2506.07327.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import axes
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError


def case(trace: Trace, contrasts: int = 5) -> Tensor:
    """w = a - (a b / b b) b, a Grad-CAM's weights, b their mean over the contrast classes' scores
    -> (B, K, 1, 1).

    What remains of Grad-CAM's weights orthogonally to those that similar classes share, products
    summed over channels; a itself where b is 0. contrasts: number of contrast classes, those of the
    largest logits beside the explained one (ties go to the first; fewer where the network has
    fewer). The paper takes the classes that a confusion matrix of the data set says are most often
    mistaken for it. Costs one head pass backward. Raises BenchError for contrasts < 1 and for a
    network of one class.
    """
    if contrasts < 1:
        raise BenchError(
            f"Invalid contrasts={contrasts}; give the number of classes to contrast with, at "
            "least 1."
        )
    if trace.logits.shape[1] < 2:
        raise BenchError(
            "CASE needs a second class to contrast with: leave case out for this network."
        )
    others = trace.logits.scatter(1, trace.targets[:, None], -torch.inf)
    count = min(contrasts, trace.logits.shape[1] - 1)
    chosen = others.sort(dim=1, descending=True, stable=True).indices[:, :count]
    # A clone, which autograd keeps: no tensor of inference mode.
    contrast = trace.gradient_of(lambda outputs: outputs.gather(1, chosen.clone()).mean(1))
    a, b = (each.mean(axes(each), keepdim=True) for each in (trace.gradients, contrast))
    squared = b.square().sum(1, keepdim=True)
    return a - (a * b).sum(1, keepdim=True) / squared.masked_fill(squared == 0, 1) * b
