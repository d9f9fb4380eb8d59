"""fp32, tf32 and bf16, as a context that leaves the process's settings as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

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
