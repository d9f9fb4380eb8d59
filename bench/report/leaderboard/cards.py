"""The pages of methods, such as method-grad_cam.html, and the page of all metrics. Each metric has
an address, such as metrics.html#single_deletion.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from markupsafe import Markup, escape

from axiom_bench.errors import first_names
from axiom_bench.report.leaderboard.parts import (
    ABOVE,
    BACK,
    CHANNELS,
    HEADER,
    STYLE,
    Costs,
    Part,
    foldable,
    pages_of,
    places_cells,
)
from axiom_bench.report.page.html import Header, Section, assemble, render
from axiom_bench.report.page.tables import SCRIPTS, STYLES, Definition, Terms, tables_block
from axiom_bench.report.tables.table import Cell, Group, Table
from axiom_bench.report.tables.text import ARROWS
from axiom_bench.statistics.labels import number

METRICS = "metrics.html"
COLUMNS = (
    "Metric",
    *HEADER[1:],
    "Values\nlowest to highest",
    "Doesn't differ from,\non any network",
)
MOST_METRICS = 12  # a table with more metrics is folded
MOST_TABLES = 6  # further tables of a page are folded
MOST_TIED = 3  # the most names of methods in a cell


def methods(parts: Sequence[Part], costs: Costs) -> dict[str, str]:
    """Return {file: page} of every method. If parts define a method differently, the first one
    counts.
    """
    definitions: dict[str, tuple[Part, Definition]] = {}
    metric_titles: dict[str, str] = {}
    for part in parts:
        method_definitions, metric_definitions = part.definitions
        for definition in method_definitions:
            definitions.setdefault(definition.name, (part, definition))
        for definition in metric_definitions:
            metric_titles[definition.name] = definition.title
    pages = {}
    for name, (part, definition) in definitions.items():
        facts = _method_facts(part, definition, metric_titles, costs)
        card = Section("about", "About", _card(facts, definition), (STYLE,))
        method_parts = [part for part in parts if name in part.run.methods]
        tables = []
        for place, method_part in enumerate(method_parts):
            tables.append(_places(method_part, name, is_open=place < MOST_TABLES))
        facts_above = BACK | {"Name": name, "Family": part.family(name)}
        header = Header(ABOVE, definition.title, facts_above)
        pages[pages_of([definition])[name]] = assemble(header, [card, *tables])
    return dict(sorted(pages.items()))


def metrics(parts: Sequence[Part]) -> str:
    """Return the page of all metrics by which methods are ranked. If parts define a metric
    differently, the first one counts.
    """
    definitions: dict[str, Definition] = {}
    for part in parts:
        for definition in part.definitions[1]:
            if definition.name in part.standings:
                definitions.setdefault(definition.name, definition)
    sections = []
    for name, definition in definitions.items():
        sections.append(Section(name, definition.title, _metric(parts, definition), (STYLE,)))
    return assemble(Header(ABOVE, "Metrics", BACK), sections)


def _card(facts: Mapping[str, Iterable[str]], definition: Definition) -> Markup:
    """Return the card of a method or a metric with the facts that have a text."""
    filled = {}
    for title, texts in facts.items():
        if non_empty := [text for text in texts if text]:
            filled[title] = non_empty
    return render("leaderboard/card.html.j2", facts=filled, cited=definition.cited)


def _method_facts(
    part: Part, definition: Definition, metric_titles: Mapping[str, str], costs: Costs
) -> dict[str, Iterable[str]]:
    """Return {title: sentences} of a method's card. `metric_titles` are by name."""
    entry = part.run.metadata.method(definition.name)
    passes = costs.get(definition.name)
    cost = []
    if passes is not None:
        amount = "the trace's pass"  # a method of one pass computes on the trace only
        if passes != 1:
            amount = f"{passes:,} passes of the whole network, with the trace's"
        drops = ", and ablation drops" if entry.needs_drops else ""
        cost = [f"{amount}{drops}, for an image and a layer of {CHANNELS} channels."]
    by_construction = []
    for metric in entry.wins_by_construction:
        title = metric_titles.get(metric, metric)
        by_construction.append(f"{title}: best by the method's own formula, so not ranked.")
    defects = [entry.unstable] if entry.unstable else []
    for check, reason in entry.exempt.items():
        defects.append(f"Fails the check {check}: {reason}.")
    return {
        "Definition": [definition.formula],
        "Cost": cost,
        "By construction": by_construction,
        "Notes": definition.facts,
        "Known defects": defects,
    }


def _metric(parts: Iterable[Part], definition: Definition) -> Markup:
    """Return a metric's card with links to the parts that rank methods by it."""
    links = []
    for part in parts:
        if definition.name in part.standings:
            links.append(f'<a href="{part.page}#{definition.name}">{escape(part.name)}</a>')
    facts = {"Notes": definition.facts, "Places": [Markup(", ".join(links))]}
    return foldable(definition.formula or "About it", _card(facts, definition), is_open=False)


def _places(part: Part, method: str, is_open: bool) -> Section:
    """Return the method's table on a part, a row for each metric."""
    run = part.run
    rows = []
    links = {}
    for metric, standings_by_method in part.standings.items():
        standings = standings_by_method.get(method)
        if not standings:
            continue
        value = run.metadata.value(metric)
        title = f"{value.title} {ARROWS.get(value.better, '').strip()}"
        lowest = standings.values[0]
        highest = standings.values[-1]
        tied_names = standings.tied
        tied = [run.metadata.method_title(name) for name in run.methods if name in tied_names]
        row = (
            Cell(title),
            *places_cells(standings),
            Cell(f"{number(lowest)} to {number(highest)}", numbers=(lowest,)),
            Cell(first_names(tied, MOST_TIED, "; ") or "none"),
        )
        rows.append(row)
        # on a method's page, a metric leads to the table of all methods
        links[title] = f"{part.page}#{metric}"
    note = (
        "Places, from the first to the last that can't be excluded on some network, at 5 % after "
        "Holm, or from how many methods the method differs. In brackets: only networks that the "
        "method has alone, too few for a place. A metric leads to all methods' values."
    )
    table = Table(
        f"places_{part.page}",
        part.name,
        COLUMNS,
        (Group("", tuple(rows)),),
        (note,),
        text_last=True,
    )
    body = foldable(
        f"Places by {len(rows)} metrics",
        tables_block([table], Terms(pages=links)),
        is_open and len(rows) <= MOST_METRICS,
    )
    return Section(part.page.removesuffix(".html"), part.name, body, STYLES, SCRIPTS)
