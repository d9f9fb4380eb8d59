"""Write docs/data/scorecard.csv: the judgement of each metric of conf/metric with a direction.

    python scripts/write_scorecard.py [RUN ...] [--metrics NAME ...]

RUN is a run of scorecard.yaml; by default all are computed. --metrics limits them to these metrics.
The values of a run are kept in results/, and a second call computes only what is missing. The rows
of other runs and metrics stay unchanged: each row says its run, commit and date.
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
from axiom_bench.errors import BenchError, unknown_name
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
# Tests of metrics in addition to the runs. Maps are made for the metrics of blind runs.
METRIC_TESTS = {SANITY: sanity, MADE_MAPS: gaming}
ALWAYS = ("report.figures.grid=null", "pictures.rows=0", "pictures.gallery=0", "runtime.repeats=0")


@dataclass(frozen=True)
class Planned:
    """A run of scorecard.yaml."""

    name: str
    experiment: str
    metrics: tuple[str, ...]  # names of conf/metric
    overrides: tuple[str, ...]
    about: str = ""  # added to the networks' names

    @property
    def arguments(self) -> list[str]:
        """The arguments of axiom-bench."""
        return [
            f"experiment={self.experiment}",
            f"run=scorecard_{self.name}",
            *ALWAYS,
            *self.overrides,
            f"metric=[{','.join(self.metrics)}]",
        ]

    def rows(self) -> pd.DataFrame:
        """Compute what is missing. Return the columns of `card.Row`, with run, commit and date.

        Raises:
            BenchError: If a network of the run fails.
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
    """Return the runs by name, in order."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    runs = {}
    for name, settings in content["runs"].items():
        metrics: list[str] = []
        for list_name in settings["metrics"]:
            metrics += content["metrics"][list_name]
        fields = {"metrics": tuple(metrics), "overrides": tuple(settings["overrides"])}
        runs[name] = Planned(name, **(settings | fields))
    return runs


def judged_metrics(runs: Mapping[str, Planned]) -> list[str]:
    """Return the metrics of all runs, each once."""
    return list(dict.fromkeys(metric for run in runs.values() for metric in run.metrics))


def rows_of_metrics(name: str, metrics: Sequence[str]) -> pd.DataFrame:
    """Return the rows of one of METRIC_TESTS, with the columns of `Planned.rows`.

    The metrics without rows are printed with the reason.
    """
    tables = []
    for metric_name in metrics:
        metric = plugins.load("metric", metric_name)
        try:
            tables.append(frame(METRIC_TESTS[name](metric, judged_values(metric))))
        except BenchError as error:
            print(error, flush=True)
    rows = pd.concat(tables, ignore_index=True)
    return _signed(rows, name, manifest.commit(), datetime.now(UTC).isoformat())


def judged_values(metric: plugins.AnyPlugin) -> list[str]:
    """Return the names of the metric's values of an image that have a direction.

    Only these can be judged by the scorecard.
    """
    about = manifest.value_entries(metric)
    return [name for name in plugins.value_names(metric) if about[name].better != "none"]


def write(rows: pd.DataFrame, order: Sequence[str], path: Path, all_metrics: bool = True) -> None:
    """Write rows into the scorecard, in place of the rows of the same run, or of its same metrics.

    `order` has the names of all runs.
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
    """Compute, write and print the rows. Return 1 if a run failed, as without photographs."""
    runs = plan(path)
    order = [*runs, *METRIC_TESTS]
    parser = argparse.ArgumentParser(description="Write docs/data/scorecard.csv.")
    parser.add_argument(
        "runs", nargs="*", metavar="RUN", help=f"default: all of {', '.join(order)}"
    )
    parser.add_argument("--metrics", nargs="+", metavar="NAME", help="default: all of each run")
    arguments = parser.parse_args(argv)
    wanted = arguments.metrics
    chosen = arguments.runs or order
    for name in chosen:
        if name not in order:
            raise unknown_name("run of scorecard.yaml", name, order)
    code = 0
    for name in chosen:
        if name in runs:
            metrics = list(runs[name].metrics)
        else:
            blind = {other: run for other, run in runs.items() if run.experiment == "blind"}
            metrics = judged_metrics((name == MADE_MAPS and blind) or runs)
        metrics = [metric for metric in metrics if wanted is None or metric in wanted]
        if not metrics:
            continue
        print(f"{name}: {len(metrics)} metrics", flush=True)
        start = time.process_time()
        try:
            if name in runs:
                rows = replace(runs[name], metrics=tuple(metrics)).rows()
            else:
                rows = rows_of_metrics(name, metrics)
        except BenchError as error:
            # Without its data, such as photographs, a run keeps its rows, and the others continue.
            print(f"{name}: left out: {error}")
            code = 1
            continue
        write(rows, order, output, all_metrics=wanted is None)
        seconds = time.process_time() - start
        print(f"{name}: {len(rows)} rows, {seconds:.0f} s of processor time", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
