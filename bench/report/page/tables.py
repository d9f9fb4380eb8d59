"""The page's findings, its tables, and the definitions that their words link to. Tables print
without a script and sort with one. A setting is one model, cut at one layer, on one data set.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, groupby
from typing import NamedTuple

from markupsafe import Markup

from axiom_bench.columns import OK
from axiom_bench.errors import plural
from axiom_bench.judging.card import committed_card, leaders
from axiom_bench.records.entries import MethodEntry, MetricEntry, PluginEntry
from axiom_bench.report.card import committed_verdict
from axiom_bench.report.charts.styles import common_rows, method_styles
from axiom_bench.report.options import options_of
from axiom_bench.report.page.html import Section, render_part
from axiom_bench.report.tables.headline import metric_lines, warning_lines
from axiom_bench.report.tables.table import Table
from axiom_bench.report.tables.text import reason
from axiom_bench.statistics.labels import (
    NOTHING,
    Setting,
    Value,
    confidence,
    number,
    rows_at,
)
from axiom_bench.statistics.ranking import Statement, findings, group_name
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder
from axiom_bench.statistics.summary import counts_of, leading_rows

# The shape at the end of a docstring's first line.
RESULT = re.compile(r" -> (?:\([^)]*\)(?: each)?|two values \([^)]*\))")


@dataclass(frozen=True)
class Definition:
    """The definition of a method or a metric, as the page shows it."""

    id: str  # its anchor
    name: str  # as in commands and files
    title: str
    formula: str  # a description of what is computed
    facts: tuple[str, ...]  # further sentences
    cited: Mapping[str, str]  # "text", "title" and "url" of the cited work; empty if there is none


@dataclass(frozen=True)
class Terms:
    """The addresses that words of a table link to. They are anchors of definitions, except
    `pages`.
    """

    methods: Mapping[str, str] = field(default_factory=dict)  # by name and by title
    metrics: Mapping[str, str] = field(default_factory=dict)  # by name
    titles: Mapping[str, str] = field(default_factory=dict)  # of metrics, by title
    pages: Mapping[str, str] = field(default_factory=dict)  # other pages, by the word
    controls: Collection[str] = ()  # titles of methods that explain nothing


def definitions_of(run: RunFolder) -> tuple[list[Definition], list[Definition]]:
    """Return the definitions of the methods and of the metrics that have records, in the manifest's
    order.
    """
    # The manifest's metrics are values, which share their metric's parameters.
    params = {name: (entry or {}).get("params") or {} for name, entry in run.config.metric.items()}
    methods = []
    for name in run.methods:
        method = run.metadata.method(name)
        title = run.metadata.method_title(name)
        methods.append(_definition("method", name, title, method, method.params))
    metrics = []
    for name in run.metrics:
        metric = run.metadata.metric(name)
        title = run.metadata.value(name).title
        line = committed_verdict(run, name)
        more_facts = [line] if line else []
        metric_params = params.get(metric.metric, {})
        metrics.append(_definition("metric", name, title, metric, metric_params, more_facts))
    return methods, metrics


def definitions_section(methods: Iterable[Definition], metrics: Iterable[Definition]) -> Section:
    """Return the section with both lists of definitions. Each definition is an anchor."""
    body = render_part("definitions", kinds={"Methods": list(methods), "Metrics": list(metrics)})
    return Section("definitions", "Definitions", body, ("definitions.css",), ("definitions.js",))


def metric_links(
    methods: Sequence[Definition], metrics: Sequence[Definition], controls: Collection[str] = ()
) -> Terms:
    """Return the anchor of each method and metric. If several have one title, it leads to the
    first.
    """
    method_anchors = {}
    for definition in reversed(methods):  # the first one is written last, and stays
        method_anchors[definition.title] = definition.id
        method_anchors[definition.name] = definition.id
    return Terms(
        methods=method_anchors,
        metrics={definition.name: definition.id for definition in metrics},
        titles={definition.title: definition.id for definition in reversed(metrics)},
        controls=controls,
    )


def _definition(
    kind: str,
    name: str,
    title: str,
    entry: PluginEntry,
    params: Mapping[str, object],
    more_facts: Iterable[str] = (),
) -> Definition:
    """Return the definition of a plug-in. Its citation links only to an http or https address,
    because a stranger's address may be a script.
    """
    anchor = f"{kind}-{re.sub(r'[^A-Za-z0-9_.@-]', '-', name)}"
    formula = RESULT.sub("", str(entry.description or "")).rstrip(".")
    work = entry.cited
    cited = {}
    if not work.is_empty:
        is_address = work.url.startswith(("https://", "http://"))
        cited = {
            "text": work.text,
            "title": str(work.title or ""),
            "url": work.url if is_address else "",
        }
    facts = (*_facts(entry, params), *more_facts)
    return Definition(anchor, name, title, formula, facts, cited)


def _facts(entry: PluginEntry, params: Mapping[str, object]) -> Iterator[str]:
    """Yield the sentences of a definition."""
    if isinstance(entry, MetricEntry):
        unit = f"Unit: {entry.unit}." if entry.unit else ""
        better = {"lower": "Lower is better.", "higher": "Higher is better."}.get(entry.better, "")
        if direction := " ".join(filter(None, (unit, better))):
            yield direction
    if entry.definition:
        deviation = f" Differs: {entry.deviation}." if entry.deviation else ""
        yield f"Follows {entry.definition}.{deviation}"
    if params:
        yield f"Parameters: {', '.join(f'{name}={value}' for name, value in params.items())}."
    if isinstance(entry, MethodEntry) and entry.on_score_scale is False:
        yield "Not on the score's scale, so the axiom errors don't apply to it."
    if entry.note:
        yield str(entry.note)


# Files of page/static/ that every section with a table needs.
STYLES = ("tables.css",)
SCRIPTS = ("panels.js", "tables_sort.js", "tables_filter.js", "tables_copy.js")


def overview(run: RunFolder, table: Table, terms: Terms, maps: Markup) -> Section:
    """Return the section of the overview table, which is open and comes before all others. It
    begins with some maps.
    """
    hidden_titles = {run.metadata.value(name).title for name in options_of(run).columns_off}
    reasons = {}
    for name in options_of(run).columns:
        reasons[run.metadata.value(name).title] = _reasons_without_value(run, name)
    body = maps + tables_block([table], terms, hidden_titles, reasons)
    return Section("overview", "Overview", body, (*STYLES, "maps.css"), SCRIPTS)


def _reasons_without_value(run: RunFolder, metric: str) -> str:
    """Return in words why rows of a metric have no value; "" if all have one."""
    rows = run.summary[(run.summary["metric"] == metric) & (run.summary["method"] != METHOD_FREE)]
    statuses = dict.fromkeys(chain.from_iterable(map(counts_of, rows["statuses"])))
    return ", ".join(reason(status) for status in statuses if status != OK)


def section(tables: Iterable[Table], terms: Terms) -> Section:
    """Return the section of all tables. The tables of several settings are one with a switch."""
    body = Markup("")
    for title, group in groupby(tables, lambda table: table.family or table.title):
        body += render_part("folded", title=title, body=tables_block(list(group), terms))
    return Section("tables", "Tables", body, STYLES, SCRIPTS)


def tables_block(
    tables: Sequence[Table],
    terms: Terms,
    off: Collection[str] = (),
    reasons: Mapping[str, str] | None = None,
) -> Markup:
    """Render tables with the same columns, one for each setting, under one set of filters.

    Columns without any value are also hidden until a reader asks, and a sentence lists them.

    Args:
        tables: The tables.
        terms: The addresses that words of the tables link to.
        off: Titles of columns that are hidden until a reader asks.
        reasons: {title of a column: why cells have no value}, if it is known.
    """
    empty = [title for title in columns_without_value(tables) if title not in off]
    hidden = {*off, *empty}
    panels = [
        (table.label, render_part("table", table=table, terms=terms, off=hidden))
        for table in tables
    ]
    listed = []
    for title in empty:
        why = (reasons or {}).get(title)
        listed.append(f"{title} ({why})" if why else title)
    return render_part("table_block", panels=panels, empty=listed)


def columns_without_value(tables: Sequence[Table]) -> list[str]:
    """Return the titles of columns of numbers that have no value in any of the tables."""
    with_value = set()
    titles: dict[str, None] = {}
    for table in tables:
        rows = [row for group in table.groups for row in group.rows]
        for place, column in enumerate(table.columns):
            if rows and column.is_number:
                titles[column.title] = None
            if any(row[place].text not in ("", NOTHING) for row in rows):
                with_value.add(column.title)
    return [title for title in titles if title not in with_value]


SIDE_BY_SIDE = 4  # the most settings that are shown together; of more, a reader chooses one


def findings_section(
    run: RunFolder, terms: Terms, trust: Mapping[Setting, Mapping[str, str]]
) -> Section:
    """Return the section of findings by metric and setting, with what the committed scorecard says
    of each metric. If nothing can be compared, it shows the values that the run has.

    Args:
        run: The run, as read from its folder.
        terms: The anchors of the definitions.
        trust: {setting: {metric: how far its order of the methods can be trusted}}.
    """
    # the findings of one metric follow each other, so that each metric is one group
    statements = findings(run, options_of(run).headline)
    metrics = []
    for name, group in groupby(statements, lambda statement: statement.metric):
        metrics.append(_metric(run, run.metadata.value(name), list(group), terms, trust))
    body = render_part(
        "findings",
        failures=run.manifest.failures,
        warnings=warning_lines(run),
        is_empty=run.records.empty,
        metrics=metrics,
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
    """Return a metric's heading, the sentences on all settings, and a card for each setting."""
    direction = f", {value.better} is better" if value.has_direction else ""
    cards = []
    for setting in run.settings:
        # The card shows the setting's label above its sentences, so the sentences omit it.
        label = run.label(setting)
        sentences = []
        for statement in statements:
            if statement.settings == (setting,):
                sentence = {
                    "kind": statement.kind,
                    "text": statement.sentence.removeprefix(f"{label}: "),
                    "numbers": statement.numbers,
                }
                sentences.append(sentence)
        if sentences:
            card = {
                "label": label,
                "sentences": sentences,
                "chart": intervals(run, setting, value),
                "trust": trust.get(setting, {}).get(value.name, ""),
            }
            cards.append(card)
    return {
        "title": value.title,
        "term": terms.metrics.get(value.name, ""),
        "about": f"{value.lead}{direction}",
        "card": committed_verdict(run, value.name),
        "general": [statement.sentence for statement in statements if len(statement.settings) != 1],
        "cards": cards,
    }


