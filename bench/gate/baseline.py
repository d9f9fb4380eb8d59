"""Baselines: CSV files that a reviewer can read in a diff.

Lines that start with `#` hold the configuration; then comes one row for each model, layer, data set, method
and metric. Run time is never in it: seconds belong to a machine.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd

from axiom_bench.errors import BenchError, unknown
from axiom_bench.gate.limits import tolerance
from axiom_bench.records import files, running
from axiom_bench.report.run_folder import RunFolder
from axiom_bench.report.statistics.summary import summarise

KEY = ("model", "layer", "data", "method", "metric")
COLUMNS = (*KEY, "n", "mean", "median", "statuses", "tolerance")
DIGITS = 6
WHOLE_SET = " (whole set)"  # after the name of a metric's value of the whole data set


@dataclass(frozen=True)
class Baseline:
    """configuration: what must be the same for two runs to be compared. rows: COLUMNS, sorted, numbers to 6 digits."""

    configuration: dict[str, str]
    rows: pd.DataFrame

    @classmethod
    def of(cls, run: RunFolder) -> Baseline:
        """Raises BenchError where the run has no records, or a metric without a tolerance."""
        return cls(_configuration(run), _rows(run))

    @classmethod
    def read(cls, file: Path) -> Baseline:
        """Raises BenchError for a file that is missing or that `write_baseline` wouldn't have written."""
        try:
            lines = file.read_text().splitlines(keepends=True)
        except FileNotFoundError as error:
            raise BenchError(f"there is no baseline {file}; write it from a run with --write.") from error
        except (OSError, UnicodeDecodeError) as error:
            raise BenchError(f"the baseline {file} can't be read ({error}).") from error
        comments = [line[1:].strip().partition(": ") for line in lines if line.startswith("#")]
        table = _parsed("".join(line for line in lines if not line.startswith("#")), file)
        return cls({name: value for name, _, value in comments}, table)

    def write(self, file: Path) -> None:
        """Raises BenchError where the file can't be written."""
        header = "".join(f"# {name}: {value}\n" for name, value in self.configuration.items())
        rows = self.rows.to_csv(index=False, float_format=f"%.{DIGITS}g", lineterminator="\n")
        files.write(file, (header + rows).encode())


def baseline_of(run_folder: Path) -> pd.DataFrame:
    """A run's baseline rows, sorted, numbers to 6 significant digits. Raises BenchError where the run can't be read,
    has no records, or has a metric without a tolerance."""
    return _rows(RunFolder.read(Path(run_folder)))


def write_baseline(run_folder: Path, file: Path) -> Path:
    """Write a run's baseline. Raises BenchError as `baseline_of`, and where the file can't be written."""
    Baseline.of(RunFolder.read(Path(run_folder))).write(Path(file))
    return Path(file)


def find(baseline: Path) -> Path:
    """The file of a baseline: a path, or the bare name of one that comes with the package, as `quick`.

    Raises BenchError, with the nearest names, for a bare name of no file and no packaged baseline.
    """
    if baseline.exists() or baseline.suffix or len(baseline.parts) > 1:
        return baseline
    folder = resources.files("axiom_bench") / "baselines"
    names = [Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".csv")]
    if baseline.name not in names:
        raise unknown("baseline", baseline.name, names)
    return Path(str(folder / f"{baseline.name}.csv"))


def _rows(run: RunFolder) -> pd.DataFrame:
    running.check_ended(run.path, run.manifest)
    if run.records.empty:
        raise BenchError(f"{run.path} has no records; run the same command again.")
    table = summarise(run.records, image_value_of=run.image_value_of)
    # A value of the whole data set that shares its metric's name would be a second row under one key.
    table["metric"] = table["metric"].mask(table["whole_set"], table["metric"] + WHOLE_SET)
    tolerances = {name: run.value(name).tolerance for name in run.metrics}
    for name, text in tolerances.items():
        tolerance(text, name)
    table["tolerance"] = table["metric"].str.removesuffix(WHOLE_SET).map(tolerances)
    for statistic in ("mean", "median"):
        table[statistic] = [float(f"{value:.{DIGITS}g}") for value in table[statistic]]
    return table.sort_values(list(KEY), ignore_index=True)[list(COLUMNS)]


def _configuration(run: RunFolder) -> dict[str, str]:
    """The experiment, target rule, precision and images of a run."""
    configuration = {
        "experiment": str(run.manifest.get("experiment")),
        "target": str(run.config.get("target")),
        "precision": json.dumps(run.manifest.get("precision")),
    }
    for name, data in sorted((run.manifest.get("data") or {}).items()):
        ids = data.get("ids") or []
        digest = hashlib.sha256("\n".join(ids).encode()).hexdigest()[:12]
        configuration[f"images of {name}"] = f"{len(ids)}, ids {digest}"
    return configuration


def _parsed(text: str, file: Path) -> pd.DataFrame:
    rows = csv.DictReader(io.StringIO(text), strict=True)
    try:
        parsed = [_parse(row) for row in rows]
    except (ValueError, TypeError, KeyError, csv.Error) as error:
        raise BenchError(
            f"the baseline {file} is damaged at row {rows.line_num} ({error}); restore it from git."
        ) from error
    table = pd.DataFrame(parsed, columns=list(COLUMNS))
    if list(rows.fieldnames or ()) != list(COLUMNS) or table.empty or table.duplicated(list(KEY)).any():
        raise BenchError(f"the baseline {file} is damaged (columns, no rows, or a row twice); restore it from git.")
    return table


def _parse(row: dict[str, Any]) -> dict[str, Any]:
    if None in row.values() or None in row:
        raise ValueError("a field is missing or one too many")
    numbers = {name: float(row[name] or "nan") for name in ("mean", "median")}
    return {**row, **numbers, "n": int(row["n"])}
