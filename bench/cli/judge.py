"""`axiom-bench judge`: a run's metrics judged, or one metric's line of the scorecard on the embedded networks."""

from __future__ import annotations

from collections.abc import Collection
from math import nan
from pathlib import Path

import pandas as pd

from axiom_bench.cli.benchmark import compute
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.judging.card import SANITY, Row, card
from axiom_bench.judging.judgement import chosen_metrics
from axiom_bench.records import files
from axiom_bench.report.card import NOTES, detail_table, line_table
from axiom_bench.report.tables.table import to_csv, to_text
from axiom_bench.statistics.labels import number
from axiom_bench.statistics.run_folder import RunFolder
from axiom_bench.testing import relations
from axiom_bench.testing.relations import Outcome, outcomes

EXPERIMENTS = ("truth", "truth_planted", "blind")  # offline
IMAGES = 100  # of each network
SHOWN = ("run=card", f"data.size={IMAGES}", "pictures.rows=0", "pictures.gallery=0")


def judge_metric(metric: str) -> tuple[int, list[str]]:
    """Runs the scorecard's experiments with one metric, or continues them: the exit code and the lines to print.

    metric: a name of ours, or the dotted path of one's own. Raises BenchError.
    """
    own = [f"+metric.{metric.rpartition('.')[2]}._target_={metric}"] if "." in metric else []
    chosen = [f"metric=[{'' if own else metric}]", *own]
    code, lines, folders = 0, list[str](), list[Path]()
    for experiment in EXPERIMENTS:
        failed, messages, folder = compute([f"experiment={experiment}", *SHOWN, *chosen])
        code, lines = max(code, failed), [*lines, *messages]
        folders.append(folder)
    runs = [RunFolder.read(folder) for folder in folders]
    names = list(dict.fromkeys(name for run in runs for name in chosen_metrics(run, None)))
    rows = card(runs, names)
    if not rows.empty:
        rows = pd.concat([rows, _sanity(metric, set(rows["metric"]))], ignore_index=True)
    if rows.empty:
        raise BenchError(f"{metric} has no value with a direction on the embedded networks, so nothing judges it.")
    written = folders[0] / "tables" / "scorecard.csv"
    files.write(written, to_csv(rows).encode())
    tables = [detail_table(runs, name, rows) for name in names if name in set(rows["metric"])]
    texts = [to_text(table)[: -len(NOTES)] for table in (*tables, line_table(runs, rows))]
    return code, [*lines, *(line for text in texts for line in (*text, "")), *NOTES, f"written: {written}"]


def _sanity(metric: str, values: Collection[str]) -> pd.DataFrame:
    """The card's rows of the relations that the metric's definition implies, see `testing.relations`."""
    name = metric.rpartition(".")[2]
    plugin = (
        plugins.from_config("metric", name, {"_target_": metric}) if "." in metric else plugins.load("metric", metric)
    )
    held = [outcome for outcome in outcomes(plugin) if outcome.value in values]
    return pd.DataFrame(map(_row, held), columns=Row._fields)


def _row(held: Outcome) -> Row:
    about = held.reason or ("" if held.holds else f"changes by {number(held.difference)}")
    passes = held.holds or bool(held.reason)
    share = float(held.holds)
    return Row(
        held.value, SANITY, "a made-up network", held.relation, share, nan, nan, relations.IMAGES, False, passes, about
    )
