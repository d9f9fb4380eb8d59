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
BY_IMAGE = (*KEY, "image_id", "target_class")
NOW = "_now"  # ends the names of the second frame's columns
Place = tuple[str, ...]  # the names of KEY
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

# A float32 value may differ by 1e-5 between machines and batch sizes; an error that is exactly zero
# in theory (any CAM on pooling + linear) is such rounding and nothing else, and no relative
# tolerance could hold it.
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
        """Return whether each number is within the limit. One that isn't finite holds only against
        the same.
        """
        with np.errstate(invalid="ignore"):  # infinities have no difference
            is_close = np.isfinite(before) & (
                np.abs(np.subtract(after, before)) <= self.allowed(before)
            )
        return is_close | np.equal(before, after) | (np.isnan(before) & np.isnan(after))

    def __str__(self) -> str:
        return f"{100 * self.amount:.6g} %" if self.relative else f"{self.amount:.6g}"


@dataclass(frozen=True)
class SameBits:
    """The limit of numbers that must be the same bit by bit; one NaN is as good as another."""

    statistic: str

    def holds(self, before: Floats, after: Floats) -> Mask:
        """Return whether each number is the same."""
        return (before.view(np.int64) == after.view(np.int64)) | (
            np.isnan(before) & np.isnan(after)
        )


def tolerance(text: str, metric: str) -> tuple[Limit, ...]:
    """`median:0.5%` or `median:0.01`, or several with a space between. Raises BenchError for
    anything else.

    >>> [str(limit) for limit in tolerance("mean:1% median:0.01", "box_iou")]
    ['1 %', '0.01']
    """
    matches = [_RULE.fullmatch(part) for part in text.split()[: _MOST_RULES + 1]]
    limits = [Limit(m[1], float(m[2]) / (100 if m[3] else 1), bool(m[3])) for m in matches if m]
    if (
        not limits
        or len(limits) < len(matches)
        or len({limit.statistic for limit in limits}) < len(limits)
    ):
        raise BenchError(
            f"The metric {metric!r} has the tolerance {text[:100]!r}; write median:0.5%, "
            "mean:0.01, or both with a space."
        )
    return tuple(limits)


@dataclass(frozen=True)
class Rules:
    """The rules of a comparison.

    key: The columns that identify a row, those of KEY first.
    limits: Return the limits of rows with the same values of `limited_by`, from these rows.
    limited_by: The columns of the paired rows on which limits depend.
    numbers: The columns that have limits.
    equal: The columns that must be equal.
    join: With "inner" the rows of only one frame aren't compared. With "outer" they differ.
    """

    key: tuple[str, ...]
    limits: Callable[[pd.DataFrame], Iterable[Limit | SameBits]]
    limited_by: tuple[str, ...] = KEY
    numbers: tuple[str, ...] = ("value",)
    equal: tuple[str, ...] = ()
    join: Literal["inner", "outer"] = "inner"


@dataclass(frozen=True, eq=False)
class Difference:
    """A place, which is the rows with the same names of KEY, at which two frames differ.

    rows: All compared rows of the place, with the columns of both frames.
    differs: Whether these rows differ, with a column for each compared one.
    """

    place: Place
    rows: pd.DataFrame
    differs: pd.DataFrame

    @property
    def where(self) -> str:
        """The place for a sentence."""
        model, layer, data, method, metric = self.place
        return f"{model} at {layer} on {data}: {metric} of {method}"


def compare(before: pd.DataFrame, after: pd.DataFrame, rules: Rules) -> Iterator[Difference]:
    """Yield the places at which two frames differ, sorted by their names."""
    names = {
        name: str for name in rules.key if name != "target_class"
    }  # categories aren't those of both frames
    pairs = before.astype(names).merge(
        after.astype(names), rules.join, list(rules.key), suffixes=("", NOW)
    )
    differs = pd.DataFrame(False, pairs.index, [*rules.equal, *rules.numbers])
    for name in rules.equal:
        differs[name] = pairs[name].astype(object) != pairs[name + NOW].astype(object)
    for _, rows in pairs.groupby(list(rules.limited_by)):
        for limit in rules.limits(rows):
            differs.loc[rows.index, limit.statistic] = ~limit.holds(*both(rows, limit.statistic))
    has_difference = differs.any(axis=1).groupby([pairs[name] for name in KEY]).transform("any")
    for place, rows in pairs[has_difference].groupby(list(KEY)):
        yield Difference(tuple(map(str, place)), rows, differs.loc[rows.index])


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return the settings that differ, each with its value before and after, or "absent"."""
    pairs = {
        name: (before.get(name, "absent"), after.get(name, "absent"))
        for name in {**before, **after}
    }
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def both(rows: pd.DataFrame, name: str) -> tuple[Floats, Floats]:
    """Return a column of numbers of the rows before and after."""
    return rows[name].to_numpy(np.float64), rows[name + NOW].to_numpy(np.float64)


def distance(rows: pd.DataFrame) -> Floats:
    """Return how far the value of each row moved, infinite if it is finite on only one side."""
    before, after = both(rows, "value")
    with np.errstate(invalid="ignore"):
        moved = np.nan_to_num(np.abs(before - after))  # equal infinities don't differ
    return np.where(np.isfinite(before) != np.isfinite(after), math.inf, moved)
