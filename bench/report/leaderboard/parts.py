"""The leaderboard's page of a part of a suite: a choice of methods, and a table for each metric.
Each table has an address, such as scenes-1-planted.html#single_deletion.

A suite is a frozen experiment. A part of it has its own models and data, and one run folder with
the published values. A method's places are the ranks that can't be excluded for it, over networks.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypedDict

from markupsafe import Markup

from axiom_bench.judging.standing import Standings, standings
from axiom_bench.records import publishing
from axiom_bench.report.card import committed_verdict
from axiom_bench.report.options import options_of
from axiom_bench.report.page import tables as page_tables
from axiom_bench.report.page.html import Header, Section, assemble, render
from axiom_bench.report.page.tables import (
    SCRIPTS,
    STYLES,
    Definition,
    Terms,
    intervals,
    tables_block,
)
from axiom_bench.report.tables.table import Cell, Group, Table, number_cell
from axiom_bench.report.tables.text import ARROWS, CONSTRUCTED, bold_note, control_notes
from axiom_bench.statistics.bootstrap import LEVEL
from axiom_bench.statistics.comparison import Comparison
from axiom_bench.statistics.labels import NOTHING, Setting, number
from axiom_bench.statistics.ranking import names_in_words
from axiom_bench.statistics.run_folder import RunFolder

ABOVE = "axiom-bench, leaderboard"
STYLE = "leaderboard/board.css"
PLACES_NOTE = (
    "Places: from the first to the last that can't be excluded on some network, at 5 % after Holm "
    "over all pairs. If that is more than half of the places, the table has instead the number of "
    "methods from which the method differs significantly, on the network with the fewest. Rows are "
    "in the order of the middle of these ranges, the mean over networks. Above all controls: "
    "networks on which the method is significantly better than each map that explains nothing."
)
ANSWERS_NOTE = (
    "Values on: how many of the networks, and of the images, counted once for each explained "
    "class. A place takes nine tenths of the images of all networks. A network without a value is "
    "the last place there. An image without one counts as the worst that a published method has "
    "there; the value shown is that of the others, with their share."
)
APPLIES = "Where it applies: too few values for a place"
SHAPE = re.compile(r"-> (\([^)]*\))")  # the result of a method, at the end of its docstring's line
# The families of methods, the first two by the shape of the result.
FAMILIES = {"(B, K, 1, 1)": "One weight a channel", "(B, K, H, W)": "One weight a position"}
MAP = "No weighting of the layer"  # methods with another shape
OTHER = "Others"  # methods whose docstring has no shape
CONTROL = "Controls"
ORDER = (*FAMILIES.values(), MAP, OTHER, CONTROL)
MOST_ROWS = 80  # if the tables of a page have more rows together, they are folded
BEST = 4  # methods in a small chart
DIGITS = 5  # significant digits of the numbers that scripts read
HEADER = ("Method", "Places", "Above all controls", "Values on\nnetworks, images")
CHANNELS = 512  # passes are given for a layer with so many channels, such as VGG-16's last one
# {method: passes of the whole network for an image, including the pass of the trace}
Costs = Mapping[str, int]


def link(address: str, text: str) -> Markup:
    """Return a link to a page of the site."""
    return Markup('<a href="{}">{}</a>').format(address, text)


BACK: dict[str, str] = {"Leaderboard": link("index.html", "all suites and methods")}


@dataclass(frozen=True)
class Panel:
    """The methods that lead by a metric on the most networks, as the template leads.html.j2 shows
    them.
    """

    title: str
    link: str
    """The address of the metric's table."""
    names: str
    """The leaders in words; if nobody leads, the controls that no method beats."""
    count: int
    """The number of networks on which the leaders are best; 0 if nobody leads."""
    networks: int
    """The number of all networks."""
    places: str
    """The first leader's places in words; empty if nobody leads."""
    shown: str
    """The network that the chart shows."""
    chart: Markup


@dataclass(frozen=True)
class Lead:
    """The methods that lead by a metric.

    On each network, some methods are best: no other is significantly better. The leaders are the
    methods that are best on the most networks. If a control is unbeaten on every network, nobody
    leads.
    """

    methods: tuple[str, ...]
    """The leaders; empty if nobody leads."""
    count: int
    """The number of networks on which the leaders are best; 0 if nobody leads."""
    unbeaten: tuple[str, ...]
    """The controls that no method beats on some network."""


