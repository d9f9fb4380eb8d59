"""Measure how far numbers move where nothing changed but the machine: threads, batch size, instruction set.

python scripts/measure_noise.py                                   # the default run, every variation
python scripts/measure_noise.py metric=all data.size=16           # other settings of the run
python scripts/measure_noise.py --python other/bin/python         # also another environment, as another torch
python scripts/measure_noise.py --only "batches of" --only oldest # some variations
python scripts/measure_noise.py --values data.size=8              # single values, instead of the gate's numbers

A table: of each metric the largest movement of the statistic that its tolerance watches, over all rows of a baseline
and all variations, and how many of these movements fit into the tolerance. --values: of each variation how many values
are the same bit by bit, the largest movement as a share of its metric's range over all rows, and how many values moved
by more than 1e-5 of it (docs/reliability.md, "Determinism"). Finished runs are kept in --folder.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from measuring import markdown

from axiom_bench.gate.baseline import KEY, baseline_of
from axiom_bench.gate.findings import Limit, tolerance
from axiom_bench.records.reading import read_manifest, read_records

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "build" / "editable"
PROMISED = 1e-5  # of a metric's range, in float32
VALUE = ["model", "layer", "image_id", "target_class", "method", "metric"]
QUIET = ("runtime.repeats=0", "pictures.rows=0", "pictures.gallery=0")
RUN = """
import sys
from axiom_bench.cli.benchmark import compute
sys.exit(compute(sys.argv[1:])[0])
"""
OLD = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"}


@dataclass(frozen=True)
class Variation:
    """A run where nothing changed but the machine, as its environment and settings imitate it."""

    name: str
    environment: Mapping[str, str] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    python: str = sys.executable


VARIATIONS = (
    Variation("1 thread, batches of 32"),  # the reference
    Variation("the same again"),
    Variation("2 threads", {"OMP_NUM_THREADS": "2"}),
    *(Variation(f"batches of {size}", overrides=(f"data.batch_size={size}",)) for size in (1, 5, 64, 2)),
    Variation("batches of 7, 2 threads", {"OMP_NUM_THREADS": "2"}, ("data.batch_size=7",)),
    Variation("batches of 16", overrides=("data.batch_size=16",)),
    Variation("3 threads", {"OMP_NUM_THREADS": "3"}),
    Variation("1 worker, shards of 5", overrides=("data.workers=1", "shard_size=5")),
    Variation("3 workers, batches of 3", overrides=("data.workers=3", "data.batch_size=3")),
    Variation("2 workers, shards of 16", overrides=("data.workers=2", "shard_size=16")),
    Variation("ablation_memory=1MiB", overrides=("device.ablation_memory=1MiB",)),
    *(Variation(f"ATEN_CPU_CAPABILITY={level}", {"ATEN_CPU_CAPABILITY": level}) for level in ("avx2", "default")),
    *(Variation(f"ONEDNN_MAX_CPU_ISA={level}", {"ONEDNN_MAX_CPU_ISA": level}) for level in ("AVX2", "SSE41")),
    *(Variation(f"MKL_CBWR={level}", {"MKL_CBWR": level}) for level in ("AVX2", "COMPATIBLE")),
    Variation("all three oldest, 2 threads, batches of 5", {**OLD, "OMP_NUM_THREADS": "2"}, ("data.batch_size=5",)),
)


def run(variation: Variation, overrides: Sequence[str], folder: Path) -> Path:
    """The run folder of a variation; computed where its command hasn't ended there."""
    name = "".join(letter if letter.isalnum() else "_" for letter in variation.name)
    done = folder / f"{name}.path"
    if not done.is_file():
        # A folder for each: a value doesn't count the number of threads among what decides it.
        settings = [*QUIET, *overrides, *variation.overrides, f"results={folder / 'runs'}", f"run={name}"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PACKAGE), **variation.environment}
        command = [variation.python, "-c", RUN, *settings]
        process = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if process.returncode:
            raise SystemExit(f"{variation.name} failed:\n{process.stdout[-3000:]}")
        (manifest,) = (folder / "runs").glob(f"*/{name}/manifest.json")
        done.write_text(str(manifest.parent))
    return Path(done.read_text())


def moved(reference: pd.DataFrame, other: pd.DataFrame) -> Iterator[tuple[str, Limit, float, float]]:
    """(metric, limit, movement, movement over what the limit allows) of each row and limit of two baselines. Raises
    SystemExit where the rows, their n or their statuses aren't the same: that is no noise."""
    keys = list(KEY)
    both = reference.merge(other, on=keys, how="outer", suffixes=("", "_other"), indicator=True)
    different = both[(both["_merge"] != "both") | (both["statuses"] != both["statuses_other"])]
    if len(different):
        raise SystemExit(f"not the same rows and statuses:\n{different[[*keys, 'statuses', 'statuses_other']]}")
    for row in both.to_dict("records"):
        for limit in tolerance(str(row["tolerance"]), str(row["metric"])):
            before, after = float(row[limit.statistic]), float(row[f"{limit.statistic}_other"])
            if math.isfinite(before) and math.isfinite(after):
                yield str(row["metric"]), limit, abs(after - before), abs(after - before) / limit.allowed(before)


