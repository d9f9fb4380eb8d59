"""Baselines: CSV files that a reviewer can read in a diff. Lines that start with `#` hold the
configuration, what it was written with and why; then comes one row for each model, layer, data set,
method and metric.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import re
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd

from axiom_bench.columns import LAYER, UNKNOWN_CLASS
from axiom_bench.errors import BenchError, unknown
from axiom_bench.gate.compare import KEY, tolerance
from axiom_bench.gate.findings import ACCURACY, DIGITS, MAX_NAME, WHOLE_SET
from axiom_bench.records import files, running
from axiom_bench.statistics.run_folder import RunFolder
from axiom_bench.statistics.summary import summarise

IMAGES = "images of "  # begins the keys of a configuration that name the images
WRITTEN_WITH = "written with"
MAX_REASON = 500  # characters
LIBRARIES = ("axiom-bench", "torch", "torchvision", "numpy")


@dataclass(frozen=True)
class Baseline:
    """configuration: what must be the same for two runs to be compared. rows: COLUMNS, sorted,
    numbers to 6 digits. versions: of the libraries of the run. history: see `_history_line`, the
    oldest first.
    """

    configuration: dict[str, str]
    rows: pd.DataFrame
    versions: str = ""
    history: tuple[str, ...] = ()

    @classmethod
    def of(cls, run: RunFolder) -> Baseline:
        """Return the baseline of a run.

        Raises BenchError for a run without records, a metric without a tolerance, or a method or
        metric whose answers aren't the same again.
        """
        for name, why in run.metadata.unstable().items():
            raise BenchError(
                f"{name!r} {why}. A gate compares values that are the same again: leave it out, "
                "or mend it."
            )
        rows = pd.concat([_rows(run), accuracies(run)], ignore_index=True)
        for statistic in ("mean", "median"):
            rows[statistic] = [float(f"{value:.{DIGITS}g}") for value in rows[statistic]]
        rows = rows.sort_values(list(KEY), ignore_index=True)[list(COLUMNS)]
        of_libraries = run.manifest.versions
        versions = ", ".join(
            f"{name} {of_libraries[name]}" for name in LIBRARIES if of_libraries.get(name)
        )
        return cls(_configuration(run), rows, versions)

    @classmethod
    def read(cls, file: Path) -> Baseline:
        """Raises BenchError for a file that is missing, isn't a text of MAX_BYTES at most, or that
        `write` wouldn't have written.
        """
        lines = _text(file).splitlines(keepends=True)
        rows = _parsed_rows("".join(line for line in lines if not line.startswith("#")), file)
        header = [line[1:].strip().partition(": ")[::2] for line in lines if line.startswith("#")]
        configuration = {name: value for name, value in header if name != HISTORY}
        history = tuple(value for name, value in header if name == HISTORY)
        versions = configuration.pop(WRITTEN_WITH, "")
        return cls(configuration, rows, versions, history)

    def write(self, file: Path) -> None:
        """Raises BenchError where the file can't be written, or a name can't be in it."""
        self.check_names()
        written_with = [(WRITTEN_WITH, self.versions)] if self.versions else []
        header = [
            *self.configuration.items(),
            *written_with,
            *((HISTORY, line) for line in self.history),
        ]
        lines = "".join(
            f"# {name}: {value}\n" if value else f"# {name}\n" for name, value in header
        )
        rows = self.rows.to_csv(index=False, float_format=f"%.{DIGITS}g", lineterminator="\n")
        files.write(file, f"{lines}{rows}".encode())

    def check_names(self) -> None:
        """Raises BenchError for a name that can't be in a baseline, see `check_name`."""
        for column in KEY:
            for name in self.rows[column].unique():
                check_name(column, str(name))


def write_baseline(run_folder: Path, file: Path, reason: str | None = None) -> Path:
    """Write a run's baseline. reason: why, kept in the header under the reasons of the baseline
    that it replaces. Raises BenchError as `Baseline.of`, and where the run can't be read, the file
    can't be written or a name can't be in it.
    """
    file, run, replaced = Path(file), RunFolder.read(Path(run_folder)), None
    with suppress(BenchError):  # there is none, or it is damaged and written anew
        replaced = Baseline.read(file)
    new = Baseline.of(run)
    lines = replaced.history if replaced else ()
    if reason is not None:
        lines = (*lines, _history_line(reason, file))
    new.check_names()  # before anything is written
    replace(new, history=lines).write(file)
    return file


