"""Sparseness as the Gini index: Chalasani et al., ICML 2020, arXiv:1810.06583.

The paper is "Concise Explanations of Neural Networks". The index follows Hurley and Rickard.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.rounding import widened


def gini(explanation: Explanation) -> Tensor:
    """Compute 1 - 2 sum_k h_(k) / sum(h) (n - k + 1/2) / n, where h_(1) <= ... <= h_(n).

    h are the heatmap's pixels. The value is 0 if all n pixels are equal, and 1 - 1/n if only one
    isn't zero. A factor on the map doesn't change it.

    Args:
        explanation: The explanation, with its heatmap (B, H', W').

    Returns:
        The indices, (B,) in [0, 1); a higher value is sparser. A zero map gives NaN.
    """
    pixels = widened(explanation.required_heatmap).flatten(1).cpu().numpy()
    h = torch.from_numpy(np.sort(pixels, axis=1)).double()  # NumPy sorts ten times as fast as torch
    n = h.shape[1]
    k = torch.arange(1, n + 1, dtype=h.dtype)
    shares = h / h.sum(1, keepdim=True)
    return 1 - 2 * (shares * (n - k + 0.5)).sum(1) / n
