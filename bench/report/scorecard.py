"""The judgement of a run's metrics. `axiom-bench judge` prints it and writes it into tables/, and
the page has a section of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pandas as pd

from axiom_bench.errors import BenchError
from axiom_bench.judging import judgement
from axiom_bench.judging.card import frame, judge, ranking_settings
from axiom_bench.judging.judgement import is_small, spoiled_methods
from axiom_bench.judging.tests import DEGREES, Row, degrees
from axiom_bench.records import files, running
from axiom_bench.report.card import line_table
from axiom_bench.report.page.html import Section, render_part
from axiom_bench.report.page.tables import SCRIPTS, STYLES, Terms, tables_block
from axiom_bench.report.tables.headline import warning_lines
from axiom_bench.report.tables.table import Table, to_csv, to_markdown, to_text
from axiom_bench.statistics.bootstrap import FEWEST_IMAGES, LEVEL
from axiom_bench.statistics.labels import Setting
from axiom_bench.statistics.run_folder import RunFolder

TITLE = "Judging the metrics"
NO_TRUTH = (
    "The run can't tell whether the metrics put spoiled maps in order (Degrees), because it has "
    "none. To test it: axiom-bench experiment=truth, then axiom-bench judge RUN --truth "
    "results/truth/default."
)
Judged = Mapping[Setting, pd.DataFrame]  # the rows of each setting


def tables(run: RunFolder, judged: Judged) -> list[Table]:
    """Return a table for each setting, with a line for each metric."""
    tables = []
    for i, (setting, rows) in enumerate(judged.items(), start=1):
        tables.append(line_table([run], rows, f"judging_{i}", TITLE, run.label(setting)))
    return tables


def write_judgement(
    folder: Path, truth: Sequence[Path] = (), metrics: Collection[str] | None = None
) -> list[str]:
    """Judge the metrics of a run, write the tables, and return the lines to print.

    Args:
        folder: The run folder.
        truth: Run folders whose spoiled explainers are used for degrees instead of the run's own.
        metrics: Names of values; `None`: all.

    Raises:
        BenchError: If a run can't be read, has no such metric, or has nothing to judge.
    """
    run = RunFolder.read(folder)
    names = judgement.chosen_metrics(run, metrics)
    truth_runs = [RunFolder.read(path) for path in truth]
    judgement.check_can_be_judged(run)
    recovered = recovery_of_runs(truth_runs, names) if truth else None
    judged = {}
    for setting in ranking_settings(run):
        rows = judge(run, setting, names)
        if recovered is not None:
            rows = pd.concat([rows[rows["test"] != DEGREES], recovered], ignore_index=True)
        judged[setting] = rows
    setting_tables = tables(run, judged)
    contents = {f"{table.name}.md": to_markdown(table) for table in setting_tables}
    all_rows = pd.concat([pd.DataFrame(), *judged.values()], ignore_index=True)
    contents["judging.csv"] = to_csv(all_rows.drop_duplicates())
    for name, text in contents.items():
        files.write(run.path / "tables" / name, text.encode())
    lines = [*running.progress_sentences(run.manifest), *warning_lines(run)]
    notes: list[str] = []
    for table in setting_tables:
        table_lines = to_text(table)
        lines += [*table_lines[: len(table_lines) - len(table.notes)], ""]
        notes += table.notes
    lines += dict.fromkeys(notes)  # each once, since they are nearly the same below every table
    if not truth and not spoiled_methods(run):
        lines.append(NO_TRUTH)
    lines.append("How each is computed and read: docs/which-metric.md.")
    lines.append(f"written: {run.path / 'tables'}/{{{', '.join(contents)}}}")
    return lines


def recovery_of_runs(cases: Sequence[RunFolder], metrics: Sequence[str]) -> pd.DataFrame:
    """Return the rows of degrees of all settings of several runs. The names of the networks say
    which run they are of.

    Raises:
        BenchError: If a run has no spoiled explainers, or no run has one of the metrics on enough
            images.
    """
    parts = []
    most_images = 0
    for run in cases:
        if not spoiled_methods(run):
            raise BenchError(
                f"{run.path} has no spoiled explainers: run it with spoiled=all to judge metrics "
                "by it."
            )
        run_metrics = [name for name in metrics if name in run.metrics]
        results: list[Row] = []
        for setting in ranking_settings(run):
            for metric in run_metrics:
                results += degrees(run, setting, metric)
        rows = frame(results)
        # Two runs may have networks of the same name; their rows must stay apart.
        name = f"{run.manifest.experiment}/{run.manifest.run}"
        parts.append(rows.assign(network=f"{name}, " + rows["network"].astype(str)))
        most_images = max(most_images, run.records.keys["image_id"].nunique())
    recovered = pd.concat(parts, ignore_index=True)
    if recovered.empty:
        raise BenchError(
            "The runs of --truth judge none of the metrics of the judged run: each needs a "
            f"direction, and {FEWEST_IMAGES} images with values (they have {most_images}); run "
            f"them with these metrics and data.size={FEWEST_IMAGES} or more."
        )
    return recovered


def judge_in_report(run: RunFolder) -> Judged:
    """Judge the settings that rank methods. A run with many values has none, since judging it takes
    long. The rule of the scorecard has its own level, whichever one the report has.
    """
    run = run.at_level(LEVEL)
    names = judgement.chosen_metrics(run, None)
    settings = ranking_settings(run) if names and is_small(run) else []
    return {setting: judge(run, setting, names) for setting in settings}


def section(run: RunFolder, judged: Judged, terms: Terms) -> Section | None:
    """Return the section of the judged metrics. It is `None` if no setting ranks methods, or
    if all values are of the layer alone.

    Args:
        run: The run, as read from its folder.
        judged: The result of `judge_in_report`. If it is empty, the section has only the command
            that judges the run.
        terms: The anchors of the definitions.
    """
    if not ranking_settings(run) or not judgement.chosen_metrics(run, None):
        return None
    body = render_part(
        "judging",
        tables=tables_block(tables(run, judged), terms) if judged else "",
        has_truth=bool(spoiled_methods(run)),
        num_values=f"{len(run.records):,}",
        folder=f"results/{run.manifest.experiment}/{run.manifest.run}",
    )
    return Section("judging", TITLE, body, STYLES, SCRIPTS)