@dataclass(frozen=True, eq=False)
class Part:
    """A part of a suite with its published values."""

    name: str
    """The suite and the part, SUITE/PART."""
    page: str
    """The file of its page."""
    run: RunFolder
    """Its published values."""

    @staticmethod
    def read(suite: str, name: str, folder: Path) -> Part:
        """Read the published values of a part. Raise BenchError if the run can't be read."""
        return Part(f"{suite}/{name}", f"{suite}-{name}.html", RunFolder.of_suite(folder))

    @property
    def gallery(self) -> str:
        """The file of the page of its pictures."""
        return f"{self.page.removesuffix('.html')}-gallery.html"

    @property
    def content(self) -> Hashable:
        """The networks with their layers, the images, methods and metrics. Two suites may have a
        part of the same content.
        """
        run = self.run
        images = tuple((name, tuple(data.ids)) for name, data in run.manifest.data.items())
        return run.settings, images, run.methods, run.metrics

    @cached_property
    def standings(self) -> dict[str, dict[str, Standings]]:
        """{metric: {method: standings}}. The headline's metrics come first. Methods are in the
        order of the middle of their places, and those without a place come last.
        """
        run = self.run
        ranked = [name for name in run.metrics if run.metadata.value(name).has_direction]
        headline = [name for name in options_of(run).headline if name in ranked]

        def middle(item: tuple[str, Standings]) -> float:
            _, result = item
            return result.middle if result.answers.has_place else math.inf

        tables = {}
        for metric in dict.fromkeys([*headline, *ranked]):
            results = []
            for method in run.methods:
                result = standings(run, metric, method, with_examples=False)
                if result:
                    results.append((method, result))
            if results:
                tables[metric] = dict(sorted(results, key=middle))
        return tables

    @cached_property
    def definitions(self) -> tuple[list[Definition], list[Definition]]:
        """The definitions of its methods and of its metrics."""
        return page_tables.definitions_of(self.run)

    @cached_property
    def origin(self) -> str:
        """The commit, the torch version and the hardware that computed the values."""
        manifest = self.run.manifest
        torch = manifest.versions.get("torch") or "several"
        # The hardware is None if the jobs of a run had several.
        hardware = manifest.hardware or manifest.device
        return f"{publishing.commits_text(manifest)}, torch {torch}, {hardware}"

    @property
    def images(self) -> str:
        """The notes of the data sets on their images. Notes that differ only in the number at their
        beginning are joined.
        """
        numbers_by_note: dict[str, set[str]] = {}
        for data in self.run.manifest.data.values():
            for note in data.notes:
                number, _, rest = note.partition(" ")
                numbers_by_note.setdefault(rest, set()).add(number)
        sentences = []
        for rest, numbers in numbers_by_note.items():
            sentences.append(f"{' or '.join(sorted(numbers))} {rest}")
        return ". ".join(sentences)

    def comparisons(self, metric: str) -> dict[Setting, Comparison]:
        """Return the comparison of all methods on each network that has values of a metric."""
        comparisons = {}
        for setting in self.run.settings:
            comparison = self.run.comparisons.of(setting, metric)
            if comparison:
                comparisons[setting] = comparison
        return comparisons

    def lead(self, metric: str) -> Lead:
        """Return the methods that lead by a metric."""
        counts: Counter[str] = Counter()  # {method: the number of networks on which it is best}
        unbeaten: set[str] = set()
        for comparison in self.comparisons(metric).values():
            counts.update(comparison.best)
            unbeaten.update(comparison.unbeaten)
        most = max(counts.values(), default=0)
        leaders = [name for name in self.standings[metric] if most and counts[name] == most]
        controls = [name for name in self.run.methods if name in unbeaten]
        return Lead(tuple(leaders), most, tuple(controls))

    def panel(self, metric: str, above: str = "") -> Panel:
        """Return the panel "Who leads" of a metric. `above` comes before the title."""
        run = self.run
        value = run.metadata.value(metric)
        comparisons = self.comparisons(metric)
        lead = self.lead(metric)
        leaders = lead.methods
        places = ""
        if leaders:
            names = names_in_words(run, [(name,) for name in leaders])
            places = self.standings[metric][leaders[0]].places_in_words
        elif lead.unbeaten:
            names = names_in_words(run, [(name,) for name in lead.unbeaten], "or")
        else:
            names = "another"
        # the chart is of a network on which the first leader is best; without leaders, of any
        shown = next(
            setting
            for setting, comparison in comparisons.items()
            if comparison.best.issuperset(leaders[:1])
        )
        return Panel(
            title=f"{above}{value.title}{ARROWS.get(value.better, '')}",
            link=f"{self.page}#{metric}",
            names=names,
            count=lead.count,
            networks=len(run.settings),
            places=places,
            shown=run.label(shown),
            chart=intervals(run, shown, value, BEST),
        )

    def family(self, method: str) -> str:
        """Return the family of a method, by which a reader filters the tables. Controls are a
        family of their own.

        The others are grouped by the shape of their result, which the convention for methods puts
        at the end of the docstring's first line. Published values have no other source for it,
        because a method isn't run here.
        """
        entry = self.run.metadata.method(method)
        if entry.control:
            return CONTROL
        shape = SHAPE.search(str(entry.description or ""))
        return FAMILIES.get(shape[1], MAP) if shape else OTHER


