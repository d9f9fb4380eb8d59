"""`axiom-bench reference` and `rank`: print published values, and a method's places among them.

`axiom_bench.results` and `axiom_bench.rank` do the same in Python.
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

import pandas as pd

from axiom_bench.cli.benchmark import compute
from axiom_bench.columns import RECORD_COLUMNS
from axiom_bench.environment import conf_folder, entry_names
from axiom_bench.errors import BenchError, first_names, plural, unknown_name
from axiom_bench.evaluation import plugins
from axiom_bench.judging.standing import Standing, Standings, standings
from axiom_bench.records import combining, files, publishing, reading, submissions
from axiom_bench.report.options import Options
from axiom_bench.report.page.html import Header, Section, assemble
from axiom_bench.report.page.tables import SCRIPTS, STYLES, Terms, tables_block
from axiom_bench.report.tables.headline import result_lines
from axiom_bench.report.tables.latex import to_latex
from axiom_bench.report.tables.table import Cell, Group, Table, to_text
from axiom_bench.report.tables.text import ARROWS, accuracy_text
from axiom_bench.run.composing.suites import Suite
from axiom_bench.run.progress import Estimate, only_interactive
from axiom_bench.statistics.labels import NOTHING, number
from axiom_bench.statistics.ranking import verdict
from axiom_bench.statistics.run_folder import RunFolder

QUIET = ("pictures.rows=0", "pictures.gallery=0", "report.figures.grid=null")
REFERENCE = "reference"  # the folder in the package
MAX_NAMES = 3  # methods that a line lists by name
REPEATS = 3  # measurements of each run time
MAX_LINES = 40  # lines that `rank` prints
MAX_WIDTH = 100  # columns of these lines
LINES_OF_PART = 4  # lines around the rows of a part's table
LAST_LINES = 6  # lines below all tables
METRIC_WIDTH = 26  # columns of a metric's title
VALUES_WIDTH = 16  # columns of a method's values; values with signs at both ends are wider
NO_PLACE = "  In brackets: only networks for which the method has values, too few for a place."


def published_folders(suite: str, required: bool = True, only_part: str = "") -> dict[str, Path]:
    """Return {part: the run folder of its published values}.

    Args:
        suite: The name of a suite.
        required: Raise BenchError if the suite has no published values.
        only_part: Return only this part; "" returns all parts.

    Raises:
        BenchError: If there is no such suite or part, or if values are required and there are none.
    """
    chosen = Suite.of(suite)
    if only_part:
        chosen.part(only_part)  # raises BenchError if there is no such part
    parts = [only_part] if only_part else chosen.parts
    suite_folder = conf_folder().with_name(REFERENCE) / suite
    folders = {}
    for part in parts:
        if (suite_folder / part / "manifest.json").is_file():
            folders[part] = suite_folder / part
    if required and not folders:
        raise BenchError(
            f"No values of the suite {suite} are in this installation; axiom-bench suite={suite} "
            "computes them."
        )
    return folders


def reference(suite: str | None, csv: Path | None = None) -> list[str]:
    """Return the headline of each part's published values, and where and when they were computed.

    Args:
        suite: The name of a suite; `None` lists all suites with published values.
        csv: Write the values to this file instead, in the columns of `results/reference/README.md`.

    Returns:
        The lines to print.

    Raises:
        BenchError: If there is no such suite, or if it has no values.
    """
    folders: dict[str, dict[str, Path]] = {}
    for name in [suite] if suite else entry_names("suite"):
        folder_by_part = published_folders(name, required=bool(suite))
        if folder_by_part:
            folders[name] = folder_by_part
    if csv is not None:
        files.check_output(csv)
        values = pd.concat([results(name).assign(suite=name) for name in folders])
        values = values[["suite", "part", *RECORD_COLUMNS]]
        # mtime=0 and the line terminator make equal values equal bytes.
        text = values.to_csv(index=False, lineterminator="\n").encode()
        files.write(csv, gzip.compress(text, mtime=0) if csv.suffix == ".gz" else text)
        return [f"{plural(len(values), 'value')} of {', '.join(folders)}: {csv}"]
    lines: list[str] = []
    for name, folder_by_part in folders.items():
        for part, folder in folder_by_part.items():
            run = RunFolder.read(folder)
            about = run.manifest
            origin = f"{publishing.commits_text(about)}, {about.created[:10]}, {about.hardware}"
            lines.append(f"{name}/{part}: {plural(len(run.methods), 'method')}, {origin}")
            lines += _note(name, part)
            lines += result_lines(run, with_all_methods=False)
            lines += [f"  in {folder}", ""]
    return lines[:-1]


def _note(suite: str, part: str) -> list[str]:
    """Return the suite's note about the images of a part, as lines."""
    note = Suite.of(suite).part(part).note
    return [f"  {note}"] if note else []