def table(reference: pd.DataFrame, others: Mapping[str, pd.DataFrame]) -> str:
    """Markdown: of each metric the largest movement, the movement nearest to its tolerance, and where that was."""
    movements = pd.DataFrame(
        [(name, *entry) for name, other in others.items() for entry in moved(reference, other)],
        columns=["variation", "metric", "limit", "movement", "share"],
    )
    rows = [("metric", "tolerance", "largest movement", "of what the tolerance allows", "in")]
    for metric, of_metric in movements.groupby("metric"):
        worst = of_metric.sort_values("share").to_dict("records")[-1]
        limit, share = worst["limit"], f"{100 * worst['share']:.2g} %"
        where, rule = worst["variation"] if worst["share"] else "", f"{limit.statistic} {limit}"
        rows.append((str(metric), rule, f"{of_metric['movement'].max():.2g}", share, where))
    return markdown(rows, "|:---|---:|---:|---:|:---|")


def by_variation(reference: pd.DataFrame, others: Mapping[str, pd.DataFrame]) -> str:
    """Markdown: of each variation the movement that is nearest to its tolerance."""
    rows = [("variation", "nearest to its tolerance", "of what it allows")]
    for name, other in others.items():
        metric, _, _, share = max(moved(reference, other), key=lambda entry: entry[-1])
        rows.append((name, metric if share else "nothing moved", f"{100 * share:.2g} %"))
    return markdown(rows, "|:---|:---|---:|")


def values_of(folder: Path) -> pd.DataFrame:
    """Value and status of every row of a run."""
    records = read_records(folder, read_manifest(folder))
    return records.astype(dict.fromkeys(VALUE, str)).set_index(VALUE)[["value", "status"]].sort_index()


def value_table(reference: pd.DataFrame, others: Mapping[str, pd.DataFrame]) -> str:
    """Markdown: of each variation how far single values moved. Raises SystemExit as `moved` does."""
    largest = "largest movement, of its metric's range"
    rows = [("variation", "values", "the same bits", largest, "metric", "over 1e-5")]
    ranges = reference["value"].groupby("metric").transform(lambda values: np.ptp(values.dropna()) or 1.0)
    for name, other in others.items():
        if not reference["status"].astype(str).equals(other["status"].astype(str)):  # of the index, too
            raise SystemExit(f"{name}: not the same rows and statuses")
        shares = ((other["value"] - reference["value"]).abs() / ranges).dropna().sort_values()
        worst, metric = shares.iloc[-1], shares.index[-1][VALUE.index("metric")]
        same, over = f"{(shares == 0).sum():,}", f"{(shares > PROMISED).sum()}"
        rows.append((name, f"{len(shares):,}", same, f"{worst:.1e}", f"`{metric}`" if worst else "", over))
    return markdown(rows, "|:---|---:|---:|---:|:---|---:|")


def _versions(python: str) -> str:
    """What another environment's interpreter has, as "torch 2.6.0"."""
    command = [python, "-c", "import torch; print('torch', torch.__version__)"]
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout.strip()


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the variations, prints their tables."""
    parser = argparse.ArgumentParser(description="Measure how far numbers move with the machine.")
    parser.add_argument("--values", action="store_true", help="single values, instead of the gate's numbers")
    parser.add_argument("--folder", type=Path, help="of the runs; default: a temporary one, deleted at the end")
    parser.add_argument("--only", action="append", metavar="TEXT", help="variations whose name has this text")
    parser.add_argument("--python", action="append", default=[], metavar="FILE", help="of another environment")
    options, overrides = parser.parse_known_args(argv)
    chosen = [entry for entry in VARIATIONS[1:] if not options.only or any(text in entry.name for text in options.only)]
    variations = [VARIATIONS[0], *chosen, *(Variation(_versions(python), python=python) for python in options.python)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.folder or temporary).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        tables = {}
        for variation in variations:
            finished = run(variation, overrides, folder)
            tables[variation.name] = values_of(finished) if options.values else baseline_of(finished)
            print(f"done: {variation.name}", file=sys.stderr, flush=True)
    reference = tables.pop(VARIATIONS[0].name)
    shown = [value_table] if options.values else [table, by_variation]
    print("\n\n".join(show(reference, tables) for show in shown))
    return 0


if __name__ == "__main__":
    sys.exit(main())
