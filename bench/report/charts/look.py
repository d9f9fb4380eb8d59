"""The look that all charts share: the colours of the page's theme, titles, and what every spec has at its top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from axiom_bench.statistics.metadata import Value

INK, SOFT, LINE, PAGE = "var(--ink)", "var(--soft)", "var(--line)", "var(--page)"  # as page.css defines them by theme
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"  # of the bundle, whichever minor version Altair writes
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
BETTER = {"lower": "lower is better", "higher": "higher is better"}
HIDDEN = "hidden"  # the parameter that holds the methods which the reader has hidden
SHOWN = f"indexof({HIDDEN}, datum.method) < 0"
_AXIS = {
    **{"labelColor": SOFT, "labelFontSize": 12, "titleColor": INK, "titleFontSize": 12, "titleFontWeight": "normal"},
    **{"gridColor": LINE, "domain": False, "ticks": False, "labelPadding": 6, "labelLimit": 170, "titlePadding": 8},
    "labelOverlap": "greedy",
}
_TITLE = {
    **{"color": INK, "fontSize": 12, "fontWeight": "normal"},
    **{"orient": "bottom", "anchor": "end", "frame": "group", "offset": 8},
}
CONFIG = {
    **{"background": "transparent", "font": FONT, "axis": _AXIS, "title": _TITLE},
    **{"view": {"stroke": None}, "text": {"color": INK}},
    # The page shows the row of a mark. Marks are no stops of a screen reader: a table holds the same numbers.
    "mark": {"tooltip": {"content": "data"}, "aria": False},
}


def capital(text: str) -> str:
    """The text as the beginning of a sentence."""
    return text[:1].upper() + text[1:]


def small(text: str) -> str:
    """The text inside a sentence."""
    return text[:1].lower() + text[1:]


def axis_title(value: Value) -> str:
    """The metric with its unit, unless the title says it, and its direction: "Confidence drop [probability], higher is
    better"."""
    title = value.title if not value.unit or value.unit in value.title else f"{value.title} [{value.unit}]"
    return f"{title}, {BETTER[value.better]}" if value.better in BETTER else title


def finished(
    chart: alt.LayerChart | alt.FacetChart, hover: Mapping[str, Mapping[str, str]], params: Sequence[str]
) -> dict[str, Any]:
    """The spec. hover: {table: {column: title}}, what the page shows of a row where the pointer is, and in the table of
    the data. params: names of what the page sets before it draws, beside HIDDEN.

    Validation would take half of the time: tests/report/charts/test_specs.py does it for all specs. For the same reason
    what belongs to the top is added to the result.
    """
    spec: dict[str, Any] = chart.to_dict(validate=False)
    return spec | {
        "$schema": SCHEMA,
        "width": "container",
        "autosize": {"type": "fit-x", "contains": "padding"},
        "params": [{"name": HIDDEN, "value": []}, *({"name": name, "value": 0} for name in params)],
        "usermeta": {"hover": hover},
        "config": CONFIG,
    }
