"""Axes for heavy tails: where the bulk of the values lies, and how many are outside of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bench.report.numbers import share

WIDE = 30.0  # times the median: a ratio from which a linear axis squeezes the bulk into a line
FENCE = 3.0  # interquartile ranges beyond the quartiles: far out, after Tukey


@dataclass(frozen=True)
class Axis:
    """limits of what is shown; log: a logarithmic axis; outside: how many of the values the limits cut off."""

    low: float
    high: float
    log: bool
    outside: int
    count: int

    @property
    def note(self) -> str:
        """For the caption; empty where all is shown."""
        kind = "Logarithmic axis. " if self.log else ""
        if not self.outside:
            return kind.strip()
        said = f"{self.outside:,} of {self.count:,} values ({share(self.outside, self.count)})"
        return f"{kind}{said} lie outside the axis; the boxes count them."


def fit(values: pd.Series, groups: pd.Series | list[pd.Series]) -> Axis:
    """The axis for box-plots of `values` by `groups`: all of it if the tails are short, logarithmic if everything is
    positive and spreads wide, else cut at FENCE interquartile ranges around the groups' quartiles."""
    low, high = float(values.min()), float(values.max())
    quartiles = values.groupby(groups, observed=True).quantile(np.array([0.25, 0.75])).unstack()
    reach = FENCE * (quartiles[0.75] - quartiles[0.25])
    fences = float((quartiles[0.25] - reach).min()), float((quartiles[0.75] + reach).max())
    middle = float(values.median())
    if low >= 0 and middle > 0 and high > WIDE * middle:
        bottom = max(float(values[values > 0].min()), float(quartiles[0.25][quartiles[0.25] > 0].min()) / WIDE)
        return Axis(bottom, high, True, int((values < bottom).sum()), len(values))
    low, high = max(low, fences[0]), min(high, fences[1])
    return Axis(low, high, False, int(((values < low) | (values > high)).sum()), len(values))


def apply(axis: Axis, axes: Any, which: str = "y") -> None:
    """Set scale and limits, with a margin so that no whisker lies on the frame."""
    if axis.log:
        getattr(axes, f"set_{which}scale")("log")
        getattr(axes, f"set_{which}lim")(axis.low / 1.3, axis.high * 1.3)
    else:
        margin = 0.04 * (axis.high - axis.low) or 0.5 * abs(axis.high) or 0.5
        getattr(axes, f"set_{which}lim")(axis.low - margin, axis.high + margin)
