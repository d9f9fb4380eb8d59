"""A run's main results in 80 columns, and a sentence for each of its metrics: what a command ends
with.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import pandas as pd

from axiom_bench.columns import NO_MAP, NOT_FINITE, OK, UNKNOWN_CLASS
from axiom_bench.report.options import options_of
from axiom_bench.report.tables.summaries import of_methods
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
from axiom_bench.statistics.labels import NOTHING, Setting, Value, counts_text, number, rows_at
from axiom_bench.statistics.paired_tests import LEVEL
from axiom_bench.statistics.ranking import (
    MEND,
    at_chance,
    below_published,
    coincidences,
    conclusion,
)
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder
from axiom_bench.statistics.summary import counts_of, leading

TITLE, COLUMN = (
    27,
    13,
)  # characters of a method's title, and of a metric's column with the gap before it
WIDTH = 80  # of the table and of what it says
MOST = (WIDTH - TITLE) // COLUMN  # metrics
MAX_NAMES = 5  # of images that are left out
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
    """Return a line about images that are left out; verbose: before it one about the values without
    a number.
    """
    lines = []
    statuses = status_counts(run)
    undefined = undefined_values(statuses)
    if verbose and undefined:
        lines.append(f"values: {statuses[OK]} ok, {undefined}")
    columns = {"data": str, "image_id": str}
    parts = [
        part.of_images[[*columns, "target_class"]].astype(columns)
        for part in (run.records, run.class_records)
    ]
    rows = pd.concat(parts)
    bad = rows[rows["target_class"] == UNKNOWN_CLASS].drop_duplicates()
    if len(bad):
        more = ", ..." if len(bad) > MAX_NAMES else ""
        lines.append(
            f"images left out: {len(bad)} ({', '.join(bad['image_id'].head(MAX_NAMES))}{more})"
        )
    return lines


def result_lines(run: RunFolder, with_all_methods: bool = True) -> list[str]:
    """The table, a line that says what its signs mean, why values are missing, and a line for each
    headline metric of the layer alone; with `config.report.compare`, one for each metric that has a
    direction. `warning_lines` come first, the conclusion last. with_all_methods: Also show methods
    without a value.
    """
    measured = set(run.summary.loc[run.summary["method"] != METHOD_FREE, "metric"])
    names = [name for name in options_of(run).headline if name in measured]
    values = [run.metadata.value(name) for name in names[:MOST]]
    table = list(_table(run, values, with_all_methods)) if values else []
    notes = [
        f"{sign} {meaning}"
        for sign, meaning in MEANINGS.items()
        if any(sign in line for line in table)
    ]
    notes += [f"{len(names) - MOST} more metrics in the report"] if len(names) > MOST else []
    below = ["; ".join(notes)] if notes else []
    absent = run.summary[run.summary["metric"].isin(names[:MOST]) & ~run.summary["n"].gt(0)]
    below += status_notes(run, absent) if with_all_methods else []
    for note in control_notes(run, run.settings, names[:MOST], f"marked {BEST}"):
        below += textwrap.wrap(note, WIDTH)
    options = options_of(run)
    answer, *_ = conclusion(run, options.headline, options.compare, options.rival, options.columns)
    below += filter(None, [coincidences(run, options.headline)])
    return [
        *warning_lines(run),
        *table,
        *below,
        *metric_lines(run, set(names)),
        *filter(None, [answer]),
    ]


def _table(run: RunFolder, values: Sequence[Value], with_all_methods: bool) -> Iterator[str]:
    """The metrics' titles with their arrows, as many lines as the longest takes, the last ones
    level; and the rows of each setting.
    """
    titles = [
        textwrap.wrap(value.title + ARROWS.get(value.better, ""), COLUMN - 1) for value in values
    ]
    height = max(map(len, titles))
    for line in zip(*([""] * (height - len(title)) + title for title in titles), strict=True):
        yield _row("", line)
    for setting in run.settings:
        rows = leading(rows_at(run.summary, setting))
        rows = rows[
            (rows["method"] != METHOD_FREE) & rows["metric"].isin([value.name for value in values])
        ]
        measured = set(rows.loc[rows["n"] > 0, "method"])
        if not measured:
            continue
        methods = [name for name in run.methods if with_all_methods or name in measured]
        counts = counts_text([rows["images"].max()], [rows["n"].max()])
        accuracy = run.accuracies.get((setting.model, setting.data), "not known")
        yield f"{run.label(setting)} ({counts}), accuracy {accuracy}"
        columns = [
            [
                BEST * is_best
                + marked(number(row[lead], value.rounding) if row.get("n", 0) > 0 else NOTHING, row)
                for row, lead, is_best in of_methods(run, setting, rows, value, methods)
            ]
            for value in values
        ]
        for name, *cells in zip(methods, *columns, strict=True):
            control = " (control)" if name in run.metadata.controls else ""
            yield _row(f"  {run.metadata.method_title(name)}{control}", cells)


def _row(title: str, cells: Sequence[str]) -> str:
    title = title if len(title) < TITLE else f"{title[: TITLE - 4]}..."
    return f"{title:{TITLE}}{''.join(cell.rjust(COLUMN) for cell in cells)}".rstrip()


def metric_lines(run: RunFolder, shown: Collection[str] = ()) -> Iterator[str]:
    """One line for each metric of `config.report.headline` that was measured and isn't shown
    elsewhere, with every setting; with `config.report.compare`, one more for each that has a
    direction.
    """
    options = options_of(run)
    summary = leading(run.summary[run.summary["metric"].isin(options.headline)])
    values = [
        run.metadata.value(name) for name in options.headline if name in set(summary["metric"])
    ]
    for value in values:
        if value.name not in shown:
            rows = summary[summary["metric"] == value.name]
            parts = [f"{run.label(at)}: {_result(rows_at(rows, at), value)}" for at in run.settings]
            direction = f", {value.better} is better" if value.has_direction else ""
            statistic = "whole data set" if rows["whole_set"].any() else value.lead
            yield f"{value.title} ({statistic}{direction}): {'; '.join(parts)}"
    values = [value for value in values if value.has_direction]
    if options.compare:
        tests = {at: compare_in(run, at, options.compare, values) for at in run.settings}
        for value in values:
            parts = [f"{run.label(at)}: {_verdict(run, rows[rows['metric'] == value.name])}"
                     for at, rows in tests.items()]  # fmt: skip
            about = f"{run.metadata.method_title(options.compare)}, {value.title}"
            yield f"{about} (paired, p < {LEVEL:g} after Holm): {'; '.join(parts)}"


def _result(rows: pd.DataFrame, value: Value) -> str:
    """ "0.101 to 0.150 over 4 methods (n = 64 images, 120 rows)"."""
    defined = rows[rows["n"] > 0]
    if defined.empty:
        return "no value"
    ends = (
        number(end, value.rounding)
        for end in (defined[value.lead].min(), defined[value.lead].max())
    )
    methods = "" if set(defined["method"]) == {METHOD_FREE} else f" over {len(defined)} methods"
    return (
        f"{' to '.join(dict.fromkeys(ends))}{methods} "
        f"({counts_text(defined['images'], defined['n'])})"
    )


def _verdict(run: RunFolder, rows: pd.DataFrame) -> str:
    significant = rows[rows["adjusted"] < LEVEL]
    is_better = significant["is_better"].astype(bool)
    sides = {"better than": significant[is_better], "worse than": significant[~is_better]}
    parts = [
        f"{words} {names_of(run, side['method'])}" for words, side in sides.items() if len(side)
    ]
    return ", ".join(parts) or ("no significant difference" if len(rows) else "no value to compare")


ZERO = "zero_map"
# status: (see `_map_lines`, the share of a method's maps from which on it is said, what is said)
OF_MAPS = {
    ZERO: (max, 0.5, "are zero on {} rows; metrics of the map have no value there."),
    NOT_FINITE: (
        min,
        0.0,
        "aren't finite on {} rows, which have no value; guard divisions as guarded_divide does.",
    ),
    NO_MAP: (
        min,
        0.0,
        "are missing on {} rows; one is called by its image's id, as {}. Re-explanations have "
        "none.",
    ),
}


def warning_lines(run: RunFolder) -> list[str]:
    """What a reader must know first: networks of random weights or no better than chance; methods
    without maps.
    """
    inaccurate = [f"{sentence}. {MEND}" for sentence in (*at_chance(run), *below_published(run))]
    of_maps = (
        line for status, (count, *_) in OF_MAPS.items() for line in _map_lines(run, status, count)
    )
    return [*random_weights_lines(run), *inaccurate, *of_maps]


def _map_lines(
    run: RunFolder, status: str, of_metrics: Callable[..., Counter[str]]
) -> Iterator[str]:
    """The methods with many maps of a status. of_metrics: whether the metric with the most or the
    fewest of it tells: a map that is zero has values of other metrics.
    """
    methods: dict[tuple[Setting, str], list[str]] = {}
    _, least, sentence = OF_MAPS[status]
    for setting in run.settings:
        rows = rows_at(run.summary, setting)
        rows = rows[rows["method"] != METHOD_FREE]
        for name, statuses in rows[~rows["whole_set"].astype(bool)].groupby("method", sort=False)[
            "statuses"
        ]:
            counts = of_metrics(
                map(counts_of, statuses), key=lambda of_metric: of_metric.get(status, 0)
            )
            found, total = counts.get(status, 0), sum(counts.values())
            if found > 0 and found >= least * total:
                share = f"all {total:,}" if found == total else f"{found:,} of {total:,}"
                methods.setdefault((setting, share), []).append(str(name))
    for (at, share), names in methods.items():
        data = run.manifest.data.get(at.data)
        first = data.ids[0] if data and data.ids else "IMAGE_ID"
        yield f"{run.label(at)}: the maps of {names_of(run, names)} {sentence.format(share, first)}"
