"""Write docs/data/scorecard.csv: each metric of conf/metric that has a direction, judged in the
runs of scorecard.yaml.

python scripts/write_scorecard.py [RUN ...] [--metrics NAME ...]

RUN: of scorecard.yaml; default: all. --metrics: these alone, of conf/metric. What a run has
computed is kept in results/, and a second call computes what is missing. The rows of other runs and
metrics stay as they are: each row says its run, commit and date.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pandas as pd
import yaml

from axiom_bench.cli.benchmark import compute
from axiom_bench.errors import BenchError, unknown
from axiom_bench.evaluation import plugins
from axiom_bench.judging.card import card, frame
from axiom_bench.judging.judgement import chosen_metrics
from axiom_bench.judging.tests import SANITY
from axiom_bench.records import files
from axiom_bench.run import manifest
from axiom_bench.statistics.run_folder import RunFolder
from axiom_bench.testing.gaming import gaming
from axiom_bench.testing.relations import sanity

PLAN = Path(__file__).with_name("scorecard.yaml")
CARD = Path(__file__).resolve().parents[1] / "docs" / "data" / "scorecard.csv"
MADE_MAPS = "made_maps"
OF_METRICS = {
    SANITY: sanity,
    MADE_MAPS: gaming,
}  # beside the runs; maps are made for metrics of blind runs
ALWAYS = ("report.figures.grid=null", "pictures.rows=0", "pictures.gallery=0", "runtime.repeats=0")


@dataclass(frozen=True)
class Planned:
    """A run. metrics: names of conf/metric. about: added to the networks' names."""

    name: str
    experiment: str
    metrics: tuple[str, ...]
    overrides: tuple[str, ...]
    about: str = ""

    @property
    def arguments(self) -> list[str]:
        """Of axiom-bench."""
        metrics = f"metric=[{','.join(self.metrics)}]"
        return [
            f"experiment={self.experiment}",
            f"run=scorecard_{self.name}",
            *ALWAYS,
            *self.overrides,
            metrics,
        ]

    def rows(self) -> pd.DataFrame:
        """Computes what is missing: the columns of `card.Row`, with run, commit and date. Raises
        BenchError where a network of the run fails.
        """
        code, lines, folder = compute(self.arguments)
        if code:
            raise BenchError("\n".join(lines))
        run = RunFolder.read(folder)
        rows = card([run], chosen_metrics(run, None))
        if self.about:
            rows["network"] += f" ({self.about})"
        return _signed(rows, self.name, str(run.manifest.git_commit), run.manifest.created)


def plan(path: Path = PLAN) -> dict[str, Planned]:
    """The runs by name, in order."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    lists = content["metrics"]
    return {
        name: Planned(name, **run | {
            "metrics": tuple(metric for chosen in run["metrics"] for metric in lists[chosen]),
            "overrides": tuple(run["overrides"]),
        })
        for name, run in content["runs"].items()
    }  # fmt: skip


def judged_metrics(runs: Mapping[str, Planned]) -> list[str]:
    """Of all runs, each once."""
    return list(dict.fromkeys(metric for run in runs.values() for metric in run.metrics))


def rows_of_metrics(name: str, metrics: Sequence[str]) -> pd.DataFrame:
    """Of OF_METRICS; the columns are those of `Planned.rows`. Prints which metrics have none, and
    why.
    """
    tables = []
    for metric in (plugins.load("metric", metric) for metric in metrics):
        try:
            tables.append(frame(OF_METRICS[name](metric, judged_values(metric))))
        except BenchError as error:
            print(error, flush=True)
    return _signed(
        pd.concat(tables, ignore_index=True), name, manifest.commit(), datetime.now(UTC).isoformat()
    )


def judged_values(metric: plugins.Plugin) -> list[str]:
    """The names of its values of an image that have a direction: those that the scorecard can
    judge.
    """
    about = manifest.values_of(metric)
    return [name for name in plugins.value_names(metric) if about[name].better != "none"]


def write(rows: pd.DataFrame, order: Sequence[str], path: Path, all_metrics: bool = True) -> None:
    """Into the scorecard, in place of the rows of the same run, or of its same metrics. order: of
    all runs.
    """
    new = _as_text(StringIO(rows.to_csv(index=False, float_format="%.4g")))
    old = _as_text(path) if path.exists() else new[:0]
    replaced = old["run"].isin(new["run"]) & (all_metrics | old["metric"].isin(new["metric"]))
    kept = old[old["run"].isin(order) & ~replaced]
    table = pd.concat([kept, new]).sort_values(
        "run", key=lambda runs: runs.map(order.index), kind="stable"
    )
    files.write(path, table.to_csv(index=False, lineterminator="\n").encode())


def _as_text(source: Path | StringIO) -> pd.DataFrame:
    return pd.read_csv(source, dtype=str, keep_default_na=False)


def _signed(rows: pd.DataFrame, run: str, commit: str | None, created: str) -> pd.DataFrame:
    return rows.assign(run=run, commit=(commit or "")[:8], date=created[:10])


def main(argv: Sequence[str] | None = None, path: Path = PLAN, output: Path = CARD) -> int:
    """Computes, writes and prints; the exit code is 1 where a run has failed, as without
    photographs.
    """
    runs = plan(path)
    parser = argparse.ArgumentParser(description="Write docs/data/scorecard.csv.")
    parser.add_argument(
        "runs", nargs="*", metavar="RUN", help=f"default: all of {', '.join([*runs, *OF_METRICS])}"
    )
    parser.add_argument("--metrics", nargs="+", metavar="NAME", help="default: all of each run")
    order, code = [*runs, *OF_METRICS], 0
    arguments = parser.parse_args(argv)
    chosen, wanted = arguments.runs or order, arguments.metrics
    for name in chosen:
        if name not in order:
            raise unknown("run of scorecard.yaml", name, order)
    for name in chosen:
        blind = {other: run for other, run in runs.items() if run.experiment == "blind"}
        metrics = (
            runs[name].metrics
            if name in runs
            else judged_metrics((name == MADE_MAPS and blind) or runs)
        )
        metrics = [metric for metric in metrics if wanted is None or metric in wanted]
        if not metrics:
            continue
        print(f"{name}: {len(metrics)} metrics", flush=True)
        start = time.process_time()
        try:
            run = replace(runs[name], metrics=tuple(metrics)) if name in runs else None
            rows = rows_of_metrics(name, metrics) if run is None else run.rows()
        except BenchError as error:
            print(f"{name}: left out: {error}")
            code = 1
            continue
        write(rows, order, output, all_metrics=wanted is None)
        print(
            f"{name}: {len(rows)} rows, {time.process_time() - start:.0f} s of processor time",
            flush=True,
        )
    return code


if __name__ == "__main__":
    sys.exit(main())
