"""Where controls, which explain nothing by design, stand among the methods of a metric."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pandas as pd

from axiom_bench.statistics.comparison import Comparison

COLUMNS = ("control", "value", "place", "place_low", "place_high", "places", "against")
BEATS, FIRST, UNCLEAR, BELOW = "better than the best method", "first", "can't be told from the best method", "below"


def controls(comparison: Comparison | None, names: Collection[str]) -> pd.DataFrame:
    """COLUMNS, a row for each control that is compared, best first; none for a metric without a direction.

    comparison: of a metric's methods, None where none has a value. names: of the controls.
    place: by value, from 1, methods that coincide share one; place_low, place_high: what can't be excluded; places: how
    many there are. against: BEATS, UNCLEAR or BELOW, by the paired test against the method with the best value that is
    no control, at 5 % after Holm over all pairs of the metric; FIRST where there is no other method.
    """
    if comparison is None or comparison.better == "none":
        return pd.DataFrame(columns=list(COLUMNS))
    best = next((group for group in comparison.ranked if not any(name in names for name in group)), None)
    rows = []
    for place, group in enumerate(comparison.ranked, start=1):
        for name in group:
            if name in names:
                own = comparison.place(name)
                places = (place, own.place_low, own.place_high, len(comparison.groups))
                rows.append((name, own.value, *places, _against(comparison, group, best)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _against(comparison: Comparison, group: Sequence[str], best: Sequence[str] | None) -> str:
    """How a control's group compares with the best method's."""
    if best is None:
        return FIRST
    if not comparison.differ(group[0], best[0]):
        return UNCLEAR
    return BEATS if comparison.pair(group[0], best[0])["effect"] > 0 else BELOW