def results(suite: str) -> pd.DataFrame:
    """Return the published values of a suite.

    Args:
        suite: The name of a suite.

    Returns:
        A table with the column `part` and the columns of `axiom_bench.evaluate`.

    Raises:
        BenchError: If there is no such suite, or if it has no values.
    """
    tables = []
    for part, folder in published_folders(suite).items():
        tables.append(reading.read_run(folder).assign(part=part))
    return pd.concat(tables, ignore_index=True)


def rank(
    method: str | Callable[..., object],
    suite: str = "scenes-1",
    metrics: Sequence[str] = (),
    overrides: Sequence[str] = (),
) -> pd.DataFrame:
    """Return a method's places among the published values of a suite, as `axiom-bench rank`
    computes them.

    Values that an earlier call has computed are kept.

    Args:
        method: A function in a module that can be imported, its dotted path, or a name of
            `axiom-bench list methods`.
        suite: A suite of `axiom-bench list suites`, or one part as SUITE/PART. The default needs no
            files.
        metrics: Names of values. By default all that have a direction.
        overrides: Settings that the suite leaves free, such as ["real_root=FOLDER"].

    Returns:
        A row for each part, metric and network: the method's value, the first and the last place
            that can't be excluded, the number of places, and whether the value is above all
            controls. A metric without any value has the network "-" and the place 0.

    Raises:
        BenchError: For an unknown method, suite or metric, and for a method that fails.
    """
    with only_interactive():
        ranking = _ranking(_path(method), suite, metrics, overrides)
    if ranking.code:
        raise BenchError("\n".join(ranking.lines))
    rows = []
    for part, places_by_metric in ranking.places.items():
        for metric, places in places_by_metric.items():
            # A metric without a value has one row, with place 0.
            networks = places.networks if places else {"-": Standing("-")}
            for label, standing in networks.items():
                row = {
                    "part": part,
                    "metric": metric,
                    "network": label,
                    "value": standing.value,
                    "place_low": standing.place_low,
                    "place_high": standing.place_high,
                    "of": standing.groups,
                    "above_controls": standing.beats_controls,
                }
                rows.append(row)
    columns = ["value", "place_low", "place_high", "of", "above_controls"]
    keys = ["part", "metric", "network"]
    return pd.DataFrame(rows, columns=[*keys, *columns]).set_index(keys)


def _path(method: object) -> str:
    """Return the dotted path of a function. Raise BenchError if it can't be imported by that
    path.
    """
    if isinstance(method, str):
        return method
    module = getattr(method, "__module__", None)
    name = getattr(method, "__qualname__", "<")
    if module in (None, "__main__") or not all(map(str.isidentifier, name.split("."))):
        raise BenchError(
            "A suite imports a method by its path, so it can't take one that a script, a notebook "
            "or a function defines; write it to a file, such as my_file.py, and give "
            "ab.rank('my_file.my_cam')."
        )
    return f"{module}.{name}"


