"""Axes for heavy tails: where the bulk of the values lies, and how many lie outside of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator

from axiom_bench.statistics.bootstrap import Floats
from axiom_bench.statistics.numbers import FLOAT32_ROUNDING, share

LOG_SPREAD = 30.0  # times the smallest median: from here on a linear axis squeezes a box into a line
MAX_ZEROS = 0.05  # share of values that may be 0, for which a logarithmic axis has no place
FENCE = 3.0  # interquartile ranges beyond the quartiles: far out, after Tukey


@dataclass(frozen=True)
class Axis:
    """limits of what is shown; log: a logarithmic axis, on whose low end smaller values are drawn; outside: how many of
    the values the limits cut off (linear) or are drawn on the low end (logarithmic)."""

    low: float
    high: float
    log: bool
    outside: int
    count: int

    @property
    def note(self) -> str:
        """For the caption; empty where all values are shown on a linear axis."""
        outside = f"{self.outside:,} of {self.count:,} values ({share(self.outside, self.count)})"
        if self.log:
            return "Logarithmic axis" + (f"; {outside} below its low end are drawn there." if self.outside else ".")
        return f"{outside} lie outside the axis; the boxes count them." if self.outside else ""

    def drawn(self, values: Floats) -> Floats:
        """The values as they are drawn: a logarithmic axis has no place for 0."""
        return np.maximum(values, self.low) if self.log else values


def fit(groups: Sequence[Floats]) -> Axis:
    """The axis for box-plots of these groups of values: all of it if the tails are short; logarithmic if the values
    spread wide and nearly none is rounding; else cut at FENCE interquartile ranges around the groups' quartiles."""
    groups = [np.sort(group) for group in groups if len(group)]
    low, high = float(min(group[0] for group in groups)), float(max(group[-1] for group in groups))
    count = sum(map(len, groups))
    if low >= 0 and high < FLOAT32_ROUNDING:
        return Axis(0.0, FLOAT32_ROUNDING, False, 0, count)
    quartiles = np.array([np.quantile(group, [0.25, 0.5, 0.75]) for group in groups])
    # Of each quartile the smallest that isn't rounding, or NaN.
    above = np.fmin.reduce(np.where(quartiles >= FLOAT32_ROUNDING, quartiles, np.nan))
    bulk = [group[np.searchsorted(group, FLOAT32_ROUNDING) :] for group in groups]
    is_bulk = count - sum(map(len, bulk)) <= MAX_ZEROS * count
    if low >= 0 and high > LOG_SPREAD * above[1] and is_bulk:
        bottom = float(max(min(group[0] for group in bulk if len(group)), above[0] / LOG_SPREAD))
        return Axis(bottom, high, True, _below(groups, bottom), count)
    reach = FENCE * (quartiles[:, 2] - quartiles[:, 0])
    low = max(low, float((quartiles[:, 0] - reach).min()))
    high = min(high, float((quartiles[:, 2] + reach).max()))
    beyond = sum(len(group) - int(np.searchsorted(group, high, "right")) for group in groups)
    return Axis(low, high, False, _below(groups, low) + beyond, count)


def _below(groups: Sequence[Floats], least: float) -> int:
    return sum(int(np.searchsorted(group, least)) for group in groups)


def apply(axis: Axis, axes: Any, axis_name: str = "y") -> None:
    """Set scale and limits, with a margin so that no whisker lies on the frame."""
    if axis.log:
        getattr(axes, f"set_{axis_name}scale")("log")
        getattr(axes, f"set_{axis_name}lim")(axis.low / 1.3, axis.high * 1.3)
        getattr(axes, f"{axis_name}axis").set_major_locator(LogLocator(numticks=7 if axis_name == "y" else 5))
    else:
        margin = 0.04 * (axis.high - axis.low) or 0.5 * abs(axis.high) or 0.5
        getattr(axes, f"set_{axis_name}lim")(axis.low - margin, axis.high + margin)
        getattr(axes, f"{axis_name}axis").set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
