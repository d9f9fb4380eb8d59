"""`axiom-bench reference` and `rank`: published values, and a method's places among them;
`axiom_bench.results` and `axiom_bench.rank` are the same in Python.
"""

from __future__ import annotations

import gzip
import json
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from axiom_bench.cli.benchmark import compute
from axiom_bench.columns import RECORD_COLUMNS
from axiom_bench.environment import conf_folder, entry_names
from axiom_bench.errors import BenchError, first_names, unknown
from axiom_bench.evaluation import plugins
from axiom_bench.judging.standing import Standing, Standings, standings
from axiom_bench.records import combining, files, publishing, reading, submissions
from axiom_bench.report.options import Options
from axiom_bench.report.page.html import Header, Section, assemble
from axiom_bench.report.page.tables import SCRIPTS, STYLES, Terms, block
from axiom_bench.report.tables.headline import result_lines
from axiom_bench.report.tables.latex import to_latex
from axiom_bench.report.tables.table import Cell, Group, Table, to_text
from axiom_bench.report.tables.text import ARROWS, accuracy_text
from axiom_bench.run.composing.suites import Suite
from axiom_bench.run.progress import Estimate, where_seen
from axiom_bench.statistics.labels import NOTHING, number
from axiom_bench.statistics.ranking import verdict
from axiom_bench.statistics.run_folder import RunFolder

QUIET = ("pictures.rows=0", "pictures.gallery=0", "report.figures.grid=null")
REFERENCE = "reference"  # the folder in the package
MAX_NAMES = 3  # of methods in a line
REPEATS = 3  # of run times
MAX_LINES, MAX_WIDTH = 40, 100  # of what `rank` prints
LINES_OF_PART, LAST_LINES = 4, 6  # lines around a part's rows, and below all parts
METRIC_WIDTH, VALUES_WIDTH = 26, 16  # of columns; values with signs at both ends are wider
NO_PLACE = (
    "  In brackets: on the networks that the method has alone, which are too few for a place."
)


def published(suite: str, required: bool = True, only_part: str = "") -> dict[str, Path]:
    """Return {part: the run folder of its published values}, of one part if `only_part` names it.

    Raises:
        BenchError: if there is no such suite or part, or if values are required and there are none.
    """
    chosen = Suite.of(suite)
    if only_part:
        chosen.part(only_part)
    parts = [only_part] if only_part else chosen.parts
    folders = {part: conf_folder().with_name(REFERENCE) / suite / part for part in parts}
    there = {
        part: folder for part, folder in folders.items() if (folder / "manifest.json").is_file()
    }
    if required and not there:
        raise BenchError(
            f"No values of the suite {suite} are in this installation; axiom-bench suite={suite} "
            "computes them."
        )
    return there


def reference(suite: str | None, csv: Path | None = None) -> list[str]:
    """The headline of each part's published values, with what they were computed by. suite: None
    for all. csv: the values are written there instead, in the columns of
    `results/reference/README.md`. Raises BenchError.
    """
    suites = (
        [suite]
        if suite
        else [name for name in entry_names("suite") if published(name, required=False)]
    )
    parts = [(name, part, folder) for name in suites for part, folder in published(name).items()]
    if csv is not None:
        files.check_output(csv)
        values = pd.concat([results(name).assign(suite=name) for name in suites])[
            ["suite", "part", *RECORD_COLUMNS]
        ]
        text = values.to_csv(index=False, lineterminator="\n").encode()
        files.write(csv, gzip.compress(text, mtime=0) if csv.suffix == ".gz" else text)
        return [f"{len(values):,} values of {', '.join(suites)}: {csv}"]
    lines: list[str] = []
    for suite, part, folder in parts:
        run = RunFolder.read(folder)
        about = run.manifest
        made = f"{publishing.commits(about)}, {about.created[:10]}, {about.hardware}"
        lines += [f"{suite}/{part}: {len(run.methods)} methods, {made}", *_note(suite, part)]
        lines += result_lines(run, with_all_methods=False)
        lines += [f"  in {folder}", ""]
    return lines[:-1]


def _note(suite: str, part: str) -> list[str]:
    """What the suite says of a part's images, as lines."""
    note = Suite.of(suite).part(part).note
    return [f"  {note}"] if note else []


def results(suite: str) -> pd.DataFrame:
    """The published values of a suite: the column `part`, and those of `axiom_bench.evaluate`.
    Raises BenchError for a suite that isn't there, or has none.
    """
    frames = [
        reading.read_run(folder).assign(part=part) for part, folder in published(suite).items()
    ]
    return pd.concat(frames, ignore_index=True)