def pages_of(definitions: Iterable[Definition]) -> dict[str, str]:
    """Return {a method's name and its title: the file of its page}."""
    pages = {}
    for definition in definitions:
        pages[definition.name] = f"{definition.id}.html"
        pages[definition.title] = f"{definition.id}.html"
    return pages


def page(part: Part, costs: Costs, has_gallery: bool) -> str:
    """Return the page of a part as HTML."""
    methods, metrics = part.definitions
    terms = Terms(titles=page_tables.metric_links([], metrics).titles, pages=pages_of(methods))
    facts = {
        **BACK,
        "Suite": str(part.run.config.suite_part or ""),
        "Computed": part.origin,
        "Images": part.images,
        "Gallery": link(part.gallery, "maps of all methods") if has_gallery else "",
    }
    filled_facts = {name: text for name, text in facts.items() if text}
    sections = [
        leaders_section("Who leads, by metric", map(part.panel, part.standings)),
        *_choices(part, costs),
        *(_section(part, metric, terms) for metric in part.standings),
        page_tables.definitions_section([], metrics),
    ]
    return assemble(Header(ABOVE, part.name, filled_facts), sections)


def leaders_section(title: str, panels: Iterable[Panel]) -> Section:
    """Return the section on the leading methods, with a small chart for each panel, see
    `Part.panel`.
    """
    body = render("leaderboard/leads.html.j2", panels=list(panels))
    return Section("leads", title, body, ("findings.css", STYLE))


def foldable(summary: str, body: Markup, is_open: bool) -> Markup:
    """Return a section's body under a line that opens it. Printing opens it, and so does the
    section's address.
    """
    return render("leaderboard/folded.html.j2", summary=summary, body=body, is_open=is_open)


class BoardData(TypedDict):
    """The JSON that the page's scripts read."""

    methods: list[dict[str, object]]
    metrics: list[dict[str, object]]
    """Each metric has, in the order of `methods`, "values" by network, which decide on places, and
    "places", the middle of the range. `None` is no value.
    """
    networks: list[str]


def _choices(part: Part, costs: Costs) -> Iterable[Section]:
    """Yield the sections that scripts fill with values: a filter of methods, cost against quality,
    and the reader's own weighting.
    """
    data = _data(part, costs)
    families = sorted(set(map(part.family, part.run.methods)), key=ORDER.index)
    first = max(part.standings, key=lambda metric: len(part.standings[metric]), default="")
    titles = {
        "methods": "Methods",
        "cost": "Cost against quality",
        "weights": "Your own weighting",
    }
    for name, title in titles.items():
        body = render(f"leaderboard/{name}.html.j2", **data, families=families, first=first)
        section_data = {"board": data} if name == "methods" else {}  # the page has it once
        yield Section(name, title, body, (STYLE,), (f"leaderboard/{name}.js",), section_data)


def _data(part: Part, costs: Costs) -> BoardData:
    """Return the data that the scripts read."""
    run = part.run
    pages = pages_of(part.definitions[0])
    networks = [run.label(setting) for setting in run.settings]
    methods: list[dict[str, object]] = []
    for name in run.methods:
        method: dict[str, object] = {
            "title": run.metadata.method_title(name),
            "name": name,
            "page": pages[name],
            "family": part.family(name),
            "passes": costs.get(name),
        }
        methods.append(method)
    metrics: list[dict[str, object]] = []
    for metric, standing_by_method in part.standings.items():
        value = run.metadata.value(metric)
        values = []
        places = []
        for name in run.methods:
            result = standing_by_method.get(name)
            standing_by_network = result.networks if result else {}
            method_values = []
            for network in networks:  # a script finds a value by its index, so there are no gaps
                standing = standing_by_network.get(network)
                method_values.append(_rounded(standing.compared) if standing else None)
            values.append(method_values)
            if result and result.answers.has_place:
                places.append(_rounded(result.middle))
            else:
                places.append(None)
        entry: dict[str, object] = {
            "name": metric,
            "title": value.title,
            "lead": value.lead,
            "better": value.better,
            "values": values,
            "places": places,
        }
        metrics.append(entry)
    return {"methods": methods, "metrics": metrics, "networks": networks}