def intervals(run: RunFolder, setting: Setting, value: Value, most: int | None = None) -> Markup:
    """Return the chart of a metric's values in a setting. It is empty for fewer than two groups.

    Args:
        run: The run, as read from its folder.
        setting: The setting whose values are shown.
        value: The metric.
        most: How many of the best groups of methods are shown, each with one name; `None`: all
            groups with all names.
    """
    comparison = run.comparisons.of(setting, value.name)
    # a chart of a single value would compare nothing
    if comparison is None or len(comparison.groups) < 2:
        return Markup("")
    rows = []
    for group in comparison.ranked[:most]:
        place = comparison.place(group[0])
        title = group_name(run, group)
        if most and len(group) > 1:  # a small chart has one line for a name
            title = f"{group_name(run, group[:1])} and {len(group) - 1} more"
        row = Row(
            title=title,
            colour=method_styles(run)[group[0]].colour,
            value=place.value,
            low=place.value_low,
            high=place.value_high,
            is_best=place.is_best,
            is_control=run.metadata.controls.issuperset(group),
        )
        rows.append(row)
    images = plural(comparison.images, "image")
    label = f"{value.title}, {value.lead} with {confidence(run.level)} interval, n = {images}"
    summary = rows_at(leading_rows(run.summary_without_intervals), setting)
    if rows_in_common := common_rows(summary[summary["metric"] == value.name]):
        label = f"{label}, {rows_in_common}"
    return interval_chart(label, rows, value)


