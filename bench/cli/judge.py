"""`axiom-bench judge --metric`: compute one metric's line of the scorecard on the embedded
networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from axiom_bench.cli.benchmark import compute
from axiom_bench.environment import line_width, wrapped
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.judging.card import card, frame
from axiom_bench.judging.judgement import chosen_metrics
from axiom_bench.records import files
from axiom_bench.report.card import conclusion, line_table
from axiom_bench.report.tables.table import to_csv
from axiom_bench.statistics.run_folder import RunFolder
from axiom_bench.testing.gaming import gaming
from axiom_bench.testing.relations import sanity

EXPERIMENTS = ("truth", "truth_planted", "blind")  # they need no files
IMAGES = 100  # per network
PASSES_NOTE = (
    "After the name of a test: the number of networks on which the metric passes; if it fails on "
    "some, the worst of them and its value."
)
SETTINGS = ("run=card", f"data.size={IMAGES}", "pictures.rows=0", "pictures.gallery=0")


def judge_metrics(metrics: Sequence[str], better: str = "higher") -> tuple[int, list[str]]:
    """Run the scorecard's experiments with these metrics, or continue them.

    Args:
        metrics: Names of metrics of this package, and dotted paths of a user's own.
        better: "higher" or "lower", whichever is better for the user's own metrics.

    Returns:
        The exit code and the lines to print.

    Raises:
        BenchError: If no value of the metrics has a direction on the embedded networks.
    """
    known = [metric for metric in metrics if "." not in metric]
    entries = {}
    for metric in metrics:
        if "." in metric:
            entries[metric.rpartition(".")[2]] = {"_target_": metric, "better": better}
    # A user's own metrics are added to the configuration by their dotted paths.
    overrides = [f"metric=[{','.join(known)}]"]
    for name, entry in entries.items():
        overrides += [f"+metric.{name}.{key}={value}" for key, value in entry.items()]
    code = 0
    lines: list[str] = []
    folders: list[Path] = []
    for experiment in EXPERIMENTS:
        failure_code, messages, folder = compute(
            [f"experiment={experiment}", *SETTINGS, *overrides]
        )
        code = max(code, failure_code)
        lines += messages
        folders.append(folder)
    runs = [RunFolder.read(folder) for folder in folders]
    names: dict[str, None] = {}
    for run in runs:
        names |= dict.fromkeys(chosen_metrics(run, None))
    rows = card(runs, list(names))
    if rows.empty:
        raise BenchError(
            f"No value of {', '.join(metrics)} has a direction on the embedded networks, so "
            "nothing judges it."
        )
    loaded = [plugins.load("metric", name) for name in known]
    loaded += [plugins.from_config("metric", name, entry) for name, entry in entries.items()]
    # The tests of sanity and gaming don't need a run.
    tables = [rows]
    for plugin in loaded:
        values = {*rows["metric"]} & {*plugins.value_names(plugin)}
        for test in (sanity, gaming):
            try:
                tables.append(frame(test(plugin, values)))
            except BenchError as error:
                lines.append(str(error))
    rows = pd.concat(tables, ignore_index=True)
    written = folders[0] / "tables" / "scorecard.csv"
    files.write(written, to_csv(rows).encode())
    table = line_table(runs, rows)
    lines += [table.title, *table.notes, PASSES_NOTE]
    for value, (title, *cells) in zip(rows["metric"].unique(), table.groups[0].rows, strict=True):
        lines += ["", title.text]
        headings = zip(table.header[1:], cells, strict=True)
        lines += [f"{heading}: {cell.text}" for heading, cell in headings]
        lines.append(conclusion(rows, value))
    wrapped_lines: list[str] = []
    for line in lines:
        wrapped_lines += wrapped(line, line_width()) or [""]
    return code, [*wrapped_lines, f"written: {written}"]
