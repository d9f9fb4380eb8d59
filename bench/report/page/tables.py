"""Findings, tables, which print without a script and sort with one, and the definitions that their
words link to.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

from markupsafe import Markup

from axiom_bench.judging.card import committed_card, leaders
from axiom_bench.records.entries import MethodEntry, MetricEntry, PluginEntry
from axiom_bench.report.card import committed_line
from axiom_bench.report.charts.styles import method_styles
from axiom_bench.report.options import options_of
from axiom_bench.report.page.html import Section, part
from axiom_bench.report.tables.headline import metric_lines, warning_lines
from axiom_bench.report.tables.table import Table
from axiom_bench.statistics.labels import Setting, Value, number
from axiom_bench.statistics.ranking import Statement, findings, group_name
from axiom_bench.statistics.run_folder import RunFolder

RESULT = re.compile(
    r" -> (?:\([^)]*\)(?: each)?|two values \([^)]*\))"
)  # the shape at the end of a docstring's line

ON_THE_CARD = "On the scorecard of metrics it"


@dataclass(frozen=True)
class Definition:
    """id: its anchor. name: as in commands and files. formula: what is computed. facts: further
    sentences.

    cited: text, title and url of the work, empty where none is.
    """

    id: str
    name: str
    title: str
    formula: str
    facts: tuple[str, ...]
    cited: Mapping[str, str]


@dataclass(frozen=True)
class Terms:
    """Anchors of the definitions. methods: by name and by title. metrics: by name. titles: of
    metrics, by title. pages: other pages that a word of a table leads to, by that word. controls:
    titles of methods that explain nothing.
    """

    methods: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, str] = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)
    pages: Mapping[str, str] = field(default_factory=dict)
    controls: Collection[str] = ()


def definitions_of(run: RunFolder) -> tuple[list[Definition], list[Definition]]:
    """Those of the methods and of the metrics with records, in the manifest's order."""
    # The manifest's metrics are values, which share their metric's parameters.
    params = {name: (entry or {}).get("params") or {} for name, entry in run.config.metric.items()}
    of_methods, of_metrics = [], []
    for name in run.methods:
        method = run.metadata.method(name)
        of_methods.append(
            _definition("method", name, run.metadata.method_title(name), method, method.params)
        )
    for name in run.metrics:
        metric = run.metadata.metric(name)
        title, line = run.metadata.value(name).title, committed_line(run, name)
        more = [f"{ON_THE_CARD} {line}."] if line else []
        of_metrics.append(
            _definition("metric", name, title, metric, params.get(metric.metric, {}), more)
        )
    return of_methods, of_metrics


def definitions_section(methods: Iterable[Definition], metrics: Iterable[Definition]) -> Section:
    """Both lists, each entry an anchor."""
    body = part("definitions", kinds={"Methods": list(methods), "Metrics": list(metrics)})
    return Section("definitions", "Definitions", body, ("definitions.css",), ("definitions.js",))


def terms(
    methods: Sequence[Definition], metrics: Sequence[Definition], controls: Collection[str] = ()
) -> Terms:
    """Where each method and metric is defined; a title of several has the first."""
    return Terms(
        {name: entry.id for entry in reversed(methods) for name in (entry.title, entry.name)},
        {entry.name: entry.id for entry in metrics},
        {entry.title: entry.id for entry in reversed(metrics)},
        controls=controls,
    )


def _definition(
    kind: str,
    name: str,
    title: str,
    about: PluginEntry,
    params: Mapping[str, Any],
    more: Iterable[str] = (),
) -> Definition:
    """A web address that is none stays out: a stranger's may be a script."""
    anchor = f"{kind}-{re.sub(r'[^A-Za-z0-9_.@-]', '-', name)}"
    formula = RESULT.sub("", str(about.description or "")).rstrip(".")
    work, cited = about.cited, {}
    if not work.is_empty:
        is_address = work.url.startswith(("https://", "http://"))
        cited = {
            "text": work.text,
            "title": str(work.title or ""),
            "url": work.url if is_address else "",
        }
    return Definition(anchor, name, title, formula, (*_facts(about, params), *more), cited)


def _facts(about: PluginEntry, params: Mapping[str, Any]) -> Iterator[str]:
    if isinstance(about, MetricEntry):
        unit = f"Unit: {about.unit}." if about.unit else ""
        better = {"lower": "Lower is better.", "higher": "Higher is better."}.get(about.better, "")
        if direction := " ".join(filter(None, (unit, better))):
            yield direction
    if about.definition:
        yield f"Follows {about.definition}" + (
            f". Differs: {about.deviation}." if about.deviation else "."
        )
    if params:
        yield f"Parameters: {', '.join(f'{name}={value}' for name, value in params.items())}."
    if isinstance(about, MethodEntry) and about.on_score_scale is False:
        yield "Not on the score's scale, so the axiom errors don't apply to it."
    if about.note:
        yield str(about.note)


STYLES, SCRIPTS = (
    ("tables.css",),
    ("panels.js", "tables_sort.js", "tables_filter.js", "tables_copy.js"),
)


def overview(run: RunFolder, table: Table, terms: Terms, maps: Markup) -> Section:
    """The one table that stands open before all others, below some maps."""
    off = {run.metadata.value(name).title for name in options_of(run).columns_off}
    return Section(
        "overview", "Overview", maps + block([table], terms, off), (*STYLES, "maps.css"), SCRIPTS
    )


