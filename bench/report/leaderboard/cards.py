"""Pages of methods, one each, as method-NAME.html, and the page of all metrics, each with an
address, as metrics.html#single_deletion.
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
    folded,
    pages_of,
    places_cells,
)
from axiom_bench.report.page.html import Header, Section, assemble, render
from axiom_bench.report.page.tables import SCRIPTS, STYLES, Definition, Terms, block
from axiom_bench.report.tables.table import Cell, Group, Table
from axiom_bench.report.tables.text import ARROWS
from axiom_bench.statistics.labels import number

METRICS = "metrics.html"
COLUMNS = (
    "Metric",
    *HEADER[1:],
    "Values\nlowest to highest",
    "Can't be told from\non every network",
)
MOST_METRICS, MOST_TABLES = 12, 8  # in a table and on a page; of more they are folded
MOST_TIED = 5  # names of methods in a cell


def methods(parts: Sequence[Part], costs: Costs) -> dict[str, str]:
    """{file: page} of every method; of parts that define one differently the first."""
    first = {entry.name: (part, entry) for part in reversed(parts) for entry in part.definitions[0]}
    titles = {entry.name: entry.title for part in parts for entry in part.definitions[1]}
    pages = {}
    for name, (part, entry) in first.items():
        card = Section(
            "about", "About", _card(_method_facts(part, entry, titles, costs), entry), (STYLE,)
        )
        of_method = [each for each in parts if name in each.run.methods]
        tables = [_places(each, name, place < MOST_TABLES) for place, each in enumerate(of_method)]
        header = Header(ABOVE, entry.title, BACK | {"Name": name, "Family": part.family(name)})
        pages[pages_of([entry])[name]] = assemble(header, [card, *tables])
    return dict(sorted(pages.items()))


def metrics(parts: Sequence[Part]) -> str:
    """The page of all metrics by which methods are ranked."""
    first: dict[str, Definition] = {}
    for entry in (
        entry for part in parts for entry in part.definitions[1] if entry.name in part.standings
    ):
        first.setdefault(entry.name, entry)
    sections = [
        Section(name, entry.title, _metric(parts, entry), (STYLE,)) for name, entry in first.items()
    ]
    return assemble(Header(ABOVE, "Metrics", BACK), sections)


def _card(facts: Mapping[str, Iterable[str]], entry: Definition) -> Markup:
    filled = {
        title: texts for title, each in facts.items() if (texts := [text for text in each if text])
    }
    return render("leaderboard/card.html.j2", facts=filled, cited=entry.cited)


def _method_facts(
    part: Part, entry: Definition, titles: Mapping[str, str], costs: Costs
) -> dict[str, Iterable[str]]:
    """titles: of metrics, by name."""
    about = part.run.metadata.method(entry.name)
    held = [titles.get(metric, metric) for metric in about.wins_by_construction]
    passes = costs.get(entry.name)
    cost = []
    if passes is not None:
        whole = (
            "the trace's pass"
            if passes == 1
            else f"{passes:,} passes of the whole network, with the trace's"
        )
        drops = ", and ablation drops" if about.needs_drops else ""
        cost = [f"{whole}{drops}, for an image and a layer of {CHANNELS} channels."]
    return {
        "Definition": [entry.formula],
        "Cost": cost,
        "By construction": [
            f"{title}: best by the method's own formula, so not ranked." for title in held
        ],
        "Notes": entry.facts,
        "Known defects": [
            *([about.unstable] if about.unstable else []),
            *(f"Fails the check {check}: {why}." for check, why in about.exempt.items()),
        ],
    }


def _metric(parts: Iterable[Part], entry: Definition) -> Markup:
    asking = (part for part in parts if entry.name in part.standings)
    links = [f'<a href="{part.page}#{entry.name}">{escape(part.name)}</a>' for part in asking]
    facts = {"Notes": entry.facts, "Places": [Markup(", ".join(links))]}
    return folded(entry.formula or "About it", _card(facts, entry), is_open=False)


def _places(part: Part, method: str, is_open: bool) -> Section:
    """The method's table on a part, a row for each metric."""
    run, rows, links = part.run, [], {}
    for metric, by_method in part.standings.items():
        if not (standings := by_method.get(method)):
            continue
        value, values = run.metadata.value(metric), standings.values
        title = f"{value.title} {ARROWS.get(value.better, '').strip()}"
        tied = [run.metadata.method_title(name) for name in run.methods if name in standings.tied]
        spread = Cell(f"{number(values[0])} to {number(values[-1])}", numbers=(values[0],))
        rows.append(
            (
                Cell(title),
                *places_cells(standings),
                spread,
                Cell(first_names(tied, MOST_TIED, "; ") or "none"),
            )
        )
        links[title] = f"{part.page}#{metric}"
    notes = (
        "Places, from the first to the last that can't be excluded on some network, at 5 % after "
        "Holm. In brackets on the networks that the method has alone, which are too few for a "
        "place. A metric leads to all methods' values.",
    )
    table = Table(
        f"places_{part.page}", part.name, COLUMNS, (Group("", tuple(rows)),), notes, text_last=True
    )
    is_open &= len(rows) <= MOST_METRICS
    body = folded(f"Places by {len(rows)} metrics", block([table], Terms(pages=links)), is_open)
    return Section(part.page.removesuffix(".html"), part.name, body, STYLES, SCRIPTS)
