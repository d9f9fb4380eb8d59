"""A page of a part of a suite: what a reader chooses from, and a table for each metric, which has
an address, as scenes-1-planted.html#single_deletion.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from markupsafe import Markup

from axiom_bench.judging.standing import Standings, standings
from axiom_bench.records import publishing
from axiom_bench.report.card import committed_line
from axiom_bench.report.options import options_of
from axiom_bench.report.page import tables as page_tables
from axiom_bench.report.page.html import Header, Section, assemble, render
from axiom_bench.report.page.tables import (
    ON_THE_CARD,
    SCRIPTS,
    STYLES,
    Definition,
    Terms,
    block,
    intervals,
)
from axiom_bench.report.tables.table import Cell, Group, Table, numeric
from axiom_bench.report.tables.text import ARROWS, BOLD_NOTE, CONSTRUCTED, control_notes
from axiom_bench.statistics.labels import NOTHING, number
from axiom_bench.statistics.ranking import names_in_words
from axiom_bench.statistics.run_folder import RunFolder

ABOVE = "axiom-bench, leaderboard"
STYLE = "leaderboard/board.css"
PLACES_NOTE = (
    "Places: from the first to the last that can't be excluded on some network, at 5 % after Holm "
    "over all pairs. Rows are in the order of the middle of these ranges, the mean over networks. "
    "Above all controls: networks on which the method is significantly better than each map that "
    "explains nothing."
)
ANSWERS_NOTE = (
    "Values on: how many of the networks, and of the images, counted once for each explained "
    "class. A place takes nine tenths of the images of all networks. A network without a value is "
    "the last place there. An image without one counts as the worst that a published method has "
    "there; the value shown is that of the others, with their share."
)
APPLIES = "Where it applies: too few values for a place"
SHAPE = re.compile(
    r"-> (\([^)]*\))"
)  # of what a method returns, at the end of its docstring's line
FAMILIES = {"(B, K, 1, 1)": "One weight a channel", "(B, K, H, W)": "One weight a position"}
MAP, OTHER, CONTROL = "No weighting of the layer", "Others", "Controls"
ORDER = (*FAMILIES.values(), MAP, OTHER, CONTROL)
MOST_ROWS = 100  # of all tables of a page; of more the tables are folded
BEST = 4  # methods in a small chart
DIGITS = 5  # of the numbers that scripts read
HEADER = ("Method", "Places", "Above all controls", "Values on\nnetworks, images")
CHANNELS = 512  # of the layer for which passes are given, as the last one of VGG-16 has
Costs = Mapping[str, int]  # {method: passes of the whole network for an image, with the trace's}


def link(address: str, text: str) -> Markup:
    """To a page of the site."""
    return Markup('<a href="{}">{}</a>').format(address, text)


BACK: dict[str, str] = {"Leaderboard": link("index.html", "all suites and methods")}


@dataclass(frozen=True, eq=False)
class Part:
    """name: suite/part. page: the file of its page. run: its published values."""

    name: str
    page: str
    run: RunFolder

    @staticmethod
    def read(suite: str, name: str, folder: Path) -> Part:
        """Raises BenchError where the run can't be read."""
        return Part(f"{suite}/{name}", f"{suite}-{name}.html", RunFolder.of_suite(folder))

    @property
    def gallery(self) -> str:
        """The file of the page of its pictures."""
        return f"{self.page.removesuffix('.html')}-gallery.html"

    @cached_property
    def standings(self) -> dict[str, dict[str, Standings]]:
        """{metric: {method: standings}}: the headline's metrics first, methods in the order of the
        middle of their places, those without a place last.
        """
        run = self.run
        ranked = [name for name in run.metrics if run.metadata.value(name).has_direction]
        headline = [name for name in options_of(run).headline if name in ranked]
        tables = {}
        for metric in dict.fromkeys([*headline, *ranked]):
            found = [
                (name, each)
                for name in run.methods
                if (each := standings(run, metric, name, False))
            ]
            if found:
                found.sort(
                    key=lambda item: item[1].middle if item[1].answers.has_place else math.inf
                )
                tables[metric] = dict(found)
        return tables

    @cached_property
    def definitions(self) -> tuple[list[Definition], list[Definition]]:
        """Of its methods and its metrics."""
        return page_tables.definitions_of(self.run)

    @cached_property
    def origin(self) -> str:
        """What computed the values."""
        manifest = self.run.manifest
        torch = manifest.versions.get("torch") or "several"
        hardware = manifest.hardware or manifest.device  # None where the jobs of a run had several
        return f"{publishing.commits(manifest)}, torch {torch}, {hardware}"

    @property
    def images(self) -> str:
        """What the data sets say of their images: once, where networks differ by the number that it
        begins with.
        """
        numbers: dict[str, set[str]] = {}
        for note in (note for data in self.run.manifest.data.values() for note in data.notes):
            number, _, rest = note.partition(" ")
            numbers.setdefault(rest, set()).add(number)
        return ". ".join(
            f"{' or '.join(sorted(several))} {rest}" for rest, several in numbers.items()
        )

    def panel(self, metric: str, above: str = "") -> dict[str, Any]:
        """Who is best by a metric, or not significantly worse, on most networks; the values on the
        first of these.
        """
        run, value, table = self.run, self.run.metadata.value(metric), self.standings[metric]
        compared = {
            setting: each
            for setting in run.settings
            if (each := run.comparisons.of(setting, metric))
        }
        counts = Counter(name for each in compared.values() for name in each.best)
        leaders = [name for name in table if counts[name] == max(counts.values(), default=1)]
        unbeaten = {name for each in compared.values() for name in each.unbeaten}
        named = [(name,) for name in leaders or run.methods if name in {*leaders, *unbeaten}]
        shown = next(
            setting for setting, each in compared.items() if each.best.issuperset(leaders[:1])
        )
        names = names_in_words(run, named, "and" if leaders else "or") if named else "another"
        return {
            "title": f"{above}{value.title}{ARROWS.get(value.better, '')}", "link": f"{self.page}#{metric}",
            "names": names, "count": max(counts.values(), default=0), "networks": len(run.settings),
            "places": "".join(table[name].places_text for name in leaders[:1]),
            "shown": run.label(shown), "chart": intervals(run, shown, value, BEST),
        }  # fmt: skip

    def family(self, method: str) -> str:
        """By what the method returns; controls are a family of their own."""
        about = self.run.metadata.method(method)
        if about.control:
            return CONTROL
        shape = SHAPE.search(str(about.description or ""))
        return FAMILIES.get(shape[1], MAP) if shape else OTHER