# If the largest value is more than this times the smallest, a linear scale draws most dots on top
# of each other.
LOG_SPREAD = 30.0


class Row(NamedTuple):
    """A method's value with the ends of its interval. The chart draws a row that `is_best`
    stronger.
    """

    title: str
    colour: str
    value: float
    low: float
    high: float
    is_best: bool = False
    is_control: bool = False


def interval_chart(label: str, rows: Sequence[Row], value: Value) -> Markup:
    """Return a chart of values with their intervals. The scale is logarithmic if the values spread
    over powers of ten, which only a metric that leads with the median may have.

    Args:
        label: A description of the values, such as "Box IoU, mean with 95 % interval".
        rows: The values, one row each.
        value: The metric.
    """
    text = partial(number, rounding=value.rounding)
    ends = []
    for row in rows:
        ends += [end for end in (row.value, row.low, row.high) if math.isfinite(end)]
    lowest = min(ends)
    highest = max(ends)
    may_be_log = value.lead == "median" and lowest > value.rounding
    is_log = may_be_log and highest > LOG_SPREAD * lowest
    start = lowest if is_log else min(0.0, lowest)
    stop = highest if is_log else max(0.0, highest)

    def place(value: float) -> str:
        """Return the place on the scale, in per cent of its width."""
        if not math.isfinite(value) or stop == start:
            return "0%"
        if is_log:
            log_share = math.log(value / start) / math.log(stop / start)
            return f"{100 * log_share:.2f}%"
        share = (value - start) / (stop - start)
        return f"{100 * share:.2f}%"

    # The descriptions are the chart's text for readers who don't see it.
    drawn_rows = []
    descriptions = []
    for row in rows:
        row_text = text(row.value)
        drawn_rows.append((row, place(row.value), place(row.low), place(row.high), row_text))
        descriptions.append(f"{row.title} {row_text} ({text(row.low)} to {text(row.high)})")
    return render_part(
        "interval_chart",
        label=label + (", logarithmic scale" if is_log else ""),
        zero=None if is_log else place(0.0),
        rows=drawn_rows,
        text="; ".join(descriptions),
    )
