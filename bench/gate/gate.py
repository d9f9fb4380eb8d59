"""The gate: did a run's numbers move from a committed baseline, either way?

A baseline is a CSV that a reviewer reads in a diff: what it stands on in lines that start with `#`, then one row for
each model, layer, data set, method and metric. Run time is never in it: seconds belong to a machine.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from axiom_bench.errors import BenchError
from axiom_bench.records import files
from axiom_bench.report.numbers import number
from axiom_bench.report.run_folder import RunFolder
from axiom_bench.report.summary import summarise

KEY = ("model", "layer", "data", "method", "metric")
COLUMNS = (*KEY, "n", "mean", "median", "statuses", "tolerance")
DIGITS = 6
# A float32 value may differ by 1e-5 between machines and batch sizes; an error that is exactly zero in theory
# (any CAM on pooling + linear) is such rounding and nothing else, and no relative tolerance could hold it.
ROUNDING = 1e-5

_RULE = re.compile(r"(mean|median):(\d+(?:\.\d+)?(?:e-?\d+)?)(%?)")


@dataclass(frozen=True)
class GateResult:
    """exit_code: 0 holds, 1 moved, 2 can't compare. lines: why, one sentence each."""

    exit_code: int
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Limit:
    """How far one statistic may move, either way: relative to the baseline's value, or absolute."""

    statistic: str
    amount: float
    relative: bool

    def holds(self, then: float, now: float) -> bool:
        if math.isnan(then) or math.isnan(now):
            return math.isnan(then) and math.isnan(now)
        allowed = self.amount * abs(then) if self.relative else self.amount
        return abs(now - then) <= max(allowed, ROUNDING)

    def __str__(self) -> str:
        return f"{100 * self.amount:.6g} %" if self.relative else f"{self.amount:.6g}"


def tolerance(text: str, metric: str) -> tuple[Limit, ...]:
    """`median:0.5%` or `median:0.01`, or several with a space between. Raises BenchError for anything else.

    >>> [str(limit) for limit in tolerance("mean:1% median:0.01", "box_iou")]
    ['1 %', '0.01']
    """
    parts = [_RULE.fullmatch(part) for part in text.split()]
    limits = [Limit(m[1], float(m[2]) / (100 if m[3] else 1), bool(m[3])) for m in parts if m]
    if not limits or len(limits) < len(parts) or len({limit.statistic for limit in limits}) < len(limits):
        raise BenchError(
            f"The metric {metric!r} has the tolerance {text!r}; write median:0.5%, mean:0.01, or both with a space."
        )
    return tuple(limits)


def baseline_of(run_folder: Path) -> pd.DataFrame:
    """A run's baseline rows, sorted, numbers to 6 significant digits. Raises BenchError where the run can't be read,
    has no records, or has a metric without a tolerance."""
    return _rows(RunFolder.read(Path(run_folder)))


def write_baseline(run_folder: Path, file: Path) -> Path:
    """Write a run's baseline. Raises BenchError as `baseline_of`, and where the file can't be written."""
    run, file = RunFolder.read(Path(run_folder)), Path(file)
    header = "".join(f"# {name}: {said}\n" for name, said in _stands_on(run).items())
    text = header + _rows(run).to_csv(index=False, float_format=f"%.{DIGITS}g", lineterminator="\n")
    files.write(file, text.encode())
    return file


def gate(run_folder: Path, baseline: Path) -> GateResult:
    """Compare a run with a baseline file; every difference has its own line. Never raises for a bad run or baseline."""
    try:
        run = RunFolder.read(Path(run_folder))
        stood_on, then = _read(Path(baseline))
        _same_ground(stood_on, _stands_on(run))
        now = _rows(run)
        moved = [*_sets(then, now), *_moves(then, now)]
    except BenchError as error:
        return GateResult(2, (f"Can't compare: {error}",))
    if moved:
        count = f"{len(moved)} difference{'s' if len(moved) > 1 else ''} from {baseline}."
        return GateResult(1, (*moved, f"Moved: {count} If it is meant, refresh the baseline in a commit of its own."))
    return GateResult(0, (f"Holds: {len(now)} rows of {baseline} are within their tolerances.",))


def _rows(run: RunFolder) -> pd.DataFrame:
    if run.records.empty:
        raise BenchError(f"{run.path} has no records; run the same command again.")
    table = summarise(run.records)
    # A value of the whole data set that shares its metric's name would be a second row under one key.
    table["metric"] = table["metric"].mask(table["whole_set"], table["metric"] + " (whole set)")
    tolerances = {name: run.value(name).tolerance for name in run.metrics}
    for name, text in tolerances.items():
        tolerance(text, name)
    table["tolerance"] = table["metric"].str.removesuffix(" (whole set)").map(tolerances)
    for statistic in ("mean", "median"):
        table[statistic] = [float(f"{value:.{DIGITS}g}") for value in table[statistic]]
    return table.sort_values(list(KEY), ignore_index=True)[list(COLUMNS)]


