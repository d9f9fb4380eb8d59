"""Baselines: CSV files that a reviewer can read in a diff.

Lines that start with `#` contain the configuration, the versions of the libraries, and the reasons
for the baseline. Then comes one row for each model, layer, data set, method and metric.
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

import pandas as pd

from axiom_bench.columns import LAYER, UNKNOWN_CLASS
from axiom_bench.errors import BenchError, unknown_name
from axiom_bench.gate.compare import KEY, tolerance
from axiom_bench.gate.findings import ACCURACY, DIGITS, MAX_NAME, WHOLE_SET
from axiom_bench.records import files, running
from axiom_bench.statistics.run_folder import RunFolder
from axiom_bench.statistics.summary import summarise

IMAGES = "images of "  # begins the keys of a configuration that describe a data set's images
WRITTEN_WITH = "written with"  # the header's key of the versions
HISTORY = "history"  # the header's key of a reason, which may occur several times
MAX_REASON = 500  # characters
LIBRARIES = ("axiom-bench", "torch", "torchvision", "numpy")
COLUMNS = (*KEY, "n", "mean", "median", "statuses", "tolerance")
MAX_BYTES = 2**25  # the largest baseline that is read, which has about 300,000 rows
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # the characters that begin a formula in a spreadsheet
N = re.compile(r"\d{1,12}", re.ASCII)
STATUSES = re.compile(r"(\w{1,100}:\d{1,12}( \w{1,100}:\d{1,12}){0,50})?", re.ASCII)
PLACE = ["model", "layer", "data"]  # the columns that identify a network's accuracy


@dataclass(frozen=True)
class Baseline:
    """The values that later runs are compared with."""

    configuration: dict[str, str]  # two runs can be compared only if it is the same
    rows: pd.DataFrame  # the columns COLUMNS, sorted, with numbers of 6 digits
    versions: str = ""  # the versions of the run's libraries
    history: tuple[str, ...] = ()  # the lines of `_history_line`, the oldest first

    @classmethod
    def of(cls, run: RunFolder) -> Baseline:
        """Return the baseline of a run.

        Raises:
            BenchError: if the run has no records, if a metric has no tolerance, or if a method or
                metric doesn't return the same values again.
        """
        for name, why in run.metadata.unstable().items():
            raise BenchError(
                f"{name!r} {why}. A gate compares values that can be reproduced: leave it out, "
                "or fix it."
            )
        rows = pd.concat([_rows(run), accuracies(run)], ignore_index=True)
        for statistic in ("mean", "median"):
            rows[statistic] = [float(f"{value:.{DIGITS}g}") for value in rows[statistic]]
        rows = rows.sort_values(list(KEY), ignore_index=True)[list(COLUMNS)]
        installed = run.manifest.versions
        versions = ", ".join(
            f"{name} {installed[name]}" for name in LIBRARIES if installed.get(name)
        )
        return cls(_configuration(run), rows, versions)

    @classmethod
    def read(cls, file: Path) -> Baseline:
        """Read a baseline.

        Raises:
            BenchError: if the file is missing, isn't a text of at most MAX_BYTES, or if `write`
                wouldn't have written it.
        """
        lines = _text(file).splitlines(keepends=True)
        rows = _parsed_rows("".join(line for line in lines if not line.startswith("#")), file)
        configuration = {}
        history = []
        for line in lines:
            if not line.startswith("#"):
                continue
            name, _, value = line[1:].strip().partition(": ")
            if name == HISTORY:
                history.append(value)
            else:
                configuration[name] = value
        versions = configuration.pop(WRITTEN_WITH, "")
        return cls(configuration, rows, versions, tuple(history))

    def write(self, file: Path) -> None:
        """Write the baseline into a file.

        Raises:
            BenchError: if the file can't be written, or if a name can't be in it.
        """
        self.check_names()
        header = [*self.configuration.items()]
        if self.versions:
            header.append((WRITTEN_WITH, self.versions))
        header.extend((HISTORY, line) for line in self.history)
        lines = [f"# {name}: {value}\n" if value else f"# {name}\n" for name, value in header]
        rows = self.rows.to_csv(index=False, float_format=f"%.{DIGITS}g", lineterminator="\n")
        files.write(file, f"{''.join(lines)}{rows}".encode())

    def check_names(self) -> None:
        """Check that every name can be in a baseline, see `check_name`.

        Raises:
            BenchError: if a name can't.
        """
        for column in KEY:
            for name in self.rows[column].unique():
                check_name(column, str(name))


def write_baseline(run_folder: Path, file: Path, reason: str | None = None) -> Path:
    """Write a run's baseline.

    Args:
        run_folder: The folder of the run.
        file: The file of the baseline, which may exist.
        reason: The reason for the baseline. It is kept in the header, below the reasons of the
            baseline that is replaced.

    Returns:
        The file.

    Raises:
        BenchError: if the run can't be read or has no baseline (see `Baseline.of`), or if the file
            can't be written or a name can't be in it.
    """
    file = Path(file)
    run = RunFolder.read(Path(run_folder))
    history: tuple[str, ...] = ()
    with suppress(BenchError):  # if the old baseline is missing or damaged, it has no history
        history = Baseline.read(file).history
    baseline = Baseline.of(run)
    if reason is not None:
        history = (*history, _history_line(reason, file))
    replace(baseline, history=history).write(file)
    return file


def find_baseline(baseline: Path) -> Path:
    """Return the file of a baseline.

    Args:
        baseline: A path, or the bare name of a baseline that comes with the package, such as
            `quick`.

    Raises:
        BenchError: if a bare name is neither that of a file nor that of a packaged baseline; the
            nearest names are listed.
    """
    if baseline.exists() or baseline.suffix or len(baseline.parts) > 1:
        return baseline
    folder = resources.files("axiom_bench") / "baselines"
    names = [Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".csv")]
    if baseline.name not in names:
        raise unknown_name("baseline", baseline.name, names)
    return Path(str(folder / f"{baseline.name}.csv"))


def _rows(run: RunFolder) -> pd.DataFrame:
    """Return the rows of a run's metrics."""
    running.check_ended(run.path, run.manifest)
    if run.records.empty:
        raise BenchError(f"{run.path} has no records; run the same command again.")
    table = summarise(run.records, image_value_of=run.image_value_of)
    # Without another name, a metric's value of the whole data set would be a second row with one
    # key.
    table["metric"] = table["metric"].mask(table["whole_set"], table["metric"] + WHOLE_SET)
    tolerances = {name: run.metadata.value(name).tolerance for name in run.metrics}
    for name, rule in tolerances.items():
        tolerance(rule, name)
    table["tolerance"] = table["metric"].str.removesuffix(WHOLE_SET).map(tolerances)
    return table[list(COLUMNS)]


