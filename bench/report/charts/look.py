"""The look that all charts share: colours of the page's theme, axes, and the parameters that the page sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from axiom_bench.report.run_folder import Value

INK, SOFT, LINE, PAGE = "var(--ink)", "var(--soft)", "var(--line)", "var(--page)"  # as page.css defines them by theme
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
    **{"orient": "bottom", "anchor": "middle", "frame": "bounds", "offset": 8},
}
CONFIG = {
    **{"background": "transparent", "font": FONT, "axis": _AXIS, "title": _TITLE},
    **{"view": {"stroke": None}, "text": {"color": INK}},
}
# Powers of ten alone, 0.001 to 10,000 in full.
_POWER = "round(log(datum.value) / LN10)"
_SUPERSCRIPT = "['⁰','¹','²','³','⁴','⁵','⁶','⁷','⁸','⁹'][abs(" + _POWER + ")]"
LOG_LABEL = (
    f"abs(log(datum.value) / LN10 - {_POWER}) > 1e-9 ? '' : datum.value >= 0.001 && datum.value <= 1e4"
    f" ? format(datum.value, ',~r') : '10' + ({_POWER} < 0 ? '⁻' : '') + {_SUPERSCRIPT}"
)


def axis_title(value: Value) -> str:
    """The metric with its unit, unless the title says it, and its direction: "Confidence drop [probability], higher is
    better"."""
    title = value.title if not value.unit or value.unit in value.title else f"{value.title} [{value.unit}]"
    return f"{title}, {BETTER[value.better]}" if value.better in BETTER else title


def limits(low: float, high: float, log: bool) -> dict[str, float]:
    """The parameters `low` and `high` of a scale, with a margin so that no mark lies on the frame."""
    if log:
        return {"low": low / 1.3, "high": high * 1.3}
    margin = 0.03 * (high - low) or 0.5 * abs(high) or 0.5
    return {"low": low - margin, "high": high + margin}


def scale(log: bool) -> alt.Scale:
    """A scale between the parameters `low` and `high`."""
    domain = [alt.ExprRef("low"), alt.ExprRef("high")]
    return alt.Scale(type="log" if log else "linear", domain=domain, nice=False, zero=False)


def axis(log: bool, **options: Any) -> alt.Axis:
    """A quantitative axis without a title: where the title depends on what the reader chose, `title_below` is it."""
    labels: dict[str, Any] = {"labelExpr": LOG_LABEL, "tickCount": 6} if log else {"tickCount": 5}
    return alt.Axis(title=None, **labels | options)


def finished(
    chart: alt.LayerChart | alt.Chart, hover: Mapping[str, Mapping[str, str]], params: Sequence[str]
) -> dict[str, Any]:
    """The spec. hover: {table: {column: title}}, what the page shows of a row where the pointer is, and in the table of
    the data. params: names of what the page sets before it draws, beside HIDDEN.

    Validation takes half of the time; tests/report/charts/test_specs.py does it for all specs. For the same reason what
    belongs to the top level is added to the result.
    """
    spec: dict[str, Any] = chart.to_dict(validate=False)
    return spec | {
        "width": "container",
        "autosize": {"type": "fit-x", "contains": "padding"},
        "params": [{"name": HIDDEN, "value": []}, *({"name": name, "value": 0} for name in params)],
        "usermeta": {"hover": hover},
        "config": CONFIG,
    }
