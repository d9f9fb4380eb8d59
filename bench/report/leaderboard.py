"""The leaderboard: a static site of suites' published values, from these alone. Every metric of a part has an address,
as scenes-1-planted.html#single_deletion. There is no total: metrics measure different things."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from statistics import mean

from markupsafe import Markup

from axiom_bench.judging.standing import Standing, range_of_places, standing
from axiom_bench.records import files
from axiom_bench.report.card import committed_line
from axiom_bench.report.index import NAME, Run
from axiom_bench.report.options import options_of
from axiom_bench.report.page.html import Header, Section, assemble, part, render
from axiom_bench.report.page.tables import (
    ON_THE_CARD,
    SCRIPTS,
    STYLES,
    Terms,
    block,
    definitions_of,
    definitions_section,
    terms,
)
from axiom_bench.report.tables.table import Cell, Group, Table, numeric
from axiom_bench.report.tables.text import ARROWS, BOLD_NOTE, CONSTRUCTED
from axiom_bench.statistics.labels import NOTHING, Setting, number
from axiom_bench.statistics.ranking import conclusion
from axiom_bench.statistics.run_folder import RunFolder

ABOVE = "axiom-bench, leaderboard"
PLACES_NOTE = (
    "Places: from the first to the last that can't be excluded on some network, at 5 % after Holm over all pairs. Rows "
    "are in the order of the middle of these ranges, the mean over networks. Above all controls: networks on which the "
    "method is significantly better than each map that explains nothing."
)
LIMITS = "leaderboard_limits.html.j2"


def write(suites: Mapping[str, Mapping[str, Path]], output: Path) -> list[Path]:
    """Writes the pages into a folder, which may exist; their paths, the first page first. suites: {suite: {part: run
    folder}}. Raises BenchError where a run can't be read, or the folder can't be written."""
    pages, entries = list[Path](), list[Run]()
    for suite, folders in suites.items():
        for name, folder in folders.items():
            run = RunFolder.read(folder)
            pages.append(output / f"{suite}-{name}.html")
            files.write(pages[-1], _page(run, f"{suite}/{name}").encode())
            entries.append(_entry(run, f"{suite}/{name}", pages[-1].name))
    sections = [
        Section("suites", "Suites", part("runs", runs=entries, left_out={}), ("index.css",), ("index.js",)),
        Section("limits", "What it can't tell, and your method", render(LIMITS)),
    ]
    title = "Which method explains a CNN faithfully?"
    files.write(output / NAME, assemble(Header(ABOVE, title, {}), sections).encode())
    return [output / NAME, *pages]


def _entry(run: RunFolder, title: str, link: str) -> Run:
    manifest = run.manifest
    facts = {
        "Networks": ", ".join(manifest["models"]),
        "Images": ", ".join(f"{name} (n = {len(about['ids'])})" for name, about in manifest["data"].items()),
        "Methods": str(len(run.methods)),
        "Computed": _made(run),
    }
    created = datetime.fromisoformat(str(manifest["created"]))
    return Run(title, link, created, conclusion(run, options_of(run).headline)[0], facts, "")


def _made(run: RunFolder) -> str:
    manifest, versions = run.manifest, run.manifest["versions"]
    hardware = manifest.get("hardware") or manifest["device"]  # None where the jobs of a run had several
    return f"commit {str(manifest['git_commit'])[:8]}, torch {versions['torch']}, {hardware}"


def _page(run: RunFolder, title: str) -> str:
    methods, metrics = definitions_of(run)
    linked = terms(methods, metrics)
    ranked = [name for name in run.metrics if run.metadata.value(name).has_direction]
    headline = [name for name in options_of(run).headline if name in ranked]
    sections = [_section(run, name, linked) for name in dict.fromkeys([*headline, *ranked])]
    facts = {"Suite": str(run.config.get("suite_part", "")), "Computed": _made(run)}
    header = Header(ABOVE, title, facts)
    shown = [each for each in sections if each is not None]
    back = Section("all", "All suites", Markup('<p><a href="index.html">All suites, limits, and how to submit</a></p>'))
    return assemble(header, [*shown, definitions_section(methods, metrics), back])


def _section(run: RunFolder, metric: str, linked: Terms) -> Section | None:
    """A metric's table, a row for each method and a column for each network; None where no method has a value."""
    value = run.metadata.value(metric)
    standings = {
        method: {
            run.label(setting): each for setting in run.settings if (each := standing(run, setting, metric, method))
        }
        for method in run.methods
    }
    ranked = sorted((name for name, of in standings.items() if of), key=lambda name: _middle(standings[name].values()))
    if not ranked:
        return None
    networks = [run.label(setting) for setting in run.settings]
    bests = {run.label(setting): _best(run, metric, setting) for setting in run.settings}
    rows = tuple(_row(run, name, standings[name], networks, bests) for name in ranked)
    arrow = ARROWS.get(value.better, "")
    header = ("Method", "Places", "Above all controls", *(f"{name}\n{value.lead}{arrow}" for name in networks))
    table = Table(
        metric, value.title, header, (Group("", rows),), tuple(_notes(run, metric, standings)), text_columns=1
    )
    return Section(metric, value.title, block([table], linked), STYLES, SCRIPTS)


def _middle(standings: Iterable[Standing]) -> float:
    return mean((each.place_low + each.place_high) / 2 for each in standings)


def _best(run: RunFolder, metric: str, setting: Setting) -> set[str]:
    comparison = run.comparisons.of(setting, metric)
    return (
        set() if comparison is None else {str(name) for name in comparison.places.index[comparison.places["is_best"]]}
    )


def _row(
    run: RunFolder,
    method: str,
    standings: Mapping[str, Standing],
    networks: Iterable[str],
    bests: Mapping[str, set[str]],
) -> tuple[Cell, ...]:
    low, high, groups = range_of_places([*standings.values()])
    beats = sum(each.beats_controls for each in standings.values())
    cells = [
        numeric(each.value, number(each.value), method in bests[name])
        if (each := standings.get(name))
        else Cell(NOTHING)
        for name in networks
    ]
    return (
        Cell(run.metadata.method_title(method)),
        Cell(f"{low} to {high} of {groups}", numbers=(_middle(standings.values()),)),
        Cell(f"{beats} of {len(standings)}", numbers=(beats / len(standings),)),
        *cells,
    )


def _notes(run: RunFolder, metric: str, standings: Mapping[str, Mapping[str, Standing]]) -> Iterable[str]:
    comparisons = [each for setting in run.settings if (each := run.comparisons.of(setting, metric))]
    counts = sorted({each.images for each in comparisons})
    smallest = [float(each.pairs["detectable"].median()) for each in comparisons if len(each.pairs)]
    yield (
        f"n = {' or '.join(map(str, counts))} images a network. Half of the pairs would be told apart, with 80 % "
        f"probability, by a difference of {number(min(smallest, default=0))} to {number(max(smallest, default=0))}, by "
        "network."
    )
    yield PLACES_NOTE
    yield BOLD_NOTE
    if line := committed_line(run, metric):
        yield f"{ON_THE_CARD} {line}."
    without = [name for name, of in standings.items() if not of]
    if constructed := [name for name in without if name in run.metadata.by_construction(metric)]:
        titles = ", ".join(map(run.metadata.method_title, constructed))
        yield f"{CONSTRUCTED} Best by construction, and not ranked: {titles}."
    if rest := [name for name in without if name not in run.metadata.by_construction(metric)]:
        yield f"Without a value, or on too few images: {', '.join(map(run.metadata.method_title, rest))}."
