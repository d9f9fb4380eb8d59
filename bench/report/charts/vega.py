"""What a chart hands to the page, the look of methods in charts and figures, and what all Vega-Lite specs share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from axiom_bench.report.options import options_of
from axiom_bench.statistics.bootstrap import Floats
from axiom_bench.statistics.labels import FLOAT32_ROUNDING, Value, number
from axiom_bench.statistics.run_folder import RunFolder

Columns = Mapping[str, Sequence[Any]]
DIGITS = 5  # of the numbers in the page; a reader sees three


@dataclass(frozen=True)
class Panel:
    """One drawing. title: of the network. spec: the name of its spec. params: values of the spec's parameters.

    tables: the spec's named data sets, by column. A column `method` holds names, to which the page adds their `title`,
    `colour`, `shape` and `dash`. description: the text alternative. height, min_width: of the plot in pixels. axis:
    about how many pixels the axis below it takes, which the page keeps free until the panel is drawn.
    """

    title: str
    spec: str
    description: str
    tables: Mapping[str, Columns]
    height: int
    params: Mapping[str, Any] = field(default_factory=dict)
    min_width: int = 0
    axis: int = 60


@dataclass(frozen=True)
class Choice:
    """What one entry of the chart's list shows. label: of the entry. caption: what is shown, with n."""

    label: str
    caption: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Chart:
    """id: in the page. chooses: what the list of choices is of, such as "Metric"; with one choice there is no list.
    specs: what builds each Vega-Lite spec, by name; those of one name are one."""

    id: str
    title: str
    chooses: str
    choices: Sequence[Choice]
    specs: Mapping[str, Callable[[], Mapping[str, Any]]]


def metrics_in_order(run: RunFolder, names: Collection[str]) -> list[str]:
    """These metrics: those of the headline first, then those of the overview, then the manifest's order."""
    first = (*options_of(run).headline, *options_of(run).columns, *run.metrics)
    return [name for name in dict.fromkeys(first) if name in names]


def columns(table: pd.DataFrame) -> dict[str, list[Any]]:
    """A table by column as JSON holds it: numbers with DIGITS digits, None for what isn't finite, texts as they are."""
    entries: dict[str, list[Any]] = {}
    for name, column in table.items():
        entries[str(name)] = column.tolist()
        if pd.api.types.is_float_dtype(column):
            entries[str(name)] = [float(f"{entry:.{DIGITS}g}") if np.isfinite(entry) else None for entry in column]
    return entries


def at_same_spot(titles: Sequence[str], *coordinates: Iterable[float]) -> list[str]:
    """For each point the titles of the others that print the same coordinates: what a reader can't see below it."""
    spots: dict[tuple[str, ...], list[str]] = {}
    keys = [tuple(map(number, point)) for point in zip(*coordinates, strict=True)]
    for title, key in zip(titles, keys, strict=True):
        spots.setdefault(key, []).append(title)
    return [", ".join(other for other in spots[key] if other != title) for title, key in zip(titles, keys, strict=True)]


# Colours that readers with colour vision deficiencies tell apart: Okabe and Ito 2008, without black and yellow, which
# are too dark or too light for one of the two themes, then the darkest of Tol's "muted" scheme.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255", "#999933")
GREY = "#7d7d87"  # of controls
MOST_STYLES = 64  # colours x markers
MARKERS = "osD^vP*X"  # matplotlib's
SHAPES = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "stroke", "triangle-right")  # Vega's
DASHES = ((1, 0), (6, 2), (2, 2), (8, 2, 2, 2))  # lengths in pixels: drawn, left out, ...


@dataclass(frozen=True)
class MethodStyle:
    """title: as people read it. colour: "#rrggbb". marker: matplotlib's. shape: Vega's. dash: lengths in pixels.

    Eight numbers differ by colour, the following ones by marker, shape and dash as well; controls by these alone.
    """

    title: str
    colour: str
    marker: str
    shape: str
    dash: tuple[int, ...]

    @property
    def linestyle(self) -> Any:
        """matplotlib's: its unit is the width of the line."""
        return "-" if self.dash == (1, 0) else (0, [length / 2 for length in self.dash])


def method_styles(run: RunFolder) -> dict[str, MethodStyle]:
    """{method: its style}, in the manifest's order, for all methods with records: that of its YAML's number, the same
    in every run; of a method without a number, or with another's, one that is free. Controls are grey."""
    abouts = {name: run.metadata.method(name) for name in run.methods}
    numbers: dict[str, int] = {}
    taken: dict[bool, set[int]] = {True: set(), False: set()}  # by whether they are of controls
    for name, about in abouts.items():
        number, alike = about.get("style"), taken[_is_control(about)]
        if isinstance(number, int) and 0 <= number < MOST_STYLES and number not in alike:
            numbers[name] = number
            alike.add(number)
    for name in [name for name in abouts if name not in numbers]:
        alike = taken[_is_control(abouts[name])]
        numbers[name] = next(number for number in count() if number not in alike)
        alike.add(numbers[name])
    return {name: _style(run.metadata.method_title(name), numbers[name], _is_control(abouts[name])) for name in abouts}


def _is_control(about: Mapping[str, Any]) -> bool:
    return about.get("control") is True


def _style(title: str, number: int, is_control: bool) -> MethodStyle:
    turn, colour = divmod(number, len(COLOURS))
    sign, dash = (colour + turn) % len(MARKERS), DASHES[turn % len(DASHES)]
    return MethodStyle(title, GREY if is_control else COLOURS[colour], MARKERS[sign], SHAPES[sign], dash)


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


