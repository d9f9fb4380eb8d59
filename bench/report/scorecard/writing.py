"""`axiom-bench judge`: the judgement of a run's metrics, as text and as files in its tables/."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pandas as pd

from axiom_bench.errors import BenchError
from axiom_bench.judging.judgement import (
    Judgement,
    check,
    chosen_metrics,
    is_small,
    judge,
    recovery_of,
    spoiled_methods,
)
from axiom_bench.records import files, running
from axiom_bench.report.last_lines import random_weights_lines
from axiom_bench.report.page.definitions import Terms
from axiom_bench.report.page.html import Section, render
from axiom_bench.report.page.tables import SCRIPTS, STYLES, block
from axiom_bench.report.scorecard.tables import TITLE, all_tables, frames, metrics_table
from axiom_bench.report.tables.table import to_csv, to_markdown, to_text
from axiom_bench.statistics.labels import Setting
from axiom_bench.statistics.run_folder import RunFolder

NO_TRUTH = (
    "Recovery: this run has no spoiled explainers. `axiom-bench experiment=truth` makes cases whose order is known; "
    "give their run folders with --truth."
)


def write_judgement(folder: Path, truth: Sequence[Path] = (), metrics: Collection[str] | None = None) -> list[str]:
    """The lines to print. truth: run folders whose spoiled explainers recovery is measured on, in place of the run's
    own. metrics: names of values, None for all.

    Raises BenchError where a run can't be read, has no such metric, or has nothing to judge.
    """
    run = RunFolder.read(folder)
    names, cases = chosen_metrics(run, metrics), [RunFolder.read(path) for path in truth]
    check(run, len(spoiled_methods(run)))
    recovered = recovery_of_runs(cases, names) if truth else None
    judgements = [judge(run, setting, names, recovered) for setting in _settings(run)]
    written = [*_write_tables(run, judgements), *_write_frames(run, judgements)]
    parts = [to_text(metrics_table(run, judgement, number)) for number, judgement in enumerate(judgements, start=1)]
    # The notes are the same below every table.
    notes = parts[-1][len(judgements[-1].metrics) + 2 :] if parts else []
    text = [line for part in parts for line in (*part[: len(part) - len(notes)], "")]
    hint = [] if truth or spoiled_methods(run) else [NO_TRUTH]
    warnings = [*running.sentences(run.manifest), *random_weights_lines(run)]
    places = f"written: {run.path / 'tables'}/{{{', '.join(written)}}}"
    return [*warnings, *text, *notes, *hint, "How each is computed and read: docs/which-metric.md.", places]


def recovery_of_runs(cases: Sequence[RunFolder], metrics: Sequence[str]) -> pd.DataFrame:
    """`judgement.recovery_of` of all settings of several runs.

    Raises BenchError for a run without spoiled explainers, and where none has one of the metrics.
    """
    parts = []
    for run in cases:
        if not spoiled_methods(run):
            raise BenchError(f"{run.path} has no spoiled explainers: run it with spoiled=all to judge metrics by it.")
        own = [name for name in metrics if name in run.metrics]
        name = f"{run.manifest['experiment']}/{run.manifest['run']}"
        found = (recovery_of(run, setting, own) for setting in _settings(run))
        parts += [table.assign(case=f"{name}, " + table["case"]) for table in found if len(table)]
    if not parts:
        raise BenchError("The runs of --truth have none of the metrics of the judged run with a direction.")
    return pd.concat(parts, ignore_index=True)


def _settings(run: RunFolder) -> Iterator[Setting]:
    """Those with trained weights: an untrained network ranks no method."""
    return (setting for setting in run.settings if not run.metadata.has_random_weights(setting.model))


def _write_tables(run: RunFolder, judgements: list[Judgement]) -> Iterator[str]:
    for table in all_tables(run, judgements):
        name = files.safe_name(f"{table.name}.md")
        files.write(run.path / "tables" / name, to_markdown(table).encode())
        yield name


def _write_frames(run: RunFolder, judgements: list[Judgement]) -> Iterator[str]:
    for name, frame in frames(run, judgements).items():
        files.write(run.path / "tables" / f"{name}.csv", to_csv(frame).encode())
        yield f"{name}.csv"


def section(run: RunFolder, terms: Terms) -> Section | None:
    """None where no setting has trained weights, and for values of the layer alone.

    Of a run with many values the section holds only the command that judges it.
    """
    settings = [setting for setting in run.settings if not run.metadata.has_random_weights(setting.model)]
    names = chosen_metrics(run, None)
    if not settings or not names:
        return None
    found = [judge(run, setting, names, in_report=True) for setting in settings] if is_small(run) else []
    tables = [metrics_table(run, judgement, number) for number, judgement in enumerate(found, start=1)]
    body = render(
        "judging.html.j2",
        tables=block(tables, terms) if tables else "",
        has_truth=bool(spoiled_methods(run)),
        num_values=f"{len(run.records):,}",
        folder=f"results/{run.manifest['experiment']}/{run.manifest['run']}",
    )
    return Section("judging", TITLE, body, STYLES, SCRIPTS)
