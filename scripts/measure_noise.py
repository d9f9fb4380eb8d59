"""Measure how far numbers move where nothing changed but the machine: threads, batch size, instruction set; or one ulp.

python scripts/measure_noise.py                                   # the default run, every variation
python scripts/measure_noise.py metric=all data.size=16           # other settings of the run
python scripts/measure_noise.py --python other/bin/python         # also another environment, as another torch
python scripts/measure_noise.py --only "batches of" --only oldest # some variations
python scripts/measure_noise.py --values data.size=8              # single values, instead of the gate's numbers
python scripts/measure_noise.py --metrics metric=all data.size=8  # of each metric, by what was changed

A table: of each metric the largest movement of the statistic that its tolerance watches, over all rows of a baseline
and all variations, and how many of these movements fit into the tolerance. --values: of each variation how many values
are the same bit by bit, the largest movement as a share of its metric's range over all rows, and how many values moved
by more than 1e-5 of it (docs/reliability.md, "Determinism"). --metrics: how far single values of each metric move under
each kind of variation, of methods that draw numbers and of the others (docs/studies/noise.md). Finished runs are kept
in --folder.
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

from axiom_bench import methods
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
MOVED = """
from axiom_bench.cutting.trace import CutModel, Trace
def moved(images):
    images = images.clone()
    pixel = images[:, 0, images.shape[2] // 2, images.shape[3] // 2]
    pixel.copy_(pixel.nextafter(pixel + 1))
    return images
"""
OF_IMAGES = (
    MOVED
    + """
first = CutModel.trace
CutModel.trace = lambda self, images, *others: first(self, moved(images), *others)
"""
)
OF_COPIES = (
    MOVED
    + """
again = Trace.again
def again_moved(self, images=None, targets=None, model=None):
    return again(self, None if images is None else moved(images), targets, model)
Trace.again = again_moved
"""
)
OLD = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"}
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2"}
LEVELS = [(name, levels[name]) for name in OLD for levels in (AVX2, OLD)]


@dataclass(frozen=True)
class Variation:
    """A run where nothing changed but the machine, as its environment and settings imitate it, or one ulp.

    kind: what is changed, as a column of --metrics; "" for one that isn't shown there. code: runs before the job.
    """

    name: str
    environment: Mapping[str, str] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    python: str = sys.executable
    kind: str = ""
    code: str = ""


BATCHES, THREADS, ISA = "another batch size", "another number of threads", "another instruction set"
VARIATIONS = (
    Variation("1 thread, batches of 32"),  # the reference
    Variation("the same again"),
    Variation("one ulp of one pixel of each image", kind="one ulp of each image", code=OF_IMAGES),
    Variation("one ulp of one pixel of each copy", kind="one ulp of each copy explained again", code=OF_COPIES),
    Variation("2 threads", {"OMP_NUM_THREADS": "2"}, kind=THREADS),
    *(Variation(f"batches of {size}", overrides=(f"data.batch_size={size}",), kind=BATCHES) for size in (1, 5, 64, 2)),
    Variation("batches of 7, 2 threads", {"OMP_NUM_THREADS": "2"}, ("data.batch_size=7",)),
    Variation("batches of 16", overrides=("data.batch_size=16",), kind=BATCHES),
    Variation("3 threads", {"OMP_NUM_THREADS": "3"}, kind=THREADS),
    Variation("1 worker, shards of 5", overrides=("data.workers=1", "shard_size=5")),
    Variation("3 workers, batches of 3", overrides=("data.workers=3", "data.batch_size=3"), kind=BATCHES),
    Variation("2 workers, shards of 16", overrides=("data.workers=2", "shard_size=16")),
    Variation("ablation_memory=1MiB", overrides=("device.ablation_memory=1MiB",)),
    *(Variation(f"{name}={level}", {name: level}, kind=ISA) for name, level in LEVELS),
    Variation("all three oldest", OLD, kind=ISA),
    Variation("all three oldest, 2 threads, batches of 5", {**OLD, "OMP_NUM_THREADS": "2"}, ("data.batch_size=5",)),
)
KINDS = {variation.name: variation.kind for variation in VARIATIONS if variation.kind}


def run(variation: Variation, overrides: Sequence[str], folder: Path) -> Path:
    """The run folder of a variation; computed where its command hasn't ended there."""
    name = "".join(letter if letter.isalnum() else "_" for letter in variation.name)
    done = folder / f"{name}.path"
    if not done.is_file():
        # A folder for each: a value doesn't count the number of threads among what decides it.
        settings = [*QUIET, *overrides, *variation.overrides, f"results={folder / 'runs'}", f"run={name}"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PACKAGE), **variation.environment}
        command = [variation.python, "-c", variation.code + RUN, *settings]
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
    for name, other in others.items():
        if not reference["status"].astype(str).equals(other["status"].astype(str)):  # of the index, too
            raise SystemExit(f"{name}: not the same rows and statuses")
        moved = shares(reference, other).dropna().sort_values()
        worst, metric = moved.iloc[-1], moved.index[-1][VALUE.index("metric")]
        same, over = f"{(moved == 0).sum():,}", f"{(moved > PROMISED).sum()}"
        rows.append((name, f"{len(moved):,}", same, f"{worst:.1e}", f"`{metric}`" if worst else "", over))
    return markdown(rows, "|:---|---:|---:|---:|:---|---:|")


