"""fp32, tf32 and bf16, as a context that leaves the process's settings as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from axiom_bench.errors import unknown

PRECISIONS = ("fp32", "tf32", "bf16")


def check_precision(precision: str) -> str:
    """The name itself. Raises BenchError for one that isn't in PRECISIONS."""
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    return precision


@contextmanager
def arithmetic(precision: str, device: torch.device) -> Iterator[None]:
    """Runs what is inside in that precision.

    fp32 turns TF32 off, which torch leaves on for CUDA convolutions; tf32 turns it on for convolutions and products
    (on a CPU both are plain float32); bf16 is autocast. A float64 model stays float64 in all but bf16.
    """
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    tf32 = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32, tf32
    try:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


RELATIVE_TOLERANCE = 1e-4  # of the largest value: float32, over sums of some thousand terms of both signs


def equal_up_to_rounding(values: Tensor, expected: Tensor) -> bool:
    """Equal up to the rounding of the largest finite value; NaN equals NaN.

    A value that is nearly 0 among large ones is a difference of large terms, and as far off as they are.
    """
    largest = expected.detach().nan_to_num(0, 0, 0).abs().amax() if expected.numel() else 0
    return torch.allclose(values, expected, rtol=0, atol=RELATIVE_TOLERANCE * float(largest), equal_nan=True)
