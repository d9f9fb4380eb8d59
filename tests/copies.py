"""Rows that are copies of one image: what treats a row by its place in the batch gives them
different bits.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from axiom_bench.cutting.trace import TENSORS, Trace
from axiom_bench.testing.cases import Case

ROWS = 21  # neither a multiple of what a processor takes at once, nor fewer


def of_first_image(case: Case) -> Trace:
    """The trace of ROWS copies of the case's first image, each tensor that of one pass, so that the
    rounding of the network's own products, which may depend on a row's place, doesn't count.
    """
    first = replace(case, rows=1).trace()
    row = torch.zeros(ROWS, dtype=torch.long)
    trace = first.cut_model.trace(first.images[row], first.targets[row])
    return replace(
        trace, **{name: getattr(first, name)[row] for name in (*TENSORS, "other_images")}
    )


def rows_apart(values: Tensor) -> list[int]:
    """The rows that aren't equal to the first, bit by bit; NaN equals NaN."""
    differ = (values != values[:1]) & ~(values.isnan() & values[:1].isnan())
    return differ.reshape(len(values), -1).any(1).nonzero()[:, 0].tolist()
