"""Passes as they are announced: each perturbed copy is classified, also one that is the same as
another.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.evaluation import answers
from axiom_bench.evaluation.queries import PerturbedImages


@contextmanager
def every_copy_is_classified() -> Iterator[None]:
    """Inside, no score of an equal copy is used again, since which copies are equal isn't known
    beforehand.
    """

    def classified(trace: Trace, request: PerturbedImages, rows: int, *same: Any) -> Tensor:
        scores = answers._classified(trace, request, rows, trace.targets[:, None])
        return scores[:, 0].unflatten(0, (trace.num_valid, request.count))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answers, "_reused", classified)
        yield
