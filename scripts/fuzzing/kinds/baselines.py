"""Baselines: the packaged one, damaged as bytes or cell by cell, and the gate with a damaged baseline of a made run."""

from __future__ import annotations

import csv
import io
import tempfile
from functools import cache
from importlib import resources
from pathlib import Path
from random import Random

from axiom_bench.gate import gate
from axiom_bench.gate.baseline import Baseline
from axiom_bench.gate.text import COLUMNS
from axiom_bench.statistics.run_folder import RunFolder

from .. import made_run
from ..case import Case, Kind
from ..damage import damaged

ODD = ("", "nan", "inf", "-1e400", "mean:-1", "mean:nan", "median:", "=1+1", "\x00", '"', "\ud7ff", "a" * 100_000)
GOOD = {  # cells that another run may have
    "n": ("0", "1", "64", "999999999999"),
    "mean": ("", "0", "-1.5", "1e-30", "3e300", "0.123456789"),
    "median": ("", "0", "-1.5", "1e-30", "3e300", "0.123456789"),
    "statuses": ("", "ok:5", "ok:3 zero_map:2", "bad_image:5"),
    "tolerance": ("median:0.5%", "mean:0.01", "mean:1% median:1e-3", "median:0"),
}
GOOD_NAMES = ("other", "caf\xe9", "a b", "net (2)", "'quoted'", "a,b", 'a"b', "*", "-")


def attempt(case: Case) -> None:
    if case.random.random() < 0.1:
        _gate(case)
        return
    packaged = (resources.files("axiom_bench") / "baselines" / "quick.csv").read_bytes()
    file = case.folder / "baseline.csv"
    file.write_bytes(_other(packaged, case))
    baseline = Baseline.read(file)
    copy = case.folder / "copy.csv"
    baseline.write(copy)
    again = Baseline.read(copy)
    assert len(again.rows) == len(baseline.rows), "what was read and written has other rows"
    copy_of_copy = case.folder / "again.csv"
    again.write(copy_of_copy)
    assert copy_of_copy.read_bytes() == copy.read_bytes(), "what was read and written reads otherwise"


def _gate(case: Case) -> None:
    """It ends with an exit code, whatever the baseline is; and undamaged it holds."""
    made_run.write(case.folder / "run")
    file = case.folder / "baseline.csv"
    intact = case.random.random() < 0.1
    file.write_bytes(_of_made_run() if intact else _other(_of_made_run(), case))
    result = gate(case.folder / "run", file)
    assert result.exit_code in (0, 1, 2), result.exit_code
    assert result.lines, "no word of why"
    assert result.exit_code == 0 or not intact, result.lines


@cache
def _of_made_run() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        made_run.write(Path(name))
        Baseline.of(RunFolder.read(Path(name))).write(Path(name) / "baseline.csv")
        return (Path(name) / "baseline.csv").read_bytes()


def _other(content: bytes, case: Case) -> bytes:
    """Damaged as bytes, or with other cells."""
    choice = case.random.random()
    if choice < 0.2:
        what, other = damaged(content, case.random)
        case.say(what)
        return other
    return _cells_changed(content.decode(), case, odd=choice < 0.45)


def _cells_changed(text: str, case: Case, odd: bool) -> bytes:
    """Cells of rows; odd: also those of the header, and what no run writes."""
    lines = text.splitlines(keepends=True)
    first = sum(line.startswith("#") for line in lines)
    rows = list(csv.reader(io.StringIO("".join(lines[first:]))))
    for _ in range(case.random.randint(1, 3)):
        row = case.random.choice(rows if odd else rows[1:])
        column = case.random.randrange(len(row))
        row[column] = _odd(row[column], case.random) if odd else _good(COLUMNS[column], case.random)
        case.say(f"a cell became {row[column][:40]!r}")
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return "".join([*lines[:first], file.getvalue()]).encode("utf-8", "surrogatepass")


def _odd(cell: str, random: Random) -> str:
    return random.choice([*ODD, cell * 2, cell[::-1], cell.upper()])


def _good(column: str, random: Random) -> str:
    return random.choice(GOOD.get(column, GOOD_NAMES))


KIND = Kind(attempt, share=30)