def _stands_on(run: RunFolder) -> dict[str, str]:
    """What makes two runs comparable: the same experiment, target rule, precision and images."""
    about = {"experiment": run.manifest.get("experiment"), "target": run.config.get("target")}
    about["precision"] = json.dumps(run.manifest.get("precision"))
    for name, data in sorted((run.manifest.get("data") or {}).items()):
        ids = data.get("ids") or []
        about[f"images of {name}"] = f"{len(ids)}, ids {hashlib.sha256(chr(10).join(ids).encode()).hexdigest()[:12]}"
    return {name: str(said) for name, said in about.items()}


def _same_ground(then: Mapping[str, str], now: Mapping[str, str]) -> None:
    other = [name for name in {**then, **now} if then.get(name) != now.get(name)]
    if other:
        said = "; ".join(f"{name} was {then.get(name, 'absent')!r}, is {now.get(name, 'absent')!r}" for name in other)
        raise BenchError(
            f"the baseline stands on another configuration ({said}); give the baseline of this experiment."
        )


def _read(file: Path) -> tuple[dict[str, str], pd.DataFrame]:
    """The `#` lines as a mapping, and the rows. Raises BenchError for what `write_baseline` wouldn't have written."""
    try:
        lines = file.read_text().splitlines(keepends=True)
    except FileNotFoundError as error:
        raise BenchError(f"there is no baseline {file}; write it from a run with --write.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(f"the baseline {file} can't be read ({error}).") from error
    about = [line[1:].strip().partition(": ") for line in lines if line.startswith("#")]
    rows = csv.DictReader(io.StringIO("".join(line for line in lines if not line.startswith("#"))), strict=True)
    try:
        parsed = [_parse(row) for row in rows]
    except (ValueError, TypeError, KeyError, csv.Error) as error:
        raise BenchError(
            f"the baseline {file} is damaged at row {rows.line_num} ({error}); restore it from git."
        ) from error
    table = pd.DataFrame(parsed, columns=list(COLUMNS))
    if list(rows.fieldnames or ()) != list(COLUMNS) or table.empty or table.duplicated(list(KEY)).any():
        raise BenchError(f"the baseline {file} is damaged (columns, no rows, or a row twice); restore it from git.")
    return {name: said for name, _, said in about}, table


def _parse(row: dict[str, Any]) -> dict[str, Any]:
    if None in row.values() or None in row:
        raise ValueError("a field is missing or one too many")
    numbers = {name: float(row[name] or "nan") for name in ("mean", "median")}
    return {**row, **numbers, "n": int(row["n"])}


def _sets(then: pd.DataFrame, now: pd.DataFrame) -> Iterator[str]:
    """Whole names that came or went: one line each rather than one for every row."""
    for kind in KEY:
        for name in sorted(set(then[kind]) - set(now[kind])):
            yield f"{kind} {name}: missing from the run, {(then[kind] == name).sum()} rows of the baseline."
        for name in sorted(set(now[kind]) - set(then[kind])):
            yield f"{kind} {name}: not in the baseline, {(now[kind] == name).sum()} rows of the run."


def _moves(then: pd.DataFrame, now: pd.DataFrame) -> Iterator[str]:
    """One line for every row, count or value that differs, beyond the names that `_sets` told already."""
    before, after = _by_key(then), _by_key(now)
    known = [set(then[kind]) & set(now[kind]) for kind in KEY]
    for key in sorted({*before, *after}):
        where = " ".join(key)
        if key in before and key in after:
            yield from (f"{where}: {said}" for said in _differences(before[key], after[key]))
        elif all(name in names for name, names in zip(key, known, strict=True)):
            yield f"{where}: {'missing from the run' if key in before else 'not in the baseline'}."


def _by_key(table: pd.DataFrame) -> dict[tuple[str, ...], dict[str, Any]]:
    rows = ({str(name): value for name, value in row.items()} for row in table.to_dict("records"))
    return {tuple(str(row[name]) for name in KEY): row for row in rows}


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in ("n", "statuses", "tolerance"):
        if then[name] != now[name]:
            yield f"{name} was {then[name]}, is {now[name]}."
    for limit in tolerance(now["tolerance"], now["metric"]):
        a, b = then[limit.statistic], now[limit.statistic]
        if not limit.holds(a, b):
            change = f", {100 * (b - a) / abs(a):+.3g} %" if a and not math.isnan(a + b) else ""
            yield f"{limit.statistic} was {a:.{DIGITS}g}, is {b:.{DIGITS}g} ({number(b - a)}{change}; allowed {limit})."