def pages_of(definitions: Iterable[Definition]) -> dict[str, str]:
    """{a method's name and its title: the file of its page}."""
    return {name: f"{entry.id}.html" for entry in definitions for name in (entry.name, entry.title)}


def page(part: Part, costs: Costs, has_gallery: bool) -> str:
    """The page of a part, as HTML."""
    methods, metrics = part.definitions
    linked = Terms(titles=page_tables.terms([], metrics).titles, pages=pages_of(methods))
    facts = {
        "Suite": str(part.run.config.suite_part or ""),
        "Computed": part.origin,
        "Images": part.images,
    }
    facts = (
        BACK | facts | {"Gallery": link(part.gallery, "maps of all methods") if has_gallery else ""}
    )
    sections = [
        leading("Who leads, by metric", map(part.panel, part.standings)),
        *_choices(part, costs),
    ]
    sections += [_section(part, metric, linked) for metric in part.standings]
    return assemble(
        Header(ABOVE, part.name, {name: text for name, text in facts.items() if text}),
        [*sections, page_tables.definitions_section([], metrics)],
    )


def leading(title: str, panels: Iterable[Mapping[str, Any]]) -> Section:
    """Who leads: a small chart of each panel, see `Part.panel`."""
    return Section(
        "leads",
        title,
        render("leaderboard/leads.html.j2", panels=list(panels)),
        ("findings.css", STYLE),
    )


def folded(summary: str, body: Markup, is_open: bool) -> Markup:
    """A section's body under a line that opens it; paper shows it, and the section's address."""
    return render("leaderboard/folded.html.j2", summary=summary, body=body, is_open=is_open)


def _choices(part: Part, costs: Costs) -> Iterable[Section]:
    """What scripts make of the values: a filter of methods, cost against quality, and the reader's
    own weighting.
    """
    data = _data(part, costs)
    families = sorted({method["family"] for method in data["methods"]}, key=ORDER.index)
    first = max(part.standings, key=lambda metric: len(part.standings[metric]), default="")
    for name, title, with_data in (
        ("methods", "Methods", {"board": data}),
        ("cost", "Cost against quality", {}),
        ("weights", "Your own weighting", {}),
    ):
        body = render(f"leaderboard/{name}.html.j2", **data, families=families, first=first)
        yield Section(name, title, body, (STYLE,), (f"leaderboard/{name}.js",), with_data)


