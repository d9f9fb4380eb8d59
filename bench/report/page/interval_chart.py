"""A small chart of methods: a dot with its interval for each, on one scale, that needs no script and prints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from axiom_bench.report.page.templating import render
from axiom_bench.statistics.numbers import FLOAT32_ROUNDING, number

LOG_SPREAD = 30.0  # times the smallest value: from here on a linear scale draws most dots on one another


@dataclass(frozen=True)
class Row:
    """A method's value with the ends of its interval. is_best: drawn stronger."""

    title: str
    colour: str
    value: float
    low: float
    high: float
    is_best: bool = False


def interval_chart(label: str, rows: Sequence[Row], is_ratio: bool = False) -> Markup:
    """label: what the values are, such as "Box IoU, mean with 95 % interval". is_ratio: whether they may spread over
    powers of ten, for which the scale is then logarithmic."""
    ends = [end for row in rows for end in (row.value, row.low, row.high) if math.isfinite(end)]
    is_log = is_ratio and min(ends) > FLOAT32_ROUNDING and max(ends) > LOG_SPREAD * min(ends)
    start, stop = (min(ends), max(ends)) if is_log else (min(0.0, *ends), max(0.0, *ends))

    def place(value: float) -> str:
        """On the scale, in per cent of its width."""
        if not math.isfinite(value) or stop == start:
            return "0%"
        share = math.log(value / start) / math.log(stop / start) if is_log else (value - start) / (stop - start)
        return f"{100 * share:.2f}%"

    return render(
        "interval_chart.html.j2",
        label=label + (", logarithmic scale" if is_log else ""),
        zero=None if is_log else place(0.0),
        rows=[(row, place(row.value), place(row.low), place(row.high), number(row.value)) for row in rows],
        text="; ".join(f"{row.title} {number(row.value)} ({number(row.low)} to {number(row.high)})" for row in rows),
    )