def find(baseline: Path) -> Path:
    """The file of a baseline: a path, or the bare name of one that comes with the package, as
    `quick`. Raises BenchError, with the nearest names, for a bare name of no file and no packaged
    baseline.
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
    # A value of the whole data set that shares its metric's name would be a second row under one
    # key.
    table["metric"] = table["metric"].mask(table["whole_set"], table["metric"] + WHOLE_SET)
    tolerances = {name: run.metadata.value(name).tolerance for name in run.metrics}
    for name, rule in tolerances.items():
        tolerance(rule, name)
    table["tolerance"] = table["metric"].str.removesuffix(WHOLE_SET).map(tolerances)
    return table[list(COLUMNS)]


def _configuration(run: RunFolder) -> dict[str, str]:
    configuration = {
        "experiment": str(run.manifest.experiment),
        "target": str(run.config.target),
        "precision": json.dumps(run.manifest.precision),
    }
    for name, data in sorted(run.manifest.data.items()):
        digest = hashlib.sha256("\n".join(data.ids).encode()).hexdigest()[:12]
        configuration[f"{IMAGES}{name}"] = f"{len(data.ids)}, ids {digest}"
    return configuration


def _history_line(reason: str, baseline: Path) -> str:
    """The date, the commit that the folder of the baseline is at, and the reason, in one line."""
    words = "".join(letter if letter.isprintable() else " " for letter in reason).split()
    at = ""
    if shutil.which("git") is not None:
        command = ["git", "-C", str(baseline.absolute().parent), "rev-parse", "--short=12", "HEAD"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        at = f" at commit {done.stdout.strip()}" if done.returncode == 0 else ""
    return f"{datetime.now(UTC):%Y-%m-%d}{at}: {' '.join(words)[:MAX_REASON]}"


COLUMNS = (*KEY, "n", "mean", "median", "statuses", "tolerance")
HISTORY = "history"  # a header's key that may occur several times
MAX_BYTES = 2**25  # of a baseline: some 300,000 rows
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what begins a formula in a spreadsheet
N = re.compile(r"\d{1,12}", re.ASCII)
STATUSES = re.compile(r"(\w{1,100}:\d{1,12}( \w{1,100}:\d{1,12}){0,50})?", re.ASCII)


def check_name(column: str, name: str) -> None:
    """Raises BenchError for a name that begins a formula in a spreadsheet, doesn't fit into one
    line, or is longer than MAX_NAME characters.
    """
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise BenchError(
            f"the {column} {name[:40]!r} is empty, longer than {MAX_NAME} characters or not "
            "printable"
        )
    if name.startswith(FORMULA) and name != LAYER:
        raise BenchError(
            f"the {column} {name[:40]!r} begins a formula in a spreadsheet; give it another name"
        )


def _text(file: Path) -> str:
    try:
        if file.exists() and not file.is_file():  # reading a pipe would wait without end
            raise BenchError(f"the baseline {file} is no file.")
        if file.stat().st_size > MAX_BYTES:
            raise BenchError(
                f"the baseline {file} is larger than {MAX_BYTES // 2**20} MiB; restore it from git."
            )
        return file.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise BenchError(
            f"there is no baseline {file}; write it from a run with --write."
        ) from error
    except (OSError, ValueError) as error:
        raise BenchError(f"the baseline {file} can't be read ({error}).") from error


def _parsed_rows(text: str, file: Path) -> pd.DataFrame:
    rows = csv.DictReader(io.StringIO(text), strict=True)
    try:
        if list(rows.fieldnames or ()) != list(COLUMNS):
            raise ValueError(f"its columns aren't {','.join(COLUMNS)}")
        parsed = [_parsed_row(row) for row in rows]
    except (ValueError, TypeError, KeyError, BenchError, csv.Error) as error:
        reason = str(error).rstrip(".")[:300]
        place = f"the baseline {file} is damaged at row {rows.line_num}"
        raise BenchError(f"{place} ({reason}); restore it from git.") from error
    table = pd.DataFrame(parsed, columns=list(COLUMNS))
    if table.empty or table.duplicated(list(KEY)).any():
        raise BenchError(
            f"the baseline {file} is damaged (no rows, or a row twice); restore it from git."
        )
    return table


def _parsed_row(row: dict[str, Any]) -> dict[str, Any]:
    if None in row.values() or None in row:
        raise ValueError("a field is missing or one too many")
    for column in KEY:
        check_name(column, row[column])
    numbers = {name: float(row[name] or "nan") for name in ("mean", "median")}
    if any(map(math.isinf, numbers.values())):
        raise ValueError("a mean or median is infinite")
    if not N.fullmatch(row["n"]) or not STATUSES.fullmatch(row["statuses"]):
        raise ValueError(f"n is {row['n'][:40]!r}, statuses are {row['statuses'][:40]!r}")
    tolerance(row["tolerance"], row["metric"])
    return {**row, **numbers, "n": int(row["n"])}


PLACE = ["model", "layer", "data"]


def accuracies(run: RunFolder) -> pd.DataFrame:
    """A row for each model, layer and data set with the columns of a baseline, over the images
    whose classes are known. The records have the predicted class of each row, by which a report
    tells correct rows from wrong ones; where it changes, no metric's value does. With
    target=predicted it is 1: the predicted class is the explained one.
    """
    columns = [*PLACE, "image_id", "target_class", "predicted_class"]
    explained = run.records.of_images[columns].drop_duplicates()
    target, predicted = explained["target_class"], explained["predicted_class"]
    explained = explained.assign(correct=target == predicted)[
        (target > UNKNOWN_CLASS) & (predicted > UNKNOWN_CLASS)
    ]
    images = (
        explained.groupby([*PLACE, "image_id"], observed=True)["correct"]
        .any()
        .astype(float)
        .reset_index()
    )
    table = (
        images.groupby(PLACE, observed=True)["correct"]
        .agg(n="count", mean="mean", median="median")
        .reset_index()
    )
    return table.astype(dict.fromkeys(PLACE, str)).assign(
        method=LAYER, metric=ACCURACY, statuses="", tolerance="mean:0.005"
    )
