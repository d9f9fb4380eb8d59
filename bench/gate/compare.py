"""The comparison of two frames of values, which the gate, `compare` and `verify` share."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from axiom_bench.errors import BenchError

KEY = ("model", "layer", "data", "method", "metric")
IMAGE_KEY = (*KEY, "image_id", "target_class")
AFTER_SUFFIX = "_now"  # ends the names of the second frame's columns
Place = tuple[str, ...]  # the model, layer, data, method and metric of a row, in the order of KEY
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

# A float32 value may differ by 1e-5 between machines and batch sizes. An error that is exactly zero
# in theory (any CAM on pooling + linear) consists only of such rounding, and no relative tolerance
# could hold it.
MACHINE_DIFFERENCE = 1e-5

_RULE = re.compile(r"(mean|median):(\d{1,9}(?:\.\d{1,9})?(?:e-?\d{1,2})?)(%?)")
_MOST_RULES = 2


@dataclass(frozen=True)
class Limit:
    """The largest change that a number may make, either way: relative to the number before, or
    absolute.

    It is never less than MACHINE_DIFFERENCE.
    """

    statistic: str
    amount: float
    relative: bool

    def allowed(self, before: Floats | float) -> Floats:
        """Return how far each number may move from its value before."""
        amount = self.amount * np.abs(before) if self.relative else self.amount
        return np.maximum(amount, MACHINE_DIFFERENCE)

    def holds(self, before: Floats | float, after: Floats | float) -> Mask:
        """Return whether each number is within the limit.

        A number that isn't finite is within the limit only if it stays the same.
        """
        with np.errstate(invalid="ignore"):  # infinities have no difference
            movement = np.abs(np.subtract(after, before))
            is_close = np.isfinite(before) & (movement <= self.allowed(before))
        return is_close | np.equal(before, after) | (np.isnan(before) & np.isnan(after))

    def __str__(self) -> str:
        return f"{100 * self.amount:.6g} %" if self.relative else f"{self.amount:.6g}"


@dataclass(frozen=True)
class SameBits:
    """The limit of numbers that must be the same bit by bit; one NaN is as good as another.

    It finds every image that moved, even if the mean stays within its tolerance.
    """

    statistic: str

    def holds(self, before: Floats, after: Floats) -> Mask:
        """Return whether each number is the same."""
        has_same_bits: Mask = before.view(np.int64) == after.view(np.int64)
        return has_same_bits | (np.isnan(before) & np.isnan(after))


def tolerance(text: str, metric: str) -> tuple[Limit, ...]:
    """Return the limits that a tolerance sets, such as `median:0.5%` or `mean:1% median:0.01`.

    Raises:
        BenchError: if the text isn't a tolerance.

    >>> [str(limit) for limit in tolerance("mean:1% median:0.01", "box_iou")]
    ['1 %', '0.01']
    """
    parts = text.split()[: _MOST_RULES + 1]
    limits = []
    for part in parts:
        rule = _RULE.fullmatch(part)
        if rule:
            statistic, number, percent = rule.groups()
            amount = float(number) / (100 if percent else 1)
            limits.append(Limit(statistic, amount, relative=bool(percent)))
    statistics = {limit.statistic for limit in limits}
    if not limits or len(limits) < len(parts) or len(statistics) < len(limits):
        raise BenchError(
            f"The metric {metric!r} has the tolerance {text[:100]!r}; write median:0.5%, "
            "mean:0.01, or both with a space."
        )
    return tuple(limits)


@dataclass(frozen=True)
class Rules:
    """The rules of a comparison."""

    key: tuple[str, ...]  # the columns that identify a row, those of KEY first
    # Returns the limits of paired rows that have the same values of `limited_by`.
    limits: Callable[[pd.DataFrame], Iterable[Limit | SameBits]]
    limited_by: tuple[str, ...] = KEY  # the columns of the paired rows on which limits depend
    numbers: tuple[str, ...] = ("value",)  # the columns that have limits
    equal: tuple[str, ...] = ()  # the columns that must be equal
    # With "inner", the rows of only one frame aren't compared. With "outer", they differ.
    join: Literal["inner", "outer"] = "inner"


@dataclass(frozen=True, eq=False)
class Difference:
    """A place, which is the rows with the same names of KEY, at which two frames differ."""

    place: Place
    rows: pd.DataFrame  # all compared rows of the place, with the columns of both frames
    differs: pd.DataFrame  # whether these rows differ, with a column for each compared one

    @property
    def place_text(self) -> str:
        """The place in words, for a sentence."""
        model, layer, data, method, metric = self.place
        return f"{model} at {layer} on {data}: {metric} of {method}"


def compare(before: pd.DataFrame, after: pd.DataFrame, rules: Rules) -> Iterator[Difference]:
    """Yield the places at which two frames differ, sorted by their names."""
    # The two frames have other categories, so that names are compared as texts.
    dtypes = {name: str for name in rules.key if name != "target_class"}
    pairs = before.astype(dtypes).merge(
        after.astype(dtypes), rules.join, list(rules.key), suffixes=("", AFTER_SUFFIX)
    )
    differs = pd.DataFrame(False, pairs.index, [*rules.equal, *rules.numbers])
    for name in rules.equal:
        differs[name] = pairs[name].astype(object) != pairs[name + AFTER_SUFFIX].astype(object)
    for _, rows in pairs.groupby(list(rules.limited_by)):
        for limit in rules.limits(rows):
            then, now = before_and_after(rows, limit.statistic)
            differs.loc[rows.index, limit.statistic] = ~limit.holds(then, now)
    has_difference = differs.any(axis=1).groupby([pairs[name] for name in KEY]).transform("any")
    for place, rows in pairs[has_difference].groupby(list(KEY)):
        yield Difference(tuple(map(str, place)), rows, differs.loc[rows.index])


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return the settings that differ, each with its value before and after, or "absent"."""
    differing = {}
    for name in {**before, **after}:
        pair = (before.get(name, "absent"), after.get(name, "absent"))
        if pair[0] != pair[1]:
            differing[name] = pair
    return differing


def before_and_after(rows: pd.DataFrame, name: str) -> tuple[Floats, Floats]:
    """Return a column of numbers of the rows before and after."""
    return rows[name].to_numpy(np.float64), rows[name + AFTER_SUFFIX].to_numpy(np.float64)


def distance(rows: pd.DataFrame) -> Floats:
    """Return how far the value of each row moved; infinite if it is finite on only one side."""
    before, after = before_and_after(rows, "value")
    with np.errstate(invalid="ignore"):
        moved = np.nan_to_num(np.abs(before - after))  # equal infinities don't differ
    return np.where(np.isfinite(before) != np.isfinite(after), math.inf, moved)
