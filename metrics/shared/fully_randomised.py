"""A trace's model with all of its parameters drawn again, at the same layer."""

from __future__ import annotations

from axiom_bench.cutting.split_model import SplitModel
from axiom_bench.cutting.trace import Trace
from axiom_bench.metrics.shared.randomised import randomised


def fully_randomised(trace: Trace, seed: int) -> SplitModel:
    """The last stage of a cascading randomisation, cut where the trace's model is; made once for a cut."""

    def cut() -> SplitModel:
        (copy,) = randomised(trace.cut_model.model, trace.images[:1], "cascading", 1, seed)
        return trace.cut_model.on(copy)

    return trace.cut_model.once(("fully randomised", seed), cut)


def randomised_trace(trace: Trace, seed: int) -> Trace:
    """The images and classes of a trace in its `fully_randomised` model; equal requests have `randomised_key`."""
    return trace.again(model=fully_randomised(trace, seed))


def randomised_key(seed: int) -> tuple[str, int]:
    """Names the `randomised_trace` of a seed among other traces."""
    return "fully randomised", seed