def _rounded(value: float) -> float | None:
    """Return a number with few digits, or `None` if it isn't finite."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def _section(part: Part, metric: str, terms: Terms) -> Section:
    """Return the section of a metric's table, which has a row for each method and a column for each
    network.
    """
    run = part.run
    standing_by_method = part.standings[metric]
    value = run.metadata.value(metric)
    # The best methods of each network are bold.
    best_by_network: dict[str, frozenset[str]] = {}
    comparisons = part.comparisons(metric)
    for setting in run.settings:
        comparison = comparisons.get(setting)
        best_by_network[run.label(setting)] = comparison.best if comparison else frozenset()
    placed_rows: list[tuple[Cell, ...]] = []
    other_rows: list[tuple[Cell, ...]] = []
    for method, result in standing_by_method.items():
        row = [Cell(run.metadata.method_title(method)), *places_cells(result)]
        for network, best in best_by_network.items():
            standing = result.networks.get(network)
            if standing:
                row.append(number_cell(standing.value, standing.value_text, method in best))
            else:
                row.append(Cell(NOTHING))
        rows = placed_rows if result.answers.has_place else other_rows
        rows.append(tuple(row))
    groups = []
    if placed_rows:
        groups.append(Group("With a place" if other_rows else "", tuple(placed_rows)))
    if other_rows:
        groups.append(Group(APPLIES, tuple(other_rows)))
    arrow = ARROWS.get(value.better, "")
    header = (*HEADER, *(f"{network}\n{value.lead}{arrow}" for network in best_by_network))
    notes = tuple(_notes(part, metric, standing_by_method))
    table = Table(metric, value.title, header, tuple(groups), notes)
    num_rows = sum(map(len, part.standings.values()))
    body = foldable(
        f"Table: {len(standing_by_method)} methods on {len(run.settings)} networks",
        tables_block([table], terms),
        is_open=num_rows <= MOST_ROWS,
    )
    return Section(metric, value.title, body, STYLES, SCRIPTS)


def places_cells(standings: Standings) -> tuple[Cell, ...]:
    """Return the range of places over networks, on how many of them the method is better than all
    controls, and on how many networks and images it has values.
    """
    answers = standings.answers
    num_above = standings.num_above_controls
    num_networks = len(standings.networks)
    return (
        Cell(standings.places_text, numbers=(standings.middle,)),
        Cell(f"{num_above} of {num_networks}", numbers=(num_above / num_networks,)),
        Cell(answers.text, numbers=(answers.rows / answers.all_rows,)),
    )


def _notes(part: Part, metric: str, standings: Mapping[str, Standings]) -> Iterable[str]:
    """Yield the notes of a metric's table."""
    run = part.run
    comparisons = part.comparisons(metric).values()
    image_counts = sorted({comparison.images for comparison in comparisons})
    detectable = [
        float(comparison.pairs["detectable"].median())
        for comparison in comparisons
        if len(comparison.pairs)
    ]
    lowest = number(min(detectable, default=0))
    highest = number(max(detectable, default=0))
    yield (
        f"n = {' or '.join(map(str, image_counts))} images a network. Half of the pairs would "
        "differ significantly, with a probability of 80 %, by a difference of "
        f"{lowest} to {highest}, by network."
    )
    if part.images:
        yield f"Images: {part.images}."
    yield PLACES_NOTE
    yield ANSWERS_NOTE
    yield bold_note(LEVEL)
    yield from control_notes(run, run.settings, [metric])
    if line := committed_verdict(run, metric):
        yield line
    # The last notes list the methods without a row in the table, with the reason.
    constructed_titles: list[str] = []
    other_titles: list[str] = []
    for name in run.methods:
        if name not in standings:
            is_constructed = name in run.metadata.by_construction(metric)
            titles = constructed_titles if is_constructed else other_titles
            titles.append(run.metadata.method_title(name))
    if constructed_titles:
        titles_text = ", ".join(constructed_titles)
        yield f"{CONSTRUCTED} Best by construction, and not ranked: {titles_text}."
    if other_titles:
        yield f"Without a value, or on too few images: {', '.join(other_titles)}."
