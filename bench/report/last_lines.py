"""A run's last lines: for each metric of the headline, the best method and its value."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from axiom_bench.report.numbers import counts_text, number
from axiom_bench.report.run_folder import METHOD_FREE, RunFolder, Setting, Value, rows_at
from axiom_bench.report.statistics.paired import SIGNIFICANCE, compare
from axiom_bench.report.statistics.summary import best, leading, summarise


def last_lines(run: RunFolder) -> list[str]:
    """One line for each metric of `config.report.headline` that was measured, with every setting in it; with
    `config.report.compare`, one more for each that has a direction. Models with random weights come first."""
    names = {*run.options.headline, *(run.stands_on.get(name, name) for name in run.options.headline)}
    summary = leading(summarise(run.records[run.records["metric"].isin(names)], stands_on=run.stands_on))
    measured = [name for name in run.options.headline if name in set(summary["metric"])]
    lines = [_line(run, run.value(name), summary[summary["metric"] == name]) for name in measured]
    compared = _compared(run, run.options.compare, measured) if run.options.compare else ()
    return [*random_weights_lines(run), *lines, *compared]


def random_weights_lines(run: RunFolder) -> list[str]:
    """The sentence that a run with random weights is introduced with; none where all models are trained."""
    names = [name for name in run.manifest.get("models") or () if run.has_random_weights(name)]
    if not names:
        return []
    return [f"Random weights: {', '.join(names)}. Values of an untrained network rank no method: none is called best."]


def _line(run: RunFolder, value: Value, rows: pd.DataFrame) -> str:
    parts = [
        f"{run.label(setting)}: {_result(run, setting, rows_at(rows, setting), value)}" for setting in run.settings
    ]
    direction = f", {value.better} is better" if value.has_direction else ""
    statistic = "whole data set" if rows["whole_set"].any() else value.lead
    return f"{value.title} ({statistic}{direction}): {'; '.join(parts)}"


def _result(run: RunFolder, setting: Setting, rows: pd.DataFrame, value: Value) -> str:
    """ "xgrad_cam = hires_cam 0.123 (64 images, 120 rows)"; the range over the methods where none can be best."""
    defined = rows[rows["n"] > 0]
    if defined.empty:
        return "no value"
    winners = defined[best(defined[value.lead], value)]
    if len(winners) and not run.has_random_weights(setting.model):
        names = " = ".join(winners["method"])
        return f"{names} {number(winners[value.lead].iloc[0])} ({counts_text(winners['images'], winners['n'])})"
    low, high = number(defined[value.lead].min()), number(defined[value.lead].max())
    methods = "" if set(defined["method"]) == {METHOD_FREE} else f" over {len(defined)} methods"
    return f"{low if low == high else f'{low} to {high}'}{methods} ({counts_text(defined['images'], defined['n'])})"


def _compared(run: RunFolder, control: str, names: list[str]) -> Iterator[str]:
    """ "my_cam, Box IoU (paired, p < 0.05 after Holm): scenes_vgg: better than random, worse than cam, grad_cam"."""
    values = [value for value in map(run.value, names) if value.has_direction]
    tests = [(run.label(setting), compare_in(run, setting, control, values)) for setting in run.settings]
    for value in values:
        parts = [f"{label}: {_verdict(rows[rows['metric'] == value.name])}" for label, rows in tests]
        yield f"{control}, {value.title} (paired, p < {SIGNIFICANCE:g} after Holm): {'; '.join(parts)}"


def compare_in(run: RunFolder, setting: Setting, control: str, values: list[Value]) -> pd.DataFrame:
    """`compare` in one setting, for those of the values that it has.

    Raises BenchError, with the nearest names, where the run has no such method.
    """
    records = run.at(setting)
    records = records[records["method"] != METHOD_FREE]
    measured = set(records["metric"].unique())
    return compare(records, control, {value.name: value.better for value in values if value.name in measured})


def _verdict(rows: pd.DataFrame) -> str:
    significant = rows[rows["adjusted"] < SIGNIFICANCE]
    sides = {
        "better than": significant[significant["ahead"] > 0.5],
        "worse than": significant[significant["ahead"] < 0.5],
    }
    parts = [f"{words} {', '.join(side['method'])}" for words, side in sides.items() if len(side)]
    return ", ".join(parts) or ("no significant difference" if len(rows) else "no value to compare")
