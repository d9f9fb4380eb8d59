"""A run's last lines: for each of the numbers that matter, the best method and its value."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from axiom_bench.report.numbers import number
from axiom_bench.report.paired import LEVEL, compare
from axiom_bench.report.run_folder import METHOD_FREE, RunFolder, Value
from axiom_bench.report.summary import at, best, leading, summarise


def closing_lines(run: RunFolder) -> list[str]:
    """One line for each metric of `config.report.headline` that was measured, every setting in it; with
    `config.report.compare`, one more for each that has a direction."""
    chosen = run.records[run.records["metric"].isin(run.options.headline)]
    summary = leading(summarise(chosen))
    measured = [name for name in run.options.headline if name in set(summary["metric"])]
    lines = [_line(run, run.value(name), summary[summary["metric"] == name]) for name in measured]
    return [*lines, *(_compared(run, run.options.compare, measured) if run.options.compare else ())]


def _line(run: RunFolder, value: Value, rows: pd.DataFrame) -> str:
    parts = [f"{run.label(setting)}: {_winner(at(rows, setting), value)}" for setting in run.settings]
    direction = f", {value.better} is better" if value.better in ("lower", "higher") else ""
    statistic = "whole data set" if rows["whole_set"].any() else value.lead
    return f"{value.title} ({statistic}{direction}): {'; '.join(parts)}"


def _winner(rows: pd.DataFrame, value: Value) -> str:
    """ "xgrad_cam = hires_cam 0.123 (n = 120)", or the range over the methods where the metric has no direction."""
    known = rows[rows["n"] > 0]
    if known.empty:
        return "no value"
    winners = known[best(known[value.lead], value)]
    if len(winners):
        names = " = ".join(winners["method"])
        return f"{names} {number(winners[value.lead].iloc[0])} (n = {winners['n'].min()})"
    low, high = number(known[value.lead].min()), number(known[value.lead].max())
    name = "" if set(known["method"]) == {METHOD_FREE} else f" over {len(known)} methods"
    return f"{low if low == high else f'{low} to {high}'}{name} (n = {known['n'].min()})"


def _compared(run: RunFolder, control: str, names: list[str]) -> Iterator[str]:
    """ "mine, Box IoU (paired, p < 0.05 after Holm): scenes_vgg: better than random, worse than cam, grad_cam"."""
    values = [value for value in map(run.value, names) if value.better in ("lower", "higher")]
    better = {value.name: value.better for value in values}
    found = [(run.label(setting), compare(run.at(setting), control, better)) for setting in run.settings]
    for value in values:
        parts = [f"{label}: {_verdict(rows[rows['metric'] == value.name])}" for label, rows in found]
        yield f"{control}, {value.title} (paired, p < {LEVEL:g} after Holm): {'; '.join(parts)}"


def _verdict(rows: pd.DataFrame) -> str:
    sure = rows[rows["adjusted"] < LEVEL]
    sides = {"better than": sure[sure["ahead"] > 0.5], "worse than": sure[sure["ahead"] < 0.5]}
    said = [f"{word} {', '.join(side['method'])}" for word, side in sides.items() if len(side)]
    return ", ".join(said) or ("no difference is sure" if len(rows) else "no value to compare")
