"""Requests of metrics that need more than the trace: the model's answer to perturbed images, or a re-explanation.

Such a metric is a generator: it yields requests and is sent their answers.

    def my_metric(explanation):
        logits = yield PerturbedImages(...)
        return ...

This module holds types only; `answers` answers the requests.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor

from axiom_bench.cutting.split_model import SplitModel
from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Explanation

Result = TypeVar("Result")


def keep_logits(logits: Tensor, classes: Tensor) -> Tensor:
    """The logits themselves, as a `score`."""
    return logits


@dataclass(frozen=True, eq=False)
class PerturbedImages:
    """Perturbed copies of every image, to be classified. The answer is the scores, (B, count, ...).

    key: names the copies and the score with all parameters that they depend on; equal requests of several metrics are
    answered once. count: copies of each image. perturbed(rows, copies): these copies of these images,
    (rows, copies, 3, H', W'). score(logits (n, C), classes (n,)): what is kept of the logits, (n, ...). of_image:
    whether the copies depend on the image alone; then all methods share one answer, and all rows of the image its
    passes. same: a name and whole numbers (B, count). Copies of one image with equal numbers, in requests of one name,
    are equal bit by bit and have equal scores of a class. They are classified once for all methods, metrics and rows
    of the image. network: by which they are classified, where it isn't the explained one; the key and the name tell it.
    """

    key: Hashable
    count: int
    perturbed: Callable[[slice, slice], Tensor]
    score: Callable[[Tensor, Tensor], Tensor] = keep_logits
    of_image: bool = False
    same: tuple[Hashable, Tensor] | None = None
    network: SplitModel | None = None


@dataclass(frozen=True, eq=False)
class Reexplanation:
    """The same method's explanation of another trace: of changed images, other classes or another model.

    trace(): makes the other trace. read(explanation): what is kept of it, which is the answer; the explanation itself
    isn't handed out, so that one other trace is held at a time. key: names the trace; requests of equal key share it.
    None: no other request has this trace. of_map: whether it depends on this explanation's map; then the metrics of
    this explanation share it, else all methods' do.
    """

    trace: Callable[[], Trace]
    read: Callable[[Explanation], Any]
    key: Hashable | None = None
    of_map: bool = False


Request = PerturbedImages | Reexplanation
MetricGenerator = Generator[Request, Any, Result]  # what a generator metric returns; Result: its values