def axis_label(value: Value) -> str:
    """The metric with its unit, unless the title says it: "Confidence drop [probability]"."""
    return value.title if not value.unit or value.unit in value.title else f"{value.title} [{value.unit}]"


def axis_title(value: Value) -> str:
    """`axis_label` and the direction: "Confidence drop [probability], higher is better"."""
    return axis_label(value) + (f", {BETTER[value.better]}" if value.better in BETTER else "")


def finished(
    chart: alt.LayerChart | alt.FacetChart, hover: Mapping[str, Mapping[str, str]], params: Sequence[str]
) -> dict[str, Any]:
    """The spec. hover: {table: {column: title}}, what the page shows of a row where the pointer is, and in the table of
    the data. params: names of what the page sets before it draws, beside HIDDEN.

    Validation would take half of the time: tests/report/charts/test_charts.py does it for all specs. For the same
    reason what belongs to the top is added to the result.
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


MARGIN = 0.03  # of an axis, beyond its values, so that no mark lies on the frame
SPREAD = 20.0  # of the largest to the smallest value: from here on a linear axis hides the small ones
SMALLEST = 0.01  # the least that an axis from 0 shows: below lie methods that are exact but for rounding
LINEAR = 1e9  # the constant of a symlog scale that makes it linear
LIMITS = ("low", "high", "ticks")
SYMLOG = (*LIMITS, "linear")
_ROUND = MaxNLocator(nbins=5, steps=[1, 2, 5, 10])
# 0.001 to 10,000 in full, beyond them powers of ten as such.
_POWER = "round(log(datum.value) / LN10)"
_SUPERSCRIPT = f"['⁰','¹','²','³','⁴','⁵','⁶','⁷','⁸','⁹'][abs({_POWER})]"
_TEN_TO = f"'10' + ({_POWER} < 0 ? '⁻' : '') + {_SUPERSCRIPT}"
_IS_WIDE = "datum.value != 0 && (abs(datum.value) < 0.001 || abs(datum.value) > 1e4)"
_IS_POWER = f"abs(log(datum.value) / LN10 - {_POWER}) < 1e-9"
LABEL = f"{_IS_WIDE} && {_IS_POWER} ? {_TEN_TO} : {_IS_WIDE} ? format(datum.value, '~e') : format(datum.value, ',~r')"


def between_limits(log: bool) -> alt.Scale:
    """A scale between the parameters of LIMITS."""
    return alt.Scale(type="log" if log else "linear", domain=[alt.ExprRef("low"), alt.ExprRef("high")], nice=False)


def axis(title: str | None = None) -> alt.Axis:
    """An axis with the ticks of LIMITS."""
    return alt.Axis(title=title, values=alt.ExprRef("ticks"), labelExpr=LABEL)


def limits(low: float, high: float, log: bool) -> dict[str, Any]:
    """The parameters of LIMITS: a scale from a little below `low` to a little above `high`."""
    if log:
        low, high = low / 1.3, high * 1.3
        return {"low": low, "high": high, "ticks": log_ticks(low, high)}
    margin = MARGIN * (high - low) or 0.5 * abs(high) or 0.5
    low, high = low - margin, high + margin
    return {"low": low, "high": high, "ticks": within(_ROUND.tick_values(low, high), low, high)}


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten, and twice and five times them where there are few."""
    powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    few = high < 50 * low
    return within(np.outer(powers, (1, 2, 5) if few else (1,)).ravel(), low, high)


def symlog(channel: Any, axis_name: str, column: str, title: str | None = None) -> Any:
    """A channel on an axis that is linear, or logarithmic beyond a value, for values that may be 0. Its parameters are
    those of `symlog_params`."""
    domain = [alt.ExprRef(f"{axis_name}_{name}") for name in ("low", "high")]
    scale = alt.Scale(type="symlog", constant=alt.ExprRef(f"{axis_name}_linear"), domain=domain, nice=False)
    ticks = alt.Axis(title=title, values=alt.ExprRef(f"{axis_name}_ticks"), labelExpr=LABEL)
    return channel(f"{column}:Q", scale=scale, axis=ticks, stack=None)


def symlog_params(axis_name: str, values: Floats, from_zero: bool = False) -> dict[str, Any]:
    """Logarithmic beyond the smallest value, and from 0, where values of at least 0 spread wide; else linear.

    The parameters are SYMLOG, each with the axis' name before it. The axis begins a little below its lowest value.
    """
    low, high = float(min(values)), float(max(values))
    positive = [float(value) for value in values if value >= FLOAT32_ROUNDING] or [SMALLEST]
    if low >= 0 and max(positive) > SPREAD * min(positive):
        high, linear = 1.15 * high, max(min(positive), high / 1000)
        ticks = np.append(0, 10.0 ** np.arange(np.ceil(np.log10(linear)), np.log10(high)))
        low = -MARGIN * linear * np.log1p(high / linear)  # near 0 the scale is linear
    else:
        linear = LINEAR
        if from_zero or max(-low, high) < FLOAT32_ROUNDING:  # an axis over rounding would rank methods that coincide
            low, high = 0.0, max(high, SMALLEST)
        margin = MARGIN * (high - low) or 0.1 * abs(high) or SMALLEST
        ticks = np.asarray(_ROUND.tick_values(low, high))
        low, high = low - margin, high + margin * (4 if from_zero else 1)
    named = dict(zip(SYMLOG, (low, high, within(ticks, low, high), linear), strict=True))
    return {f"{axis_name}_{name}": value for name, value in named.items()}


def within(ticks: Iterable[float], low: float, high: float) -> list[float]:
    """The ticks on the axis, without digits from rounding."""
    return [float(f"{tick:.6g}") for tick in ticks if low <= tick <= high]