def rank(
    method: str | Callable,
    suite: str = "scenes-1",
    metrics: Sequence[str] = (),
    overrides: Sequence[str] = (),
) -> pd.DataFrame:
    """A method's places among the published values of a suite, as `axiom-bench rank` computes them,
    or continues to.

    Args:
        method: a function in a module that can be imported, its dotted path, or a name of
            `axiom-bench list methods`.
        suite: one of `axiom-bench list suites`, or one part as SUITE/PART; the default needs no
            files.
        metrics: names of values; left out: all that have a direction.
        overrides: of what the suite leaves free, as ["real_root=FOLDER"].

    Returns:
        For each part, metric and network the method's value, the first and the last place that
        can't be excluded, of
            how many, and whether it is above all controls. Without any value the network is "-" and
            the place 0.

    Raises:
        BenchError: for an unknown method, suite or metric, and for a method that fails.
    """
    with where_seen():
        ranking = _ranking(_path(method), suite, metrics, overrides)
    if ranking.code:
        raise BenchError("\n".join(ranking.lines))
    rows = [
        (
            part,
            metric,
            label,
            each.value,
            each.place_low,
            each.place_high,
            each.groups,
            each.beats_controls,
        )
        for part, by_metric in ranking.places.items()
        for metric, of in by_metric.items()
        for label, each in (of.networks if of else {"-": Standing("-")}).items()
    ]
    keys = ["part", "metric", "network"]
    columns = [*keys, "value", "place_low", "place_high", "of", "above_controls"]
    return pd.DataFrame(rows, columns=columns).set_index(keys)


def _path(method: Any) -> str:
    """The dotted path of a function. Raises BenchError for one that can't be imported by it."""
    if isinstance(method, str):
        return method
    module, name = getattr(method, "__module__", None), getattr(method, "__qualname__", "<")
    if module in (None, "__main__") or not all(map(str.isidentifier, name.split("."))):
        raise BenchError(
            "A suite imports a method by its path, and can't import one of a script, a notebook "
            "or another function; write it to a file, as my_file.py, and give "
            "ab.rank('my_file.my_cam')."
        )
    return f"{module}.{name}"


@dataclass
class Ranking:
    """A method's standings in a suite, and how they are shown."""

    code: int = 0
    """The exit code; not 0 if the method failed."""
    lines: list[str] = field(default_factory=list)
    """The lines to print below the tables, or the messages of a failure."""
    places: dict[str, dict[str, Standings | None]] = field(default_factory=dict)
    """By part and metric."""
    short: list[Table] = field(default_factory=list)
    """The method next to its rival, a table for each part."""
    details: list[Table] = field(default_factory=list)
    """All that is known, a table for each part."""
    folder: Path = Path()
    """The folder of the last part's run."""


