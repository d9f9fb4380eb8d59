"""A run's main results in the lines of a terminal, and a sentence for each of its metrics. A
command prints them at its end.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from axiom_bench.columns import NO_MAP, NOT_FINITE, OK, UNKNOWN_CLASS
from axiom_bench.environment import wrapped
from axiom_bench.errors import first_names, plural
from axiom_bench.report.options import options_of
from axiom_bench.report.shown import methods_in_order
from axiom_bench.report.tables.summaries import method_rows
from axiom_bench.report.tables.text import (
    ARROWS,
    CONSTRUCTED,
    PARTIAL,
    compare_in,
    control_notes,
    marked,
    names_of,
    random_weights_lines,
    reason,
    status_notes,
)
from axiom_bench.statistics.answer import Answer, Conclusion, conclusion, same_map_lines
from axiom_bench.statistics.labels import (
    NOTHING,
    Setting,
    Value,
    counts_text,
    number,
    rows_at,
)
from axiom_bench.statistics.ranking import FIX, at_chance, below_published
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder
from axiom_bench.statistics.summary import counts_of, leading_rows

TITLE = 27  # characters of a method's title
COLUMN = 13  # characters of a metric's column with the gap before it
WIDTH = 80  # characters of a line, unless a terminal has another width
MAX_NAMES = 5  # the most names of images that are left out, and of methods in a sentence
MAX_NOTES = 3  # the most notes that are printed; the page has all
BEST = "*"
MEANINGS = {
    BEST: "best, or not significantly worse",
    NOTHING: "no value",
    PARTIAL: "on fewer images",
    CONSTRUCTED: "0 by construction",
}


def status_counts(run: RunFolder) -> Counter[str]:
    """Return how many values of the run have each status."""
    statuses: Counter[str] = Counter()
    for records in (run.records, run.class_records):
        statuses.update(records.counts(records.metrics))
    return statuses


def undefined_values(statuses: Mapping[str, int]) -> str:
    """Return the counts of the statuses other than ok, each with its reason."""
    undefined = [(status, count) for status, count in sorted(statuses.items()) if status != OK]
    return ", ".join(f"{count} {status} ({reason(status)})" for status, count in undefined)


def status_lines(run: RunFolder, verbose: bool) -> list[str]:
    """Return a line about images that are left out. If `verbose`, a line about the values that
    aren't numbers comes before it.
    """
    lines = []
    statuses = status_counts(run)
    undefined = undefined_values(statuses)
    if verbose and undefined:
        lines.append(f"values: {statuses[OK]} ok, {undefined}")
    columns = {"data": str, "image_id": str}
    parts = [
        part.image_keys[[*columns, "target_class"]].astype(columns)
        for part in (run.records, run.class_records)
    ]
    rows = pd.concat(parts)
    bad_rows = rows[rows["target_class"] == UNKNOWN_CLASS].drop_duplicates()
    if len(bad_rows):
        names = ", ".join(bad_rows["image_id"].head(MAX_NAMES))
        more = ", ..." if len(bad_rows) > MAX_NAMES else ""
        lines.append(f"images left out: {len(bad_rows)} ({names}{more})")
    return lines


def result_lines(run: RunFolder, with_all_methods: bool = True, width: int = WIDTH) -> list[str]:
    """Return a run's main results, the conclusion last. The table and the notes are in lines of
    `width` characters.

    The results are `warning_lines`, the table, the meaning of its signs, a line for each reason why
    values are missing, the first of `all_notes`, and a line for each headline metric that has no
    methods. With `config.report.compare`, there is one for each metric that has a direction.

    Args:
        run: The run, as read from its folder.
        with_all_methods: Also show methods without a value.
        width: The characters of a line.
    """
    options = options_of(run)
    measured = set(run.summary.loc[run.summary["method"] != METHOD_FREE, "metric"])
    names = [name for name in options.headline if name in measured]
    # more columns don't fit into the lines
    columns = _columns([run.metadata.value(name) for name in names], width)
    values = [column.value for column in columns]
    table = list(_table(run, columns, with_all_methods, width)) if columns else []
    sign_meanings = []
    for sign, meaning in MEANINGS.items():
        if any(sign in line for line in table):
            sign_meanings.append(f"{sign} {meaning}")
    if len(names) > len(values):
        sign_meanings.append(f"{plural(len(names) - len(values), 'more metric')} in the report")
    notes = ["; ".join(sign_meanings)] if sign_meanings else []
    if with_all_methods:
        is_shown = run.summary["metric"].isin([value.name for value in values])
        missing = run.summary[is_shown & ~run.summary["n"].gt(0)]
        notes += status_notes(run, missing, len(values), MAX_NAMES)
    main_result = run_conclusion(run)
    notes += _first_notes(all_notes(run, main_result.answers, f"marked {BEST}"))
    lines = [*warning_lines(run), *table]
    for note in notes:
        lines += wrapped(note, width)
    lines += metric_lines(run, set(names))
    if main_result.sentence:
        lines.append(main_result.sentence)
    return lines


def run_conclusion(run: RunFolder) -> Conclusion:
    """Return the main result of a run. The headline decides, or otherwise the first column of the
    overview in which some methods lead.
    """
    options = options_of(run)
    columns = [name for name in options.columns if name not in options.columns_off]
    return conclusion(run, options.headline, columns, options.compare, options.rival)


def all_notes(run: RunFolder, answers: Sequence[Answer], sign: str = "bold") -> list[str]:
    """Return the notes of a run that the terminal prints in part and the page completely: on the
    best values, which have a sign, on equal maps, and on its jobs.
    """
    options = options_of(run)
    notes = control_notes(run, run.settings, options.headline, sign)
    notes += same_map_lines(run, answers)
    jobs_by_note: dict[str, list[str]] = {}
    for job in run.manifest.jobs:
        for note in job.notes:
            jobs_by_note.setdefault(note, []).append(job.job)
    for note, jobs in jobs_by_note.items():
        notes.append(f"{first_names(jobs, MAX_NAMES)}: {note}")
    return notes


def _first_notes(notes: Sequence[str]) -> list[str]:
    """Return the first notes, and a line that says where the others are."""
    num_hidden = len(notes) - MAX_NOTES
    if num_hidden <= 0:
        return list(notes)
    more = f"{plural(num_hidden, 'more note')}: see 'Notes' in the report."
    return [*notes[:MAX_NOTES], more]


@dataclass(frozen=True)
class _Column:
    """A column of the table."""

    value: Value
    title: tuple[str, ...]  # the lines of the heading
    width: int  # characters, with the gap before it


def _columns(values: Sequence[Value], width: int) -> list[_Column]:
    """Return the columns that fit into lines of `width` characters, at least one."""
    columns: list[_Column] = []
    room = width - TITLE
    for value in values:
        heading = value.title + ARROWS.get(value.better, "")
        longest_word = max(map(len, heading.split(" ")))
        column_width = max(COLUMN, longest_word + 1)
        if columns and column_width > room:
            break
        room -= column_width
        title = textwrap.wrap(heading, column_width - 1, break_long_words=False)
        columns.append(_Column(value, tuple(title), column_width))
    return columns


def _table(
    run: RunFolder, columns: Sequence[_Column], with_all_methods: bool, width: int
) -> Iterator[str]:
    """Yield the metrics' titles with their arrows, and the rows of each setting. The titles take as
    many lines as the longest one, and end on the same line.
    """
    values = [column.value for column in columns]
    widths = [column.width for column in columns]
    # A short title has empty lines above it, so that all titles end on the same line.
    height = max(len(column.title) for column in columns)
    padded_titles = [("",) * (height - len(column.title)) + column.title for column in columns]
    for line in zip(*padded_titles, strict=True):
        yield _row("", line, widths)
    for setting in run.settings:
        rows = leading_rows(rows_at(run.summary, setting))
        is_shown = rows["metric"].isin([value.name for value in values])
        rows = rows[(rows["method"] != METHOD_FREE) & is_shown]
        measured = set(rows.loc[rows["n"] > 0, "method"])
        if rows.empty or not (measured or with_all_methods):
            continue
        ordered = methods_in_order(run, setting)
        methods = [name for name in ordered if with_all_methods or name in measured]
        counts = counts_text([rows["images"].max()], [rows["n"].max()])
        accuracy = run.accuracies.get((setting.model, setting.data), "not known")
        yield from wrapped(f"{run.label(setting)} ({counts}), accuracy {accuracy}", width)
        cells_by_value = []
        for value in values:
            cells = []
            for row, lead, is_best in method_rows(run, setting, rows, value, methods):
                has_value = row.get("n", 0) > 0
                text = number(row[lead], value.rounding) if has_value else NOTHING
                cells.append((BEST if is_best else "") + marked(text, row))
            cells_by_value.append(cells)
        for name, *cells in zip(methods, *cells_by_value, strict=True):
            control = " (control)" if name in run.metadata.controls else ""
            yield _row(f"  {run.metadata.method_title(name)}{control}", cells, widths)


def _row(title: str, cells: Sequence[str], widths: Sequence[int]) -> str:
    """Return a line of the table. A title that is too long is cut."""
    title = title if len(title) < TITLE else f"{title[: TITLE - 4]}..."
    columns = "".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
    return f"{title:{TITLE}}{columns}".rstrip()


def metric_lines(run: RunFolder, shown: Collection[str] = ()) -> Iterator[str]:
    """Yield one line for each metric of `config.report.headline` that was measured, with every
    setting. With `config.report.compare`, yield one more for each that has a direction.

    Args:
        run: The run, as read from its folder.
        shown: Names of metrics that are shown elsewhere.
    """
    options = options_of(run)
    summary = leading_rows(run.summary[run.summary["metric"].isin(options.headline)])
    measured = set(summary["metric"])
    values = [run.metadata.value(name) for name in options.headline if name in measured]
    for value in values:
        if value.name not in shown:
            rows = summary[summary["metric"] == value.name]
            parts = [
                f"{run.label(setting)}: {_result(rows_at(rows, setting), value)}"
                for setting in run.settings
            ]
            direction = f", {value.better} is better" if value.has_direction else ""
            statistic = "whole data set" if rows["whole_set"].any() else value.lead
            yield f"{value.title} ({statistic}{direction}): {'; '.join(parts)}"
    if not options.compare:
        return
    # Paired tests need to know which values are better.
    directed_values = [value for value in values if value.has_direction]
    tests = {
        setting: compare_in(run, setting, options.compare, directed_values)
        for setting in run.settings
    }
    for value in directed_values:
        parts = []
        for setting, rows in tests.items():
            verdict = _verdict(run, rows[rows["metric"] == value.name])
            parts.append(f"{run.label(setting)}: {verdict}")
        subject = f"{run.metadata.method_title(options.compare)}, {value.title}"
        yield f"{subject} (paired, p < {run.level:g} after Holm): {'; '.join(parts)}"


def _result(rows: pd.DataFrame, value: Value) -> str:
    """Return a range of values, such as "0.101 to 0.150 over 4 methods (n = 64 images, 120
    rows)".
    """
    defined = rows[rows["n"] > 0]
    if defined.empty:
        return "no value"
    lowest = number(defined[value.lead].min(), value.rounding)
    highest = number(defined[value.lead].max(), value.rounding)
    ends = lowest if lowest == highest else f"{lowest} to {highest}"
    methods = (
        "" if set(defined["method"]) == {METHOD_FREE} else f" over {plural(len(defined), 'method')}"
    )
    return f"{ends}{methods} ({counts_text(defined['images'], defined['n'])})"


def _verdict(run: RunFolder, rows: pd.DataFrame) -> str:
    """Return the methods that the compared method is significantly better or worse than."""
    significant = rows[rows["adjusted"] < run.level]
    is_better = significant["is_better"].astype(bool)
    better_than = significant.loc[is_better, "method"]
    worse_than = significant.loc[~is_better, "method"]
    parts = []
    if len(better_than):
        parts.append(f"better than {names_of(run, better_than)}")
    if len(worse_than):
        parts.append(f"worse than {names_of(run, worse_than)}")
    if parts:
        return ", ".join(parts)
    return "no significant difference" if len(rows) else "no value to compare"


ZERO = "zero_map"


@dataclass(frozen=True)
class _MapWarning:
    """A warning about methods with many maps of one status."""

    # `max` or `min`: the metric with the most or the fewest rows of the status counts.
    choose: Callable[..., Counter[str]]
    min_share: float  # of a method's rows; a method with a smaller share has no warning
    sentence: str  # the end of the line, with places for the number of rows and an image's id


MAP_WARNINGS = {
    ZERO: _MapWarning(max, 0.5, "are zero on {} rows; metrics of the map have no value there."),
    NOT_FINITE: _MapWarning(
        min,
        0.0,
        "aren't finite on {} rows, which have no value; guard divisions as guarded_divide does.",
    ),
    NO_MAP: _MapWarning(
        min,
        0.0,
        "are missing on {} rows; one is called by its image's id, as {}. Re-explanations have "
        "none.",
    ),
}


def warning_lines(run: RunFolder) -> list[str]:
    """Return the warnings that a reader must know first: networks of random weights or no better
    than chance, and methods without maps.
    """
    lines = random_weights_lines(run)
    lines += [f"{sentence}. {FIX}" for sentence in (*at_chance(run), *below_published(run))]
    for status, warning in MAP_WARNINGS.items():
        lines += _map_lines(run, status, warning)
    return lines


def _map_lines(run: RunFolder, status: str, warning: _MapWarning) -> Iterator[str]:
    """Yield lines on the methods with many maps of a status."""
    methods: dict[tuple[Setting, str], list[str]] = {}
    for setting in run.settings:
        rows = rows_at(run.summary, setting)
        rows = rows[rows["method"] != METHOD_FREE]
        image_rows = rows[~rows["whole_set"].astype(bool)]
        for name, statuses in image_rows.groupby("method", sort=False)["statuses"]:
            # One metric tells for all: some metrics have values of a map that is zero.
            metric_counts = map(counts_of, statuses)
            counts = warning.choose(metric_counts, key=lambda counts: counts.get(status, 0))
            count = counts.get(status, 0)
            total = sum(counts.values())
            if count > 0 and count >= warning.min_share * total:
                share = f"all {total:,}" if count == total else f"{count:,} of {total:,}"
                methods.setdefault((setting, share), []).append(str(name))
    for (setting, share), names in methods.items():
        data = run.manifest.data.get(setting.data)
        first_id = data.ids[0] if data and data.ids else "IMAGE_ID"
        subject = f"{run.label(setting)}: the maps of {names_of(run, names)}"
        yield f"{subject} {warning.sentence.format(share, first_id)}"
