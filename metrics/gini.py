"""Sparseness as the Gini index: Chalasani et al., Concise Explanations of Neural Networks, ICML
2020.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.rounding import widened


def gini(explanation: Explanation) -> Tensor:
    """1 - 2 sum_k h_(k) / sum(h) (n - k + 1/2) / n -> (B,) in [0, 1), h_(1) <= ... <= h_(n) the
    heatmap's pixels.

    0 where all n pixels are equal, 1 - 1/n where a single one isn't zero: higher is sparser. A
    factor on the map doesn't count. arXiv:1810.06583, after Hurley and Rickard. A zero map gives
    NaN.
    """
    pixels = widened(explanation.required_heatmap).flatten(1).cpu().numpy()
    h = torch.from_numpy(np.sort(pixels, axis=1)).double()  # NumPy sorts ten times as fast as torch
    n = h.shape[1]
    k = torch.arange(1, n + 1, dtype=h.dtype)
    return 1 - 2 * (h / h.sum(1, keepdim=True) * (n - k + 0.5)).sum(1) / n
