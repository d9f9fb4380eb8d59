"""Tolerances: how far a statistic may move, from the rule in a metric's YAML, as `median:0.5%` or `mean:0.01`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from axiom_bench.errors import BenchError

# A float32 value may differ by 1e-5 between machines and batch sizes; an error that is exactly zero in theory
# (any CAM on pooling + linear) is such rounding and nothing else, and no relative tolerance could hold it.
MACHINE_DIFFERENCE = 1e-5

_RULE = re.compile(r"(mean|median):(\d{1,9}(?:\.\d{1,9})?(?:e-?\d{1,2})?)(%?)")
_MOST_RULES = 2


@dataclass(frozen=True)
class Limit:
    """How far one statistic may move, either way: relative to the baseline's value, or absolute; never less than
    `floor`, in the statistic's unit."""

    statistic: str
    amount: float
    relative: bool
    floor: float = MACHINE_DIFFERENCE

    def allowed(self, baseline: float) -> float:
        """How far the statistic may move from this value, in its unit."""
        return max(self.amount * abs(baseline) if self.relative else self.amount, self.floor)

    def holds(self, baseline: float, current: float) -> bool:
        """Whether the current value is within the limit. What isn't finite holds against the same alone."""
        if not (math.isfinite(baseline) and math.isfinite(current)):
            return baseline == current or (math.isnan(baseline) and math.isnan(current))
        return abs(current - baseline) <= self.allowed(baseline)

    def __str__(self) -> str:
        return f"{100 * self.amount:.6g} %" if self.relative else f"{self.amount:.6g}"


def tolerance(text: str, metric: str, floor: float = MACHINE_DIFFERENCE) -> tuple[Limit, ...]:
    """`median:0.5%` or `median:0.01`, or several with a space between. Raises BenchError for anything else.

    >>> [str(limit) for limit in tolerance("mean:1% median:0.01", "box_iou")]
    ['1 %', '0.01']
    """
    matches = [_RULE.fullmatch(part) for part in text.split()[: _MOST_RULES + 1]]
    limits = [Limit(m[1], float(m[2]) / (100 if m[3] else 1), bool(m[3]), floor) for m in matches if m]
    if not limits or len(limits) < len(matches) or len({limit.statistic for limit in limits}) < len(limits):
        raise BenchError(
            f"The metric {metric!r} has the tolerance {text[:100]!r}; write median:0.5%, mean:0.01, or both with a "
            "space."
        )
    return tuple(limits)
