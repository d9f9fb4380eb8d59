"""A run's last lines: for each metric of the headline, the best method, its value and who can't be told from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pandas as pd

from axiom_bench.report.options import options_of
from axiom_bench.statistics.comparison import Comparison
from axiom_bench.statistics.labels import Setting, Value, counts_text, number, rows_at, with_interval
from axiom_bench.statistics.paired_tests import COMPARE_COLUMNS, LEVEL, compare
from axiom_bench.statistics.ranking import on_common_images
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder
from axiom_bench.statistics.summary import leading


def last_lines(run: RunFolder) -> list[str]:
    """One line for each metric of `config.report.headline` that was measured, with every setting in it; with
    `config.report.compare`, one more for each that has a direction. Models with random weights come first."""
    options = options_of(run)
    summary = leading(run.summary[run.summary["metric"].isin(options.headline)])
    measured = [name for name in options.headline if name in set(summary["metric"])]
    lines = []
    for value in map(run.metadata.value, measured):
        rows = summary[summary["metric"] == value.name]
        parts = [f"{run.label(at)}: {_result(run, at, rows_at(rows, at), value)}" for at in run.settings]
        direction = f", {value.better} is better" if value.has_direction else ""
        statistic = "whole data set" if rows["whole_set"].any() else value.lead
        lines.append(f"{value.title} ({statistic}{direction}): {'; '.join(parts)}")
    compared = _compared(run, options.compare, measured) if options.compare else ()
    return [*random_weights_lines(run), *lines, *compared]


def random_weights_lines(run: RunFolder) -> list[str]:
    """The sentence that a run with random weights is introduced with; none where all models are trained."""
    names = [name for name in run.manifest.get("models") or () if run.metadata.has_random_weights(name)]
    if not names:
        return []
    return [f"Random weights: {', '.join(names)}. Values of an untrained network rank no method: none is called best."]


def _result(run: RunFolder, setting: Setting, rows: pd.DataFrame, value: Value) -> str:
    """ "HiResCAM = XGrad-CAM 0.123 [0.101, 0.150], better than all others (n = 64 images, 120 rows)"; the range over
    the methods where none can be best."""
    defined = rows[rows["n"] > 0]
    if defined.empty:
        return "no value"
    is_ranked = value.has_direction and not run.metadata.has_random_weights(setting.model)
    comparison = run.comparisons.of(setting, value.name) if is_ranked else None
    if comparison is not None:
        counts = counts_text([comparison.images], [comparison.rows])
        which = " in common" if on_common_images(defined) else ""
        return f"{best_text(run, comparison)} ({counts}{which})"
    low, high = number(defined[value.lead].min()), number(defined[value.lead].max())
    methods = "" if set(defined["method"]) == {METHOD_FREE} else f" over {len(defined)} methods"
    return f"{low if low == high else f'{low} to {high}'}{methods} ({counts_text(defined['images'], defined['n'])})"


def best_text(run: RunFolder, comparison: Comparison) -> str:
    """The best value with its interval, and who can't be told from it."""
    best, *others = comparison.ranked
    place = comparison.place(best[0])
    text = f"{_joined(run, best, ' = ')} {with_interval(place.value, place.value_low, place.value_high)}"
    unclear = comparison.not_worse
    if others:
        names = ", ".join(_joined(run, group, " = ") for group in unclear)
        text += f", can't be told from {names}" if unclear else ", better than all others"
    elif len(best) > 1:
        text += ", all coincide"
    constructed = comparison.by_construction
    return text + (f", not ranked: {_joined(run, constructed)}, 0 by construction" if constructed else "")


def _joined(run: RunFolder, methods: Iterable[str], sign: str = ", ") -> str:
    return sign.join(map(run.metadata.method_title, methods))


def _compared(run: RunFolder, control: str, names: list[str]) -> Iterator[str]:
    """ "My-CAM, Box IoU (paired, p < 0.05 after Holm): scenes_vgg: better than Random, worse than CAM, Grad-CAM"."""
    values = [value for value in map(run.metadata.value, names) if value.has_direction]
    tests = [(run.label(setting), compare_in(run, setting, control, values)) for setting in run.settings]
    title = run.metadata.method_title(control)
    for value in values:
        parts = [f"{label}: {_verdict(run, rows[rows['metric'] == value.name])}" for label, rows in tests]
        yield f"{title}, {value.title} (paired, p < {LEVEL:g} after Holm): {'; '.join(parts)}"


def compare_in(run: RunFolder, setting: Setting, control: str, values: list[Value]) -> pd.DataFrame:
    """`compare` in one setting, for those of the values that it has.

    Raises BenchError, with the nearest names, where the run has no such method.
    """
    better = {value.name: value.better for value in values}
    records = rows_at(run.records.frame(better), setting)
    records = records[records["method"] != METHOD_FREE]
    measured = set(records["metric"].unique())
    if not measured and control in run.methods:
        return pd.DataFrame(columns=list(COMPARE_COLUMNS))
    return compare(records, control, {name: way for name, way in better.items() if name in measured})


def _verdict(run: RunFolder, rows: pd.DataFrame) -> str:
    significant = rows[rows["adjusted"] < LEVEL]
    ahead = significant["ahead"]
    sides = {"better than": significant[ahead > 0.5], "worse than": significant[ahead < 0.5]}
    parts = [f"{words} {_joined(run, side['method'])}" for words, side in sides.items() if len(side)]
    return ", ".join(parts) or ("no significant difference" if len(rows) else "no value to compare")
