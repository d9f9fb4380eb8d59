"""The first screen: what the run says, each sentence with its interval and a small chart of the methods."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

from axiom_bench.report.charts.vega import method_styles
from axiom_bench.report.last_lines import last_lines, random_weights_lines
from axiom_bench.report.options import options_of
from axiom_bench.report.page.html import Section, part
from axiom_bench.report.page.tables import Terms
from axiom_bench.statistics.labels import FLOAT32_ROUNDING, Setting, Value, number
from axiom_bench.statistics.ranking import Statement, findings
from axiom_bench.statistics.run_folder import RunFolder

STYLES, SCRIPTS = ("findings.css",), ("panels.js",)
SIDE_BY_SIDE = 4  # settings; of more, a reader chooses one


def section(run: RunFolder, terms: Terms) -> Section:
    """Findings by metric and setting; where nothing can be compared, the values that there are."""
    statements, warnings = findings(run, options_of(run).headline), random_weights_lines(run)
    by_metric = groupby(statements, lambda statement: statement.metric)
    body = part(
        "findings",
        failures=run.manifest.get("failures") or (),
        warnings=warnings,
        is_empty=run.records.empty,
        metrics=[_metric(run, run.metadata.value(name), list(group), terms) for name, group in by_metric],
        lines=[] if statements else last_lines(run)[len(warnings) :],
        side_by_side=len(run.settings) <= SIDE_BY_SIDE,
    )
    return Section("findings", "Findings", body, STYLES, SCRIPTS)


def _metric(run: RunFolder, value: Value, statements: Sequence[Statement], terms: Terms) -> dict[str, object]:
    """A metric's heading, the sentences on all settings, and a card for each setting."""
    direction = f", {value.better} is better" if value.has_direction else ""
    cards = []
    for setting in run.settings:
        label = run.label(setting)  # stands above its sentences, and is left out of them
        if selected := [statement for statement in statements if statement.settings == (setting,)]:
            sentences = [{"kind": each.kind, "text": each.sentence.removeprefix(f"{label}: ")} for each in selected]
            cards.append({"label": label, "sentences": sentences, "chart": _interval_chart(run, setting, value)})
    return {
        "title": value.title,
        "term": terms.metrics.get(value.name, ""),
        "about": f"{value.lead}{direction}",
        "general": [statement.sentence for statement in statements if len(statement.settings) != 1],
        "cards": cards,
    }


def _interval_chart(run: RunFolder, setting: Setting, value: Value) -> Markup:
    comparison = run.comparisons.of(setting, value.name)
    if comparison is None or len(comparison.groups) < 2:
        return Markup("")
    styles, places = method_styles(run), comparison.places.to_dict("index")
    rows = []
    for group in comparison.ranked:
        place = places[group[0]]
        title, colour = " = ".join(map(run.metadata.method_title, group)), styles[group[0]].colour
        centre, low, high = (float(place[column]) for column in ("value", "value_low", "value_high"))
        rows.append(Row(title, colour, centre, low, high, bool(place["is_best"])))
    images = f"{comparison.images} image{'' if comparison.images == 1 else 's'}"
    return interval_chart(f"{value.title}, {value.lead} with 95 % interval, n = {images}", rows, value.unit == "ratio")


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

    return part(
        "interval_chart",
        label=label + (", logarithmic scale" if is_log else ""),
        zero=None if is_log else place(0.0),
        rows=[(row, place(row.value), place(row.low), place(row.high), number(row.value)) for row in rows],
        text="; ".join(f"{row.title} {number(row.value)} ({number(row.low)} to {number(row.high)})" for row in rows),
    )
