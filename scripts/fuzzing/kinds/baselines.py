"""Baselines: the packaged one, damaged as bytes or cell by cell."""

from __future__ import annotations

import csv
import io
from importlib import resources
from random import Random

from axiom_bench.gate.baseline import Baseline

from ..case import Case, Kind
from ..damage import damaged

CELLS = ("", "nan", "inf", "-1e400", "mean:-1", "mean:nan", "median:", "=1+1", "\x00", '"', "\ud7ff", "a" * 100_000)


def attempt(case: Case) -> None:
    packaged = (resources.files("axiom_bench") / "baselines" / "quick.csv").read_bytes()
    if case.random.random() < 0.5:
        what, content = damaged(packaged, case.random)
        case.say(what)
    else:
        content = _cells_changed(packaged.decode(), case)
    file = case.folder / "baseline.csv"
    file.write_bytes(content)
    baseline = Baseline.read(file)
    copy = case.folder / "copy.csv"
    baseline.write(copy)
    again = Baseline.read(copy)
    assert again.rows.equals(baseline.rows), "what was read and written reads otherwise"


def _cells_changed(text: str, case: Case) -> bytes:
    rows = list(csv.reader(io.StringIO(text)))
    for _ in range(case.random.randint(1, 3)):
        row = case.random.choice(rows)
        column = case.random.randrange(len(row))
        row[column] = _cell(row[column], case.random)
        case.say(f"a cell became {row[column][:40]!r}")
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue().encode("utf-8", "surrogatepass")


def _cell(cell: str, random: Random) -> str:
    return random.choice([*CELLS, cell * 2, cell[::-1], cell.upper()])


KIND = Kind(attempt, share=40)
