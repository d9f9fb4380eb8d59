"""A run's metrics judged: what `axiom-bench judge` prints and writes into tables/, and a section of
the page.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pandas as pd

from axiom_bench.errors import BenchError
from axiom_bench.judging import judgement
from axiom_bench.judging.card import frame, judge, ranking_settings
from axiom_bench.judging.judgement import is_small, spoiled_methods
from axiom_bench.judging.tests import DEGREES, degrees
from axiom_bench.records import files, running
from axiom_bench.report.card import line_table
from axiom_bench.report.page.html import Section, part
from axiom_bench.report.page.tables import SCRIPTS, STYLES, Terms, block
from axiom_bench.report.tables.headline import warning_lines
from axiom_bench.report.tables.table import Table, to_csv, to_markdown, to_text
from axiom_bench.statistics.bootstrap import FEWEST_IMAGES
from axiom_bench.statistics.labels import Setting
from axiom_bench.statistics.run_folder import RunFolder

TITLE = "Judging the metrics"
NO_TRUTH = (
    "Degrees: this run has no spoiled explainers. `axiom-bench experiment=truth` makes cases "
    "whose order is known; give their run folders with --truth."
)
Judged = Mapping[Setting, pd.DataFrame]  # the rows of each setting


def tables(run: RunFolder, judged: Judged) -> list[Table]:
    """Of each setting a line for each metric."""
    return [
        line_table([run], rows, f"judging_{number}", TITLE, run.label(setting))
        for number, (setting, rows) in enumerate(judged.items(), start=1)
    ]


def write_judgement(
    folder: Path, truth: Sequence[Path] = (), metrics: Collection[str] | None = None
) -> list[str]:
    """The lines to print. truth: run folders whose spoiled explainers degrees are measured on, in
    place of the run's own. metrics: names of values, None for all.

    Raises BenchError where a run can't be read, has no such metric, or has nothing to judge.
    """
    run = RunFolder.read(folder)
    names, cases = judgement.chosen_metrics(run, metrics), [RunFolder.read(path) for path in truth]
    judgement.check(run)
    recovered = recovery_of_runs(cases, names) if truth else None
    judged = {setting: judge(run, setting, names) for setting in ranking_settings(run)}
    if recovered is not None:
        judged = {
            setting: pd.concat([rows[rows["test"] != DEGREES], recovered], ignore_index=True)
            for setting, rows in judged.items()
        }
    made = tables(run, judged)
    written = {f"{table.name}.md": to_markdown(table) for table in made}
    rows = pd.concat([pd.DataFrame(), *judged.values()], ignore_index=True)
    written["judging.csv"] = to_csv(rows.drop_duplicates())
    for name, text in written.items():
        files.write(run.path / "tables" / name, text.encode())
    # The notes are nearly the same below every table.
    lines = [line for table in made for line in (*to_text(table)[: -len(table.notes)], "")]
    notes = dict.fromkeys(note for table in made for note in table.notes)
    hint = [] if truth or spoiled_methods(run) else [NO_TRUTH]
    warnings = [*running.sentences(run.manifest), *warning_lines(run)]
    places = f"written: {run.path / 'tables'}/{{{', '.join(written)}}}"
    return [
        *warnings,
        *lines,
        *notes,
        *hint,
        "How each is computed and read: docs/which-metric.md.",
        places,
    ]


def recovery_of_runs(cases: Sequence[RunFolder], metrics: Sequence[str]) -> pd.DataFrame:
    """The rows of degrees of all settings of several runs, which their networks' names say.

    Raises BenchError for a run without spoiled explainers, and if none has one of the metrics on
    enough images.
    """
    parts = []
    most_images = 0
    for run in cases:
        if not spoiled_methods(run):
            raise BenchError(
                f"{run.path} has no spoiled explainers: run it with spoiled=all to judge metrics "
                "by it."
            )
        selected = [name for name in metrics if name in run.metrics]
        settings = ranking_settings(run)
        rows = frame(
            row for at in settings for metric in selected for row in degrees(run, at, metric)
        )
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
    """Of the settings that rank methods; none of a run with many values, which takes long."""
    names = judgement.chosen_metrics(run, None)
    settings = ranking_settings(run) if names and is_small(run) else []
    return {setting: judge(run, setting, names) for setting in settings}


def section(run: RunFolder, judged: Judged, terms: Terms) -> Section | None:
    """None where no setting ranks methods, and for values of the layer alone.

    judged: `judge_in_report` of the run. Where there are none the section holds only the command
    that judges it.
    """
    if not ranking_settings(run) or not judgement.chosen_metrics(run, None):
        return None
    body = part(
        "judging",
        tables=block(tables(run, judged), terms) if judged else "",
        has_truth=bool(spoiled_methods(run)),
        num_values=f"{len(run.records):,}",
        folder=f"results/{run.manifest.experiment}/{run.manifest.run}",
    )
    return Section("judging", TITLE, body, STYLES, SCRIPTS)