@dataclass
class Ranking:
    """A method's standings in a suite, with the tables and lines that show them."""

    code: int = 0
    """The exit code; not 0 if the method failed."""
    lines: list[str] = field(default_factory=list)
    """The lines to print below the tables, or the messages of a failure."""
    places: dict[str, dict[str, Standings | None]] = field(default_factory=dict)
    """The standings by part and metric; `None` if the method has no value."""
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
    """Compute a method's places as `rank` does, and write a page with the details next to the run
    folders.

    Args:
        method: See `rank`.
        suite: See `rank`.
        metrics: See `rank`.
        output: A JSON file to write with all standings.
        latex: A file to write with the tables.
        overrides: See `rank`.

    Returns:
        The exit code and the lines to print.

    Raises:
        BenchError: As `rank` does, and if a file can't be written.
    """
    with redirect_stdout(sys.stderr):  # the runs print many notes
        ranking = _ranking(method, suite, metrics, overrides, output is not None)
    if ranking.code:
        return ranking.code, ranking.lines
    name = submissions.name_of(_name(method))
    sections = []
    for table in ranking.details:
        content = tables_block([table], Terms())
        sections.append(Section(table.name, table.label, content, STYLES, SCRIPTS))
    title = ranking.lines[-1] if ranking.lines else f"{name} on {suite}"
    page = ranking.folder.with_name(f"rank-{suite.replace('/', '-')}-{name}.html")
    texts = {page: assemble(Header("axiom-bench rank", title, {}), sections)}
    if output is not None:
        values = {
            "suite": suite,
            "sha256": Suite.of(suite.partition("/")[0]).sha256,
            "method": _name(method),
            "parts": ranking.places,
        }
        texts[output] = json.dumps(values, indent=1, default=Standings.as_dict)
    if latex is not None:
        texts[latex] = "\n".join(map(to_latex, ranking.short))
    for path, text in texts.items():
        files.write(path, text.encode())
    max_rows = max(2, (MAX_LINES - LAST_LINES) // len(ranking.short) - LINES_OF_PART)
    lines = []
    for table in ranking.short:
        lines += [*_cut(table, max_rows), ""]
    for text in ranking.lines:
        lines += textwrap.wrap(text, MAX_WIDTH)
    for path in texts:
        lines.append(f"{'details' if path.suffix == '.html' else 'written'}: {path}")
    return 0, lines


def _cut(table: Table, max_rows: int) -> list[str]:
    """Return the table as text with at most `max_rows` rows, and a line that counts the others."""
    rows = table.groups[0].rows
    lines = list(to_text(replace(table, groups=(Group("", rows[:max_rows]),))))
    if len(rows) > max_rows:
        lines.append(f"  and {len(rows) - max_rows} more metrics, on the page")
    return lines


def _name(method: str) -> str:
    return method if plugins.is_code_path(method) else plugins.matching("method", method)


def _ranking(
    method: str,
    suite: str,
    metrics: Sequence[str],
    overrides: Sequence[str],
    examples: bool = False,
) -> Ranking:
    """Compute the method on each part of a suite and compare it. For `examples` see
    `_standings`.
    """
    suite, _, only_part = suite.partition("/")
    folders = published_folders(suite, only_part=only_part)
    manifests = {part: reading.read_manifest(folder) for part, folder in folders.items()}
    known_metrics = set[str]()
    for manifest in manifests.values():
        known_metrics.update(manifest.metrics)
    for metric in metrics:
        if metric not in known_metrics:
            raise unknown_name("metric", metric, known_metrics, place=f"in the suite {suite}")
    method = _name(method)
    name = submissions.name_of(method)
    ranking = Ranking()
    costs = list[float]()
    runs = list[RunFolder]()
    chosen = Suite.of(suite)
    estimate = Estimate(sum(chosen.parts[part].num_jobs for part in folders))
    for part, folder in folders.items():
        code, messages, computed = computed_part(
            suite,
            part,
            method,
            name,
            REPEATS,
            overrides,
            estimate=estimate,
        )
        if code:
            return Ranking(code, messages)
        with TemporaryDirectory() as temporary:
            combined = Path(temporary) / "combined"
            manifest = combining.combine([computed, folder], combined, compared=False)
            published_methods = list(manifests[part].methods)
            manifest = manifest.model_copy(update={"published": published_methods})
            run = RunFolder.of(combined, manifest)
            runs.append(run)
            places = _standings(run, name, metrics, examples)
            options = Options.of(run.config.report)
            # The table shows the method next to the first two of these that the run has.
            candidates = (options.rival, options.figures.perturbed, *run.methods)
            others = []
            for other in dict.fromkeys(candidates):
                if other in run.methods and other != name:
                    others.append(other)
            rival = others[0] if others else name
            ranking.places[part] = places
            ranking.folder = computed
            ranking.short.append(_short_table(run, f"{suite}/{part}", (name, *others[:2]), places))
            ranking.details.append(_details(run, suite, part, name, places))
        is_own = run.runtime["method"].astype(str) == name
        times = run.runtime[(run.runtime["step"] == "method") & is_own]
        costs += list(times["forwards"].dropna())
    if costs:
        ends = " to ".join(dict.fromkeys((number(min(costs)), number(max(costs)))))
        ranking.lines.append(f"cost: {ends} forward passes' time, beyond the trace")
    all_metrics = list(dict.fromkeys(chain(*ranking.places.values())))
    if sentence := verdict(runs, name, rival, all_metrics):
        ranking.lines.append(sentence)
    return ranking


def computed_part(
    suite: str,
    part: str,
    method: str,
    name: str,
    repeats: int,
    overrides: Sequence[str] = (),
    continue_run: bool = False,
    estimate: Estimate | None = None,
) -> tuple[int, list[str], Path]:
    """Compute only this method on a part of a suite, with `repeats` measurements of its run time.
    Return what `benchmark.compute` does.
    """
    fixed = (*method_overrides(method, name), *QUIET, f"runtime.repeats={repeats}")
    return compute(
        [f"suite={suite}/{part}", *fixed, *overrides], continue_run=continue_run, estimate=estimate
    )


def method_overrides(method: str, name: str, *others: str) -> list[str]:
    """Return the overrides that choose a method, called `name` in its run, and methods of this
    package next to it.
    """
    if not plugins.is_code_path(method):
        names = dict.fromkeys((*others, method))
        return [f"method=[{','.join(names)}]"]
    return [f"method=[{','.join(others)}]", f"+method.{name}._target_={method}"]


def _standings(
    run: RunFolder, name: str, metrics: Sequence[str], examples: bool
) -> dict[str, Standings | None]:
    """Return {metric: the method's standings, or None without a value}, the headline first.

    The metrics are those of `metrics`, or by default all that have a direction. With `examples` all
    metrics have best and worst images. Otherwise only the first has, which is printed.
    """
    headline = Options.of(run.config.report).headline
    chosen = [metric for metric in run.metrics if run.metadata.value(metric).has_direction]
    chosen.sort(key=lambda metric: headline.index(metric) if metric in headline else len(headline))
    if metrics:
        chosen = [metric for metric in chosen if metric in metrics]
    places = dict[str, Standings | None]()
    for metric in chosen:
        places[metric] = standings(run, metric, name, examples or not any(places.values()))
    return places


def _short_table(
    run: RunFolder, title: str, methods: Sequence[str], places: Mapping[str, Standings | None]
) -> Table:
    """Compare the first method with the others in MAX_WIDTH columns, a row for each metric. Rows
    with values come first.
    """
    name, *others = methods
    rows = []
    # The sort is stable: the headline's metrics stay first.
    for metric, own in sorted(places.items(), key=lambda item: item[1] is None):
        value = run.metadata.value(metric)
        heading = textwrap.shorten(value.title, METRIC_WIDTH - 2, placeholder="...")
        texts = [heading + ARROWS.get(value.better, "")]
        if own:
            texts.append(_values_text(own))
        elif name in run.comparisons.answers(metric):
            texts.append("too few values")
        else:
            texts.append("no value")
        for other in others:
            other_standings = standings(run, metric, other, False)
            texts.append(_values_text(other_standings) if other_standings else NOTHING)
        texts.append(own.places_text if own else NOTHING)
        rows.append(tuple(map(Cell, texts)))
    header = ["values by network"]
    for method in methods:
        column = run.metadata.method_title(method)
        if len(column) > VALUES_WIDTH:
            column = f"{column[: VALUES_WIDTH - 3]}..."
        header.append(column)
    header.append("places")
    caption = f"{run.metadata.method_title(name)} on {title}"
    return Table("rank", caption, tuple(header), (Group("", tuple(rows)),))


def _values_text(standings: Standings) -> str:
    """Return the least and the largest value of the networks, or the one value."""
    ends = (number(end) for end in (standings.values[0], standings.values[-1]))
    return " to ".join(dict.fromkeys(ends))


def _details(
    run: RunFolder, suite: str, part: str, name: str, places: Mapping[str, Standings | None]
) -> Table:
    """Return a table with a row for each metric and everything that is known over the networks."""
    rows = []
    for metric, standing in places.items():
        value = run.metadata.value(metric)
        heading = value.title + ARROWS.get(value.better, "")
        if standing is None:
            answers = run.comparisons.answers(metric).get(name)
            if answers:
                rows.append((heading, "too few values", "", "", answers.text, ""))
            else:
                rows.append((heading, "no value", "", "", "", ""))
            continue
        # Methods that can't be told from this one on every network.
        tied = [run.metadata.method_title(other) for other in run.methods if other in standing.tied]
        row = (
            heading,
            f"{number(standing.values[0])} to {number(standing.values[-1])}",
            standing.places_text,
            f"{standing.num_above_controls} of {len(standing.networks)}",
            standing.answers.text,
            first_names(tied, MAX_NAMES) or "none",
        )
        rows.append(row)
    header = (
        "",
        "values by network",
        "places",
        "above all controls",
        "values on networks, images",
        "doesn't differ from, on any network",
    )
    notes = []
    if any(standing and not standing.answers.has_place for standing in places.values()):
        notes.append(NO_PLACE)
    notes += _examples(run, places)
    notes.append(f"Accuracy: {accuracy_text(run)}.")
    notes += _note(suite, part)
    for metric, standing in places.items():
        if standing:
            notes.append(_badge(suite, part, metric, standing))
            break
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
    """Return a line with the images of the method's best and worst values, on the first network by
    the first metric.
    """
    for metric, standing in places.items():
        networks = standing.networks.values() if standing else ()
        for network in networks:
            if network.best:
                place = f"by {run.metadata.value(metric).title} on {network.network}"
                best = ", ".join(network.best)
                worst = ", ".join(network.worst)
                return [f"Images {place}: best {best}; worst {worst}."]
    return []


def _badge(suite: str, part: str, metric: str, standings: Standings) -> str:
    """Return a Markdown image with the places by one metric, and the numbers of networks and
    images.
    """
    answers = standings.answers
    place = standings.places_in_words if answers.has_place else "no place"
    count = (
        f"{answers.networks} of {answers.all_networks} networks, {answers.rows} of "
        f"{answers.all_rows} images"
    )
    label = f"{suite}/{part} {metric}"
    message = f"{place} ({count})"
    quoted = []
    for text in (label, message):
        text = text.replace("-", "--").replace("_", "__")
        quoted.append(text.replace(" ", "_").replace("/", "%2F"))
    url = f"https://img.shields.io/badge/{quoted[0]}-{quoted[1]}-blue"
    return f"badge: ![{label}: {message}]({url})"