def _data(part: Part, costs: Costs) -> dict[str, Any]:
    """What the scripts read; of each metric a list of the values by network that places go by, and
    the middle place, in the methods' order. None where there is none.
    """
    run, pages = part.run, pages_of(part.definitions[0])
    networks = [run.label(setting) for setting in run.settings]
    methods = [
        {"title": run.metadata.method_title(name), "name": name, "page": pages[name], "family": part.family(name),
         "passes": costs.get(name)}
        for name in run.methods
    ]  # fmt: skip
    metrics = []
    for metric, table in part.standings.items():
        value, rows = run.metadata.value(metric), [table.get(name) for name in run.methods]
        about = {"name": metric, "title": value.title, "lead": value.lead, "better": value.better}
        values = [
            [
                _rounded(row.networks[name].compared) if row and name in row.networks else None
                for name in networks
            ]
            for row in rows
        ]
        places = [_rounded(row.middle) if row and row.answers.has_place else None for row in rows]
        metrics.append(about | {"values": values, "places": places})
    return {"methods": methods, "metrics": metrics, "networks": networks}


def _rounded(value: float) -> float | None:
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def _section(part: Part, metric: str, linked: Terms) -> Section:
    """A metric's table, a row for each method and a column for each network."""
    run, standings = part.run, part.standings[metric]
    value = run.metadata.value(metric)
    compared = {run.label(setting): run.comparisons.of(setting, metric) for setting in run.settings}
    bests = {
        label: frozenset[str]() if each is None else each.best for label, each in compared.items()
    }

    def row(method: str, each: Standings) -> tuple[Cell, ...]:
        values = (
            numeric(at.value, at.value_text, method in best)
            if (at := each.networks.get(label))
            else Cell(NOTHING)
            for label, best in bests.items()
        )
        return (Cell(run.metadata.method_title(method)), *places_cells(each), *values)

    rows = {
        has: tuple(
            row(name, each) for name, each in standings.items() if each.answers.has_place == has
        )
        for has in (True, False)
    }
    titles = {True: "With a place" if rows[False] else "", False: APPLIES}
    groups = tuple(Group(titles[has], own) for has, own in rows.items() if own)
    header = (*HEADER, *(f"{label}\n{value.lead}{ARROWS.get(value.better, '')}" for label in bests))
    table = Table(metric, value.title, header, groups, tuple(_notes(part, metric, standings)))
    summary = f"Table: {len(standings)} methods on {len(run.settings)} networks"
    body = folded(
        summary, block([table], linked), sum(map(len, part.standings.values())) <= MOST_ROWS
    )
    return Section(metric, value.title, body, STYLES, SCRIPTS)


def places_cells(standings: Standings) -> tuple[Cell, ...]:
    """The range of places over networks, on how many the method is better than all controls, where
    it has values.
    """
    beats, count, answers = standings.num_above_controls, len(standings.networks), standings.answers
    return (
        Cell(standings.places_text, numbers=(standings.middle,)),
        Cell(f"{beats} of {count}", numbers=(beats / count,)),
        Cell(answers.text, numbers=(answers.rows / answers.all_rows,)),
    )


def _notes(part: Part, metric: str, standings: Mapping[str, Standings]) -> Iterable[str]:
    run = part.run
    comparisons = [
        each for setting in run.settings if (each := run.comparisons.of(setting, metric))
    ]
    counts = sorted({each.images for each in comparisons})
    smallest = [float(each.pairs["detectable"].median()) for each in comparisons if len(each.pairs)]
    yield (
        f"n = {' or '.join(map(str, counts))} images a network. Half of the pairs would differ "
        "significantly, with a probability of 80 %, by a difference of "
        f"{number(min(smallest, default=0))} to {number(max(smallest, default=0))}, by network."
    )
    if part.images:
        yield f"Images: {part.images}."
    yield PLACES_NOTE
    yield ANSWERS_NOTE
    yield BOLD_NOTE
    yield from control_notes(run, run.settings, [metric])
    if line := committed_line(run, metric):
        yield f"{ON_THE_CARD} {line}."
    without = [name for name in run.methods if name not in standings]
    if constructed := [name for name in without if name in run.metadata.by_construction(metric)]:
        titles = ", ".join(map(run.metadata.method_title, constructed))
        yield f"{CONSTRUCTED} Best by construction, and not ranked: {titles}."
    if rest := [name for name in without if name not in run.metadata.by_construction(metric)]:
        yield (
            "Without a value, or on too few images: "
            f"{', '.join(map(run.metadata.method_title, rest))}."
        )
