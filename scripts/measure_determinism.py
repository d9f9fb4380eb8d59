"""Measure how far single values move where nothing changed that decides them: docs/reliability.md, "Determinism".

python scripts/measure_determinism.py data.size=8
python scripts/measure_determinism.py metric=[deletion_auc] method=[grad_cam,xgrad_cam] model=scenes_vgg --only "of 1"

The variations are those of measure_gate_noise.py. A table: of each how many values are the same bit by bit, the largest
movement as a share of its metric's range over all rows, and how many values moved by more than 1e-5 of it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from measure_gate_noise import VARIATIONS, run

from axiom_bench.records.reading import read_manifest, read_records

KEY = ["model", "layer", "image_id", "target_class", "method", "metric"]
PROMISED = 1e-5  # of a metric's range, in float32


def values_of(folder: Path) -> pd.DataFrame:
    """Value and status of every row of a run."""
    table = read_records(folder, read_manifest(folder))
    return table.astype(dict.fromkeys(KEY, str)).set_index(KEY)[["value", "status"]].sort_index()


def line(name: str, reference: pd.DataFrame, other: pd.DataFrame) -> str:
    """A row of the table. Raises SystemExit where rows or statuses aren't the same."""
    if (
        not reference.index.equals(other.index)
        or (reference["status"].astype(str) != other["status"].astype(str)).any()
    ):
        raise SystemExit(f"{name}: not the same rows and statuses")
    ranges = reference["value"].groupby("metric").transform(lambda values: np.ptp(values.dropna()) or 1.0)
    moved = ((other["value"] - reference["value"]).abs() / ranges).dropna().reset_index()
    moved.columns = [*KEY, "share"]
    worst = moved.sort_values("share").to_dict("records")[-1]
    where = f"`{worst['metric']}`" if worst["share"] else ""
    same, over = (moved["share"] == 0).sum(), (moved["share"] > PROMISED).sum()
    return f"| {name} | {len(moved):,} | {same:,} | {worst['share']:.1e} | {where} | {over} |"


def table(reference: pd.DataFrame, others: Mapping[str, pd.DataFrame]) -> str:
    """Markdown."""
    lines = [
        "| variation | values | the same bits | largest movement, of its metric's range | metric | over 1e-5 |",
        "|:---|---:|---:|---:|:---|---:|",
    ]
    return "\n".join([*lines, *(line(name, reference, other) for name, other in others.items())])


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the variations, prints the table."""
    parser = argparse.ArgumentParser(description="Measure how far single values move with machine and batch size.")
    parser.add_argument("--folder", type=Path, help="of the runs; default: a temporary one, deleted at the end")
    parser.add_argument("--only", action="append", metavar="TEXT", help="variations whose name has this text")
    options, overrides = parser.parse_known_args(argv)
    chosen = [entry for entry in VARIATIONS[1:] if not options.only or any(text in entry.name for text in options.only)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.folder or temporary).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        tables = {entry.name: values_of(run(entry, overrides, folder)) for entry in [VARIATIONS[0], *chosen]}
    reference = tables.pop(VARIATIONS[0].name)
    print(table(reference, tables))
    return 0


if __name__ == "__main__":
    sys.exit(main())
