"""`axiom-bench judge`: a run's metrics judged, or one metric's line of the scorecard on the
embedded networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from axiom_bench.cli.benchmark import compute
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.judging.card import card, frame
from axiom_bench.judging.judgement import chosen_metrics
from axiom_bench.records import files
from axiom_bench.report.card import line_table
from axiom_bench.report.tables.table import to_csv, to_text
from axiom_bench.statistics.run_folder import RunFolder
from axiom_bench.testing.gaming import gaming
from axiom_bench.testing.relations import sanity

EXPERIMENTS = ("truth", "truth_planted", "blind")  # offline
IMAGES = 100  # of each network
SHOWN = ("run=card", f"data.size={IMAGES}", "pictures.rows=0", "pictures.gallery=0")


def judge_metrics(metrics: Sequence[str], better: str = "higher") -> tuple[int, list[str]]:
    """Runs the scorecard's experiments with these metrics, or continues them: the exit code and the
    lines to print.

    metrics: names of ours, and dotted paths of one's own, of which better is "higher" or "lower".
    Raises BenchError.
    """
    paths = {metric.rpartition(".")[2]: metric for metric in metrics if "." in metric}
    chosen = [f"metric=[{','.join(metric for metric in metrics if '.' not in metric)}]"]
    about = {name: {"_target_": path, "better": better} for name, path in paths.items()}
    chosen += [
        f"+metric.{name}.{key}={value}"
        for name, entry in about.items()
        for key, value in entry.items()
    ]
    code, lines, folders = 0, list[str](), list[Path]()
    for experiment in EXPERIMENTS:
        failed, messages, folder = compute([f"experiment={experiment}", *SHOWN, *chosen])
        code, lines = max(code, failed), [*lines, *messages]
        folders.append(folder)
    runs = [RunFolder.read(folder) for folder in folders]
    names = list(dict.fromkeys(name for run in runs for name in chosen_metrics(run, None)))
    rows = card(runs, names)
    if rows.empty:
        raise BenchError(
            f"No value of {', '.join(metrics)} has a direction on the embedded networks, so "
            "nothing judges it."
        )
    plugs = [plugins.load("metric", metric) for metric in metrics if "." not in metric]
    plugs += [plugins.from_config("metric", name, entry) for name, entry in about.items()]
    tables = [rows]
    for metric in plugs:
        values = {*rows["metric"]} & {*plugins.value_names(metric)}
        for test in (sanity, gaming):
            try:
                tables.append(frame(test(metric, values)))
            except BenchError as error:
                lines.append(str(error))
    rows = pd.concat(tables, ignore_index=True)
    written = folders[0] / "tables" / "scorecard.csv"
    files.write(written, to_csv(rows).encode())
    return code, [*lines, *to_text(line_table(runs, rows)), f"written: {written}"]