def section(tables: Iterable[Table], terms: Terms) -> Section:
    """All tables, each family of settings as one with a switch."""
    families = [
        (name, list(group))
        for name, group in groupby(tables, lambda table: table.family or table.title)
    ]
    body = Markup("").join(
        part("folded", title=title, body=block(group, terms)) for title, group in families
    )
    return Section("tables", "Tables", body, STYLES, SCRIPTS)


def block(tables: Sequence[Table], terms: Terms, off: Collection[str] = ()) -> Markup:
    """Tables with the same columns, one for each setting, under one set of filters. off: titles of
    columns that are off until a reader asks.
    """
    panels = [(table.label, part("table", table=table, terms=terms, off=off)) for table in tables]
    return part("table_block", panels=panels)


SIDE_BY_SIDE = 4  # settings; of more, a reader chooses one


def findings_section(
    run: RunFolder, terms: Terms, trust: Mapping[Setting, Mapping[str, str]]
) -> Section:
    """Findings by metric and setting; where nothing can be compared, the values that there are.
    trust: of a setting's metrics how far their order can be trusted. Beside them stands what the
    committed scorecard says of each metric.
    """
    statements = findings(run, options_of(run).headline)
    by_metric = groupby(statements, lambda statement: statement.metric)
    body = part(
        "findings",
        failures=run.manifest.failures,
        warnings=warning_lines(run),
        is_empty=run.records.empty,
        metrics=[
            _metric(run, run.metadata.value(name), list(group), terms, trust)
            for name, group in by_metric
        ],
        no_leader=not leaders(committed_card()),
        lines=[] if statements else list(metric_lines(run)),
        side_by_side=len(run.settings) <= SIDE_BY_SIDE,
    )
    return Section("findings", "Findings", body, ("findings.css",), ("panels.js",))


def _metric(
    run: RunFolder,
    value: Value,
    statements: Sequence[Statement],
    terms: Terms,
    trust: Mapping[Setting, Mapping[str, str]],
) -> dict[str, object]:
    """A metric's heading, the sentences on all settings, and a card for each setting."""
    direction = f", {value.better} is better" if value.has_direction else ""
    cards = []
    for setting in run.settings:
        label = run.label(setting)  # stands above its sentences, and is left out of them
        sentences = [
            {
                "kind": each.kind,
                "text": each.sentence.removeprefix(f"{label}: "),
                "numbers": each.numbers,
            }
            for each in statements
            if each.settings == (setting,)
        ]
        if sentences:
            chart, words = (
                intervals(run, setting, value),
                trust.get(setting, {}).get(value.name, ""),
            )
            cards.append({"label": label, "sentences": sentences, "chart": chart, "trust": words})
    return {
        "title": value.title,
        "term": terms.metrics.get(value.name, ""),
        "about": f"{value.lead}{direction}",
        "card": f"{ON_THE_CARD} {line}." if (line := committed_line(run, value.name)) else "",
        "general": [statement.sentence for statement in statements if len(statement.settings) != 1],
        "cards": cards,
    }


def intervals(run: RunFolder, setting: Setting, value: Value, most: int | None = None) -> Markup:
    """The chart of a metric's values in a setting, of the best `most` groups of methods; empty
    where there is one.
    """
    comparison = run.comparisons.of(setting, value.name)
    if comparison is None or len(comparison.groups) < 2:
        return Markup("")
    rows = []
    for group in comparison.ranked[:most]:
        place, colour = comparison.place(group[0]), method_styles(run)[group[0]].colour
        ends = (place.value, place.value_low, place.value_high)
        more = f" and {len(group) - most} more" if most and len(group) > most else ""
        is_control = run.metadata.controls.issuperset(group)
        rows.append(
            Row(group_name(run, group[:most]) + more, colour, *ends, place.is_best, is_control)
        )
    images = f"{comparison.images} image{'' if comparison.images == 1 else 's'}"
    return interval_chart(
        f"{value.title}, {value.lead} with 95 % interval, n = {images}", rows, value
    )


LOG_SPREAD = (
    30.0  # times the smallest value: from here on a linear scale draws most dots on one another
)


class Row(NamedTuple):
    """A method's value with the ends of its interval. is_best: drawn stronger."""

    title: str
    colour: str
    value: float
    low: float
    high: float
    is_best: bool = False
    is_control: bool = False


def interval_chart(label: str, rows: Sequence[Row], value: Value) -> Markup:
    """label: what the values are, such as "Box IoU, mean with 95 % interval". value: the metric;
    where its kind leads with the median, values may spread over powers of ten, for which the scale
    is then logarithmic.
    """
    text = partial(number, rounding=value.rounding)
    ends = [end for row in rows for end in (row.value, row.low, row.high) if math.isfinite(end)]
    is_log = (
        value.lead == "median" and min(ends) > value.rounding and max(ends) > LOG_SPREAD * min(ends)
    )
    start, stop = (min(ends), max(ends)) if is_log else (min(0.0, *ends), max(0.0, *ends))

    def place(value: float) -> str:
        """On the scale, in per cent of its width."""
        if not math.isfinite(value) or stop == start:
            return "0%"
        share = (
            math.log(value / start) / math.log(stop / start)
            if is_log
            else (value - start) / (stop - start)
        )
        return f"{100 * share:.2f}%"

    return part(
        "interval_chart",
        label=label + (", logarithmic scale" if is_log else ""),
        zero=None if is_log else place(0.0),
        rows=[
            (row, place(row.value), place(row.low), place(row.high), text(row.value))
            for row in rows
        ],
        text="; ".join(
            f"{row.title} {text(row.value)} ({text(row.low)} to {text(row.high)})" for row in rows
        ),
    )
