"""Whether two results of one network are the same but for rounding."""

from __future__ import annotations

import torch
from torch import Tensor

RELATIVE_TOLERANCE = 1e-4  # of the largest value: float32, over sums of some thousand terms of both signs


def equal_up_to_rounding(values: Tensor, expected: Tensor) -> bool:
    """Equal up to the rounding of the largest finite value; NaN equals NaN.

    A value that is nearly 0 among large ones is a difference of large terms, and as far off as they are.
    """
    largest = expected.detach().nan_to_num(0, 0, 0).abs().amax() if expected.numel() else 0
    return torch.allclose(values, expected, rtol=0, atol=RELATIVE_TOLERANCE * float(largest), equal_nan=True)
