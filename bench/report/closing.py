"""A run's last lines: for each of the numbers that matter, the best method and its value."""

from __future__ import annotations

import pandas as pd

from bench.report.numbers import number
from bench.report.run_folder import METHOD_FREE, RunFolder, Value
from bench.report.summary import at, best, summarise


def closing_lines(run: RunFolder) -> list[str]:
    """One line for each metric of `config.report.headline` that was measured, every setting in it."""
    chosen = run.records[run.records["metric"].isin(run.options.headline)]
    summary = summarise(chosen)
    measured = [name for name in run.options.headline if name in set(summary["metric"])]
    return [_line(run, run.value(name), summary[summary["metric"] == name]) for name in measured]


def _line(run: RunFolder, value: Value, rows: pd.DataFrame) -> str:
    parts = [f"{run.label(setting)}: {_winner(at(rows, setting), value)}" for setting in run.settings]
    direction = f", {value.better} is better" if value.better in ("lower", "higher") else ""
    return f"{value.title} ({value.lead}{direction}): {'; '.join(parts)}"


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