def _configuration(run: RunFolder) -> dict[str, str]:
    """Return the settings and images of a run that a baseline's values depend on.

    Runs with another configuration can't be compared with the baseline.
    """
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
    """Return a line with the date, the commit of the baseline's folder, and the reason.

    The lines show a reviewer why the expected values changed, and when.
    """
    words = "".join(letter if letter.isprintable() else " " for letter in reason).split()
    commit = ""
    if shutil.which("git") is not None:
        command = ["git", "-C", str(baseline.absolute().parent), "rev-parse", "--short=12", "HEAD"]
        process = subprocess.run(command, capture_output=True, text=True, check=False)
        if process.returncode == 0:
            commit = f" at commit {process.stdout.strip()}"
    return f"{datetime.now(UTC):%Y-%m-%d}{commit}: {' '.join(words)[:MAX_REASON]}"


def check_name(column: str, name: str) -> None:
    """Check that a name can be in a baseline.

    Raises:
        BenchError: if the name begins a formula in a spreadsheet, doesn't fit into one line, or is
            longer than MAX_NAME characters.
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
    """Return the text of a baseline's file."""
    try:
        if file.exists() and not file.is_file():  # reading a pipe would wait forever
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
    """Return the table in a baseline's text without its header."""
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


def _parsed_row(row: dict[str, str]) -> dict[str, object]:
    """Return a row with its numbers, or raise if `write` wouldn't have written it."""
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


def accuracies(run: RunFolder) -> pd.DataFrame:
    """Return the accuracy of each model and layer on each data set, with a baseline's columns.

    Only images whose classes are known count. The accuracy has rows of its own, because no metric's
    value changes if a predicted class does, but the correct rows of a report do. With
    target=predicted it is 1: the predicted class is the explained one.
    """
    columns = [*PLACE, "image_id", "target_class", "predicted_class"]
    explained = run.records.image_keys[columns].drop_duplicates()
    target = explained["target_class"]
    predicted = explained["predicted_class"]
    is_known = (target > UNKNOWN_CLASS) & (predicted > UNKNOWN_CLASS)
    explained = explained.assign(correct=target == predicted)[is_known]
    # An image is correct if one of its explained classes is the predicted one.
    by_image = explained.groupby([*PLACE, "image_id"], observed=True)["correct"]
    images = by_image.any().astype(float).reset_index()
    by_place = images.groupby(PLACE, observed=True)["correct"]
    table = by_place.agg(n="count", mean="mean", median="median").reset_index()
    return table.astype(dict.fromkeys(PLACE, str)).assign(
        method=LAYER, metric=ACCURACY, statuses="", tolerance="mean:0.005"
    )