def rank_and_print(
    method: str,
    suite: str,
    metrics: Sequence[str],
    output: Path | None,
    latex: Path | None = None,
    overrides: Sequence[str] = (),
) -> tuple[int, list[str]]:
    """As `rank`: the exit code and the lines to print. A page next to the run folders has the
    details.

    output: a JSON file of all standings. latex: a file of the tables. Raises BenchError.
    """
    with redirect_stdout(sys.stderr):  # notes of the runs, of which there are many
        ranking = _ranking(method, suite, metrics, overrides, output is not None)
    if ranking.code:
        return ranking.code, ranking.lines
    name = submissions.name_of(_name(method))
    sections = [
        Section(table.name, table.label, block([table], Terms()), STYLES, SCRIPTS)
        for table in ranking.details
    ]
    title = ranking.lines[-1] if ranking.lines else f"{name} on {suite}"
    page = ranking.folder.with_name(f"rank-{suite.replace('/', '-')}-{name}.html")
    written = {page: assemble(Header("axiom-bench rank", title, {}), sections)}
    if output is not None:
        about = {
            "suite": suite,
            "sha256": Suite.of(suite.partition("/")[0]).sha256,
            "method": _name(method),
        }
        written[output] = json.dumps(
            about | {"parts": ranking.places}, indent=1, default=Standings.as_dict
        )
    if latex is not None:
        written[latex] = "\n".join(map(to_latex, ranking.short))
    for path, text in written.items():
        files.write(path, text.encode())
    most = max(2, (MAX_LINES - LAST_LINES) // len(ranking.short) - LINES_OF_PART)
    lines = [line for table in ranking.short for line in (*_cut(table, most), "")]
    lines += [line for text in ranking.lines for line in textwrap.wrap(text, MAX_WIDTH)]
    return 0, [
        *lines,
        *(f"{'details' if path.suffix == '.html' else 'written'}: {path}" for path in written),
    ]


def _cut(table: Table, most: int) -> list[str]:
    """The table as text of at most so many rows, and a line that counts the others."""
    rows = table.groups[0].rows
    shown = replace(table, groups=(Group("", rows[:most]),))
    return [
        *to_text(shown),
        *([f"  and {len(rows) - most} more metrics, on the page"] if len(rows) > most else []),
    ]


def _name(method: str) -> str:
    return method if "." in method else plugins.matching("method", method)


def _ranking(
    method: str,
    suite: str,
    metrics: Sequence[str],
    overrides: Sequence[str],
    examples: bool = False,
) -> Ranking:
    """Compute the method on each part and compare it. examples: see `_standings`."""
    suite, _, only_part = suite.partition("/")
    folders = published(suite, only_part=only_part)
    manifests = {part: reading.read_manifest(folder) for part, folder in folders.items()}
    for metric in metrics:
        names = {name for manifest in manifests.values() for name in manifest.metrics}
        if metric not in names:
            raise unknown(f"metric of the suite {suite}", metric, names)
    method = _name(method)
    name = submissions.name_of(method)
    ranking, costs = Ranking(), list[float]()
    runs = list[RunFolder]()
    chosen = Suite.of(suite)
    estimate = Estimate(sum(chosen.parts[part].num_jobs for part in folders))
    for part, folder in folders.items():
        failed, messages, computed = computed_part(
            suite,
            part,
            method,
            name,
            REPEATS,
            overrides,
            estimate=estimate,
        )
        if failed:
            return Ranking(failed, messages)
        with TemporaryDirectory() as combined:
            both = Path(combined) / "combined"
            manifest = combining.combine([computed, folder], both, compared=False)
            run = RunFolder.of(
                both, manifest.model_copy(update={"published": list(manifests[part].methods)})
            )
            runs.append(run)
            places = _standings(run, name, metrics, examples)
            options = Options.of(run.config.report)
            candidates = (options.rival, options.figures.perturbed, *run.methods)
            others = [
                method
                for method in dict.fromkeys(candidates)
                if method in run.methods and method != name
            ]
            rival = others[0] if others else name
            ranking.places[part] = places
            ranking.folder = computed
            ranking.short.append(_short_table(run, f"{suite}/{part}", (name, *others[:2]), places))
            ranking.details.append(_details(run, suite, part, name, places))
        times = run.runtime[
            (run.runtime["step"] == "method") & (run.runtime["method"].astype(str) == name)
        ]
        costs += list(times["forwards"].dropna())
    if costs:
        ends = " to ".join(dict.fromkeys((number(min(costs)), number(max(costs)))))
        ranking.lines.append(f"cost: {ends} forward passes' time, beyond the trace")
    ranking.lines += filter(
        None, [verdict(runs, name, rival, list(dict.fromkeys(chain(*ranking.places.values()))))]
    )
    return ranking


def computed_part(
    suite: str,
    part: str,
    method: str,
    name: str,
    repeats: int,
    overrides: Sequence[str] = (),
    goes_on: bool = False,
    estimate: Estimate | None = None,
) -> tuple[int, list[str], Path]:
    """As `benchmark.compute`, of a method alone on a part of a suite. repeats: of run times."""
    fixed = (*overrides_of(method, name), *QUIET, f"runtime.repeats={repeats}")
    return compute(
        [f"suite={suite}/{part}", *fixed, *overrides], goes_on=goes_on, estimate=estimate
    )


def overrides_of(method: str, name: str, *others: str) -> list[str]:
    """What chooses a method, beside others of ours. name: in its run."""
    if "." not in method:
        others = tuple(dict.fromkeys((*others, method)))
    own = [f"+method.{name}._target_={method}"] if "." in method else []
    return [f"method=[{','.join(others)}]", *own]


def _standings(
    run: RunFolder, name: str, metrics: Sequence[str], examples: bool
) -> dict[str, Standings | None]:
    """{metric: the method's standings; None without a value}, of those asked for, or all that have
    a direction, the headline first. examples: whether all have best and worst images, not the first
    alone, which is printed.
    """
    headline = Options.of(run.config.report).headline
    wanted = [metric for metric in run.metrics if run.metadata.value(metric).has_direction]
    wanted.sort(key=lambda metric: headline.index(metric) if metric in headline else len(headline))
    made = dict[str, Standings | None]()
    for metric in wanted if not metrics else [metric for metric in wanted if metric in metrics]:
        made[metric] = standings(run, metric, name, examples or not any(made.values()))
    return made


def _short_table(
    run: RunFolder, title: str, methods: Sequence[str], places: Mapping[str, Standings | None]
) -> Table:
    """Compare the first method with the others in MAX_WIDTH columns: a row for each metric, those
    with values first.
    """
    name, *others = methods
    rows = []
    for metric, own in sorted(places.items(), key=lambda item: item[1] is None):
        value = run.metadata.value(metric)
        missing = "too few values" if name in run.comparisons.answers(metric) else "no value"
        texts = [
            textwrap.shorten(value.title, METRIC_WIDTH - 2, placeholder="...")
            + ARROWS.get(value.better, ""),
            _values_text(own) if own else missing,
        ]
        for other in others:
            of_other = standings(run, metric, other, False)
            texts.append(_values_text(of_other) if of_other else NOTHING)
        texts.append(own.places_text if own else NOTHING)
        rows.append(tuple(map(Cell, texts)))
    titles = (run.metadata.method_title(each) for each in methods)
    titles = (
        title if len(title) <= VALUES_WIDTH else f"{title[: VALUES_WIDTH - 3]}..."
        for title in titles
    )
    header = ("values by network", *titles, "places")
    return Table(
        "rank", f"{run.metadata.method_title(name)} on {title}", header, (Group("", tuple(rows)),)
    )


def _values_text(standings: Standings) -> str:
    ends = (number(end) for end in (standings.values[0], standings.values[-1]))
    return " to ".join(dict.fromkeys(ends))


def _details(
    run: RunFolder, suite: str, part: str, name: str, places: Mapping[str, Standings | None]
) -> Table:
    """A row for each metric with everything that is known over the networks."""
    rows = []
    for metric, each in places.items():
        value = run.metadata.value(metric)
        heading = value.title + ARROWS.get(value.better, "")
        if each is None:
            answers = run.comparisons.answers(metric).get(name)
            what, where = ("too few values", answers.text) if answers else ("no value", "")
            rows.append((heading, what, "", "", where, ""))
            continue
        tied = [run.metadata.method_title(other) for other in run.methods if other in each.tied]
        rows.append((
            heading, f"{number(each.values[0])} to {number(each.values[-1])}", each.places_text,
            f"{each.num_above_controls} of {len(each.networks)}", each.answers.text,
            first_names(tied, MAX_NAMES) or "none",
        ))  # fmt: skip
    header = (
        "", "values by network", "places", "above all controls", "values on networks, images",
        "not told from, on every network",
    )  # fmt: skip
    notes = (
        [NO_PLACE] if any(each and not each.answers.has_place for each in places.values()) else []
    )
    notes += [*_examples(run, places), f"Accuracy: {accuracy_text(run)}.", *_note(suite, part)]
    if first := next(((metric, of) for metric, of in places.items() if of), None):
        notes.append(_badge(suite, part, *first))
    label = f"{suite}/{part}"
    cells = tuple(tuple(map(Cell, row)) for row in rows)
    return Table(
        f"rank-{part}",
        f"{run.metadata.method_title(name)} on {label}",
        header,
        (Group("", cells),),
        tuple(note.strip() for note in notes),
        text_last=True,
        label=label,
        num_open=len(notes),
    )


def _examples(run: RunFolder, places: Mapping[str, Standings | None]) -> list[str]:
    """On which images of the first network the method has its best and its worst values, by the
    first metric.
    """
    for metric, each in places.items():
        for first in (
            network for network in (each.networks.values() if each else ()) if network.best
        ):
            by = f"by {run.metadata.value(metric).title} on {first.network}"
            return [f"Images {by}: best {', '.join(first.best)}; worst {', '.join(first.worst)}."]
    return []


def _badge(suite: str, part: str, metric: str, standings: Standings) -> str:
    """A Markdown image that says the places by one metric, and on how many networks and images."""
    place = f"place {standings.places_text}" if standings.answers.has_place else "no place"
    answers = standings.answers
    count = (
        f"{answers.networks} of {answers.all_networks} networks, {answers.rows} of "
        f"{answers.all_rows} images"
    )
    label, message = f"{suite}/{part} {metric}", f"{place} ({count})"
    quoted = [
        text.replace("-", "--").replace("_", "__").replace(" ", "_").replace("/", "%2F")
        for text in (label, message)
    ]
    return (
        f"badge: ![{label}: {message}](https://img.shields.io/badge/{quoted[0]}-{quoted[1]}-blue)"
    )
