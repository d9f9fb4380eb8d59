"""The requests of metrics that need more than the trace: scores of perturbed images, or a
re-explanation.

Such a metric is a generator: it yields requests and is sent their answers.

    def my_metric(explanation):
        logits = yield PerturbedImages(...)
        return ...

This module contains only types; `answers` answers the requests.
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
    """Return the logits themselves; the default `score` of `PerturbedImages`."""
    return logits


@dataclass(frozen=True, eq=False)
class PerturbedImages:
    """A request to classify perturbed copies of every image. The answer is their scores, (B, count,
    ...).
    """

    key: Hashable
    """The name of the copies and the score, with all parameters that they depend on. Equal requests
    of several metrics are answered once."""
    count: int
    """The number of copies of each image."""
    perturbed: Callable[[slice, slice], Tensor]
    """perturbed(rows, copies): Return these copies of these images, (rows, copies, 3, H', W')."""
    score: Callable[[Tensor, Tensor], Tensor] = keep_logits
    """score(logits (n, C), classes (n,)): Return the part of the logits that is kept, (n, ...)."""
    depends_on_image_only: bool = False
    """True if the copies depend only on the image. Then all methods share one answer, and all rows
    of the image share its passes."""
    same: tuple[Hashable, Tensor] | None = None
    """A name and whole numbers (B, count). Copies of one image with equal numbers, in requests of
    one name, are equal bit by bit and have equal scores of a class. They are classified only once
    for all methods, metrics and rows of the image."""
    network: SplitModel | None = None
    """The network that classifies the copies, if it isn't the explained one. The key and the name
    must contain it."""


@dataclass(frozen=True, eq=False)
class Reexplanation:
    """A request to explain another trace by the same method: of changed images, other classes or
    another model.
    """

    trace: Callable[[], Trace]
    """Makes the other trace."""
    read_answer: Callable[[Explanation], object]
    """Returns the part of the other explanation that is the answer. The metric doesn't get the
    explanation itself, so that only one other trace is in memory at a time."""
    key: Hashable | None = None
    """The name of the trace; requests with equal keys share it. None: the trace isn't shared."""
    depends_on_map: bool = False
    """True if the trace depends on this explanation's map. Then only the metrics of this
    explanation share it. Otherwise all methods share it."""


Request = PerturbedImages | Reexplanation
# the type of a generator metric; Result: its values
MetricGenerator = Generator[Request, Any, Result]
