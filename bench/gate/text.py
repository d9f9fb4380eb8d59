"""The text of a baseline: a header of lines that start with `#`, then CSV. It may come from a stranger: it is data.

Nothing of it is executed, and what a baseline can't hold is refused in one sentence, with the row.
"""

from __future__ import annotations

import csv
import io
import math
import re
from pathlib import Path
from typing import Any

import pandas as pd

from axiom_bench.columns import LAYER
from axiom_bench.errors import BenchError
from axiom_bench.gate.findings import KEY, MAX_NAME
from axiom_bench.gate.limits import tolerance

COLUMNS = (*KEY, "n", "mean", "median", "statuses", "tolerance")
DIGITS = 6
HISTORY = "history"  # a header's key that may occur several times
MAX_BYTES = 2**25  # of a baseline: some 300,000 rows
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what begins a formula in a spreadsheet
STATUSES = re.compile(r"(\w{1,100}:\d{1,12}( \w{1,100}:\d{1,12}){0,50})?", re.ASCII)

Header = list[tuple[str, str]]


def read(file: Path) -> tuple[Header, pd.DataFrame]:
    """The header's names and values in order, and the rows in COLUMNS.

    Raises BenchError for a file that is missing, isn't a text of MAX_BYTES at most, or that `render` wouldn't have
    made.
    """
    lines = _text(file).splitlines(keepends=True)
    header = [line[1:].strip().partition(": ") for line in lines if line.startswith("#")]
    rows = _rows("".join(line for line in lines if not line.startswith("#")), file)
    return [(name, value) for name, _, value in header], rows


def render(header: Header, rows: pd.DataFrame) -> str:
    """Raises BenchError for a name that can't be in a baseline, see `check_name`."""
    for row in rows[list(KEY)].to_dict("records"):
        for column in KEY:
            check_name(column, str(row[column]))
    lines = "".join(f"# {name}: {value}\n" if value else f"# {name}\n" for name, value in header)
    return lines + rows.to_csv(index=False, float_format=f"%.{DIGITS}g", lineterminator="\n")


def check_name(column: str, name: str) -> None:
    """Raises BenchError for a name that begins a formula in a spreadsheet, doesn't fit into one line, or is longer than
    MAX_NAME characters."""
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise BenchError(f"the {column} {name[:40]!r} is empty, longer than {MAX_NAME} characters or not printable")
    if name.startswith(FORMULA) and name != LAYER:
        raise BenchError(f"the {column} {name[:40]!r} begins a formula in a spreadsheet; give it another name")


def _text(file: Path) -> str:
    try:
        if file.exists() and not file.is_file():  # reading a pipe would wait without end
            raise BenchError(f"the baseline {file} is no file.")
        if file.stat().st_size > MAX_BYTES:
            raise BenchError(f"the baseline {file} is larger than {MAX_BYTES // 2**20} MiB; restore it from git.")
        return file.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise BenchError(f"there is no baseline {file}; write it from a run with --write.") from error
    except (OSError, ValueError) as error:
        raise BenchError(f"the baseline {file} can't be read ({error}).") from error


def _rows(text: str, file: Path) -> pd.DataFrame:
    rows = csv.DictReader(io.StringIO(text), strict=True)
    try:
        if list(rows.fieldnames or ()) != list(COLUMNS):
            raise ValueError(f"its columns aren't {','.join(COLUMNS)}")
        parsed = [_row(row) for row in rows]
    except (ValueError, TypeError, KeyError, BenchError, csv.Error) as error:
        reason = str(error).rstrip(".")[:300]
        raise BenchError(
            f"the baseline {file} is damaged at row {rows.line_num} ({reason}); restore it from git."
        ) from (error)
    table = pd.DataFrame(parsed, columns=list(COLUMNS))
    if table.empty or table.duplicated(list(KEY)).any():
        raise BenchError(f"the baseline {file} is damaged (no rows, or a row twice); restore it from git.")
    return table


def _row(row: dict[str, Any]) -> dict[str, Any]:
    if None in row.values() or None in row:
        raise ValueError("a field is missing or one too many")
    for column in KEY:
        check_name(column, row[column])
    numbers = {name: float(row[name] or "nan") for name in ("mean", "median")}
    if any(math.isinf(value) for value in numbers.values()):
        raise ValueError("a mean or median is infinite")
    if not row["n"].isdecimal() or len(row["n"]) > 12:
        raise ValueError(f"n is {row['n'][:40]!r}")
    if not STATUSES.fullmatch(row["statuses"]):
        raise ValueError(f"statuses are {row['statuses'][:40]!r}")
    tolerance(row["tolerance"], row["metric"])
    return {**row, **numbers, "n": int(row["n"])}