def shares(reference: pd.DataFrame, other: pd.DataFrame) -> pd.Series:
    """How far each value moved, as a share of its metric's range over all rows of the reference; infinite where the
    status is another."""
    ranges = reference["value"].groupby("metric").transform(lambda values: np.ptp(values.dropna()) or 1.0)
    both = reference.join(other.add_suffix("_other"), how="outer")
    apart = both["status"].astype(str) != both["status_other"].astype(str)
    return ((both["value_other"] - both["value"]).abs() / ranges).mask(apart, math.inf)


def metric_table(reference: pd.DataFrame, others: Mapping[str, pd.DataFrame]) -> str:
    """Markdown, twice: of each metric the largest movement of a value under each kind of variation, as a share of the
    metric's range; of the methods without draws, and of those that draw."""
    columns: dict[str, pd.Series] = {}
    for name, other in others.items():
        if kind := KINDS.get(name):
            moved = shares(reference, other)
            columns[kind] = pd.concat([moved, columns.get(kind, moved)], axis=1).max(axis=1)
    table = pd.DataFrame(columns)
    drawing = {name for name in methods.names() if "seed" in methods.get(name).params}
    is_drawing = table.index.get_level_values("method").isin(drawing)
    return "\n\n".join(
        f"{title}:\n\n{_by_metric(table[rows])}"
        for title, rows in (("Methods that draw nothing", ~is_drawing), ("Methods that draw", is_drawing))
    )


def _by_metric(table: pd.DataFrame) -> str:
    """The metrics that moved; below the table the names of those that didn't."""
    largest = table.groupby("metric").max().dropna(how="all")
    is_still = (largest == 0).all(axis=1)
    rows = [("metric", *largest.columns)]
    rows += [(f"`{metric}`", *map(_share, values)) for metric, *values in largest[~is_still].itertuples()]
    still = ", ".join(f"`{metric}`" for metric in largest.index[is_still]) or "none"
    return f"{markdown(rows, '|:---' + '|---:' * len(largest.columns) + '|')}\n\nNot moved: {still}."


def _share(share: float) -> str:
    return "another status" if share == math.inf else f"{share:.0e}" if share else "0"


def _versions(python: str) -> str:
    """What another environment's interpreter has, as "torch 2.6.0"."""
    command = [python, "-c", "import torch; print('torch', torch.__version__)"]
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout.strip()


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the variations, prints their tables."""
    parser = argparse.ArgumentParser(description="Measure how far numbers move with the machine.")
    parser.add_argument("--values", action="store_true", help="single values, instead of the gate's numbers")
    parser.add_argument("--metrics", action="store_true", help="single values of each metric, by what was changed")
    parser.add_argument("--folder", type=Path, help="of the runs; default: a temporary one, deleted at the end")
    parser.add_argument("--only", action="append", metavar="TEXT", help="variations whose name has this text")
    parser.add_argument("--python", action="append", default=[], metavar="FILE", help="of another environment")
    options, overrides = parser.parse_known_args(argv)
    chosen = [entry for entry in VARIATIONS[1:] if not options.only or any(text in entry.name for text in options.only)]
    if options.metrics:
        chosen = [entry for entry in chosen if entry.kind]
    variations = [VARIATIONS[0], *chosen, *(Variation(_versions(python), python=python) for python in options.python)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.folder or temporary).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        tables = {}
        for variation in variations:
            finished = run(variation, overrides, folder)
            tables[variation.name] = values_of(finished) if options.values or options.metrics else baseline_of(finished)
            print(f"done: {variation.name}", file=sys.stderr, flush=True)
    reference = tables.pop(VARIATIONS[0].name)
    shown = [metric_table] if options.metrics else [value_table] if options.values else [table, by_variation]
    print("\n\n".join(show(reference, tables) for show in shown))
    return 0


if __name__ == "__main__":
    sys.exit(main())
